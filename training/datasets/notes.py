"""Axial T1 slices with what a radiologist's notes say of them: level, side and kind, and the folds that keep patients apart.

Pictures and coded notes: Sudirman et al., CC BY 4.0 (`axial/labels_from_notes.csv`, `labels_patients.csv`). One slice a level; the
notes are one reader's, and a level that a note does not mention is unlabelled, not normal.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.canal_pose import posed_maps
from inference.segment import reading
from inference.window_reading import read_windows
from models.intensity import normalise
from models.runtime import Segmenter
from training.datasets.axial import Placement, placed

LEVELS = {"L3-L4": "D3", "L4-L5": "D4", "L5-S1": "D5"}
FOCAL = frozenset({"protrusion", "extrusion", "sequestration"})
NONE, BULGE, HERNIATION, UNLABELLED = 0, 1, 2, -1
T1_PIXEL_MM = 0.6875
"""The publisher's pixel."""
SAME_NOTE = (
    ("0183", "0184"),
    ("0196", "0197"),
    ("0261", "0264"),
    ("0372", "0373"),
    ("0396", "0467"),
    ("0475", "0476"),
)
"""Pairs of patients with word-identical notes: they stay in one fold."""
_CROPPED_COLUMNS = 250
"""Narrower pictures are cuts that begin below the top of the body: the spine lies higher in them."""
_CUT_LOWER_PIXELS = 20
_LEAST_DISC_PIXELS = 500
_LEAST_SAC_PIXELS = 20
_SIDES = ("left", "right", "both")


@dataclass(frozen=True)
class Noted:
    """What the note says of one level of one patient.

    `kind` NONE only where the note states that no herniation is seen anywhere; UNLABELLED where the level is not mentioned. `side`
    +1 left, -1 right where every herniation named there lies on that one side, else 0; `even` where the note gives no side to prefer
    (none, central, both). Roots and foramina: (left, right, at all).
    """

    patient: str
    level: str
    kind: int
    side: int
    even: bool
    root: tuple[bool, bool, bool]
    foramen: tuple[bool, bool, bool]
    sac: bool


def noted_levels(folder: Path) -> list[Noted]:
    """All levels that have a picture, in the order of the patients' numbers."""
    rows: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    with (folder / "labels_from_notes.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["negated"] == "0":
                rows.setdefault((row["patient"].zfill(4), row["level"]), []).append(row)
    with (folder / "labels_patients.csv").open(encoding="utf-8", newline="") as file:
        free = {row["patient"].zfill(4): row["no_herniation_stated"] == "1" for row in csv.DictReader(file)}
    return [
        _noted(patient, level, rows.get((patient, level), []), free[patient])
        for patient in sorted(free)
        for level in LEVELS
        if picture_path(folder, patient, level) is not None
    ]


def _noted(patient: str, level: str, rows: Sequence[Mapping[str, str]], free: bool) -> Noted:
    herniations = [row for row in rows if row["kind"] == "herniation"]
    focal = any(row["type"] in FOCAL for row in herniations)
    kind = HERNIATION if focal else BULGE if herniations else NONE if free else UNLABELLED
    sides = {row["side"] for row in herniations}
    named = sides & set(_SIDES)
    side = {frozenset({"left"}): 1, frozenset({"right"}): -1}.get(frozenset(named), 0)
    central = "central" in sides or any(row["zone"] == "central" for row in herniations)
    even = side == 0 and (kind == NONE or "both" in sides or (kind == HERNIATION and central))
    root = _per_side(rows, {"root_compression", "recess_stenosis"})
    sac = any(row["kind"] == "sac_compression" for row in rows)
    return Noted(patient, level, kind, side, even, root, _per_side(rows, {"foraminal_stenosis"}), sac)


def _per_side(rows: Sequence[Mapping[str, str]], kinds: set[str]) -> tuple[bool, bool, bool]:
    sides = {row["side"] for row in rows if row["kind"] in kinds}
    return bool(sides & {"left", "both"}), bool(sides & {"right", "both"}), bool(sides)


def picture_path(folder: Path, patient: str, level: str) -> Path | None:
    """The picture of a level, whole or cut; None where there is none."""
    for part in ("sudirman_t1", "sudirman_t1_crops"):
        path = folder / part / f"T1_{patient}_{LEVELS[level]}.png"
        if path.is_file():
            return path
    return None


def folds_of(levels: Sequence[Noted], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of every level: patients are kept whole, word-identical notes together, sided, focal and free patients spread evenly."""
    leader = {second: first for first, second in SAME_NOTE}
    weight: dict[str, int] = {}
    for item in levels:
        rank = 3 if item.side else 2 if item.kind == HERNIATION else 1 if item.kind == NONE else 0
        name = leader.get(item.patient, item.patient)
        weight[name] = max(weight.get(name, 0), rank)
    rng = np.random.default_rng(seed)
    fold: dict[str, int] = {}
    for rank in range(4):
        members = [name for name in sorted(weight) if weight[name] == rank]
        rng.shuffle(members)
        fold |= {name: (number + rank) % folds for number, name in enumerate(members)}
    return np.array([fold[leader.get(item.patient, item.patient)] for item in levels], dtype=np.int64)


def cached_maps(levels: Sequence[Noted], folder: Path, cache: Path, device: str = "auto") -> NDArray[np.float32]:
    """Posed maps (N, 7, rows, columns) of the pictures, read with the shipped axial network once and kept under `cache`.

    The file is named after the digests of the networks that read a slice alone: another network gives another file.
    """
    segmenter = Segmenter.load("axial", device)
    path = cache / f"maps-{'-'.join(card.sha256[:12] for card in segmenter.cards if card.input.context_mm is None)}.npz"
    names = np.array([f"{item.patient} {item.level}" for item in levels])
    if path.is_file():
        with np.load(path) as stored:
            if np.array_equal(stored["names"], names):
                return np.asarray(stored["maps"], dtype=np.float32)
    pictures = [picture_of(folder, item) for item in levels]
    windows, probabilities = read_pictures(pictures, segmenter)
    maps = np.stack(
        [
            posed_maps(window, probability, segmenter.card.classes, segmenter.spacing_mm)
            for window, probability in zip(windows, probabilities, strict=True)
        ]
    ).astype(np.float16)
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(path, maps=maps, names=names)
    return maps.astype(np.float32)


def picture_of(folder: Path, item: Noted) -> NDArray[np.float32]:
    """Grey values (rows, columns) of a level's picture. FileNotFoundError where there is none."""
    from PIL import Image

    path = picture_path(folder, item.patient, item.level)
    if path is None:
        raise FileNotFoundError(f"no picture of {item.patient} {item.level} in {folder}")
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32)


def read_pictures(
    pictures: Sequence[NDArray[np.float32]], segmenter: Segmenter
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Normalised windows (N, H, W) and class probabilities (N, K, H, W); the network itself finds the disc in a first look."""
    anchors = [np.array([picture.shape[0] / 2, picture.shape[1] / 2]) for picture in pictures]
    for anchor, picture in zip(anchors, pictures, strict=True):
        anchor[0] += _CUT_LOWER_PIXELS if picture.shape[1] < _CROPPED_COLUMNS else 0
    placements = [placed(T1_PIXEL_MM, segmenter.spacing_mm, anchor) for anchor in anchors]
    first = segmenter.probabilities(_windows(pictures, placements, segmenter)[:, None])
    found = [_margin(part, placement, segmenter) for part, placement in zip(first, placements, strict=True)]
    centred = [anchor if margin is None else margin for margin, anchor in zip(found, anchors, strict=True)]
    windows = _windows(pictures, [placed(T1_PIXEL_MM, segmenter.spacing_mm, anchor) for anchor in centred], segmenter)
    return windows, read_windows(windows, segmenter)


def _windows(
    pictures: Sequence[NDArray[np.float32]], placements: Sequence[Placement], segmenter: Segmenter
) -> NDArray[np.float32]:
    size = reading().window.rows_columns
    return np.stack(
        [
            normalise(
                ndimage.map_coordinates(picture, placement.positions(size), order=3, mode="nearest"),
                segmenter.card.input,
            )
            for picture, placement in zip(pictures, placements, strict=True)
        ]
    )


def _margin(
    probabilities: NDArray[np.float32], placement: Placement, segmenter: Segmenter
) -> NDArray[np.float64] | None:
    """(row, column) in the picture of the posterior disc margin in front of the sac; None where no disc is seen."""
    classes = segmenter.card.classes
    disc = probabilities[[classes.index("disc"), classes.index("herniated_material")]].sum(axis=0) > 0.5
    if disc.sum() < _LEAST_DISC_PIXELS:
        return None
    sac = probabilities[classes.index("thecal_sac")].sum(axis=0)
    seen = float(sac.sum()) > _LEAST_SAC_PIXELS
    middle = float((sac * np.arange(len(sac))).sum() / sac.sum()) if seen else float(np.nonzero(disc)[1].mean())
    column = round(middle)
    rows = np.flatnonzero(disc[:, max(column - 5, 0) : column + 6].any(axis=1))
    row = float(rows.max()) if len(rows) else float(np.nonzero(disc)[0].max())
    centre = (probabilities.shape[-1] - 1) / 2
    return placement.matrix @ (np.array([row, middle]) - centre) + placement.centre
