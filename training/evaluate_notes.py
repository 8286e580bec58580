"""Herniated material on real axial T1 slices against a radiologist's notes: does what simulated slices taught carry over?

Notes: `axial/labels_from_notes.csv` (Sudirman et al., CC BY 4.0), never trained on. Positive: protrusion, extrusion or sequestration named
at the level; negative: patients whose note states none. One slice a level, no geometry: the network finds the disc itself.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_io.geometry import Grid, SourceInstance, Volume
from dicom_io.study import Stack
from inference.herniation import herniation_on_slice
from inference.segment import AxialReading, AxialSlice, Window, read_windows, reading
from models.intensity import normalise
from models.runtime import Segmenter
from training.calibrate_axial import simulated_disc
from training.datasets.axial import Placement, Settings, placed
from training.intervals import bootstrap_interval, roc_auc

_SUFFIX = {"L3-L4": "D3", "L4-L5": "D4", "L5-S1": "D5"}
_TYPES = {"protrusion", "extrusion", "sequestration"}
_CROPPED_COLUMNS = 250
"""Narrower pictures are cuts that begin below the top of the body: the spine lies higher in them."""
_LEAST_DISC_PIXELS = 500


@dataclass(frozen=True)
class Noted:
    """One level of one patient: the picture, whether the note names a herniation there, and its side if it names one side."""

    patient: str
    level: str
    pixels: NDArray[np.float32]
    positive: bool
    side: str | None


def evaluate_notes(data: Path, *, device: str = "auto") -> str:
    """Lines of text: AUC, sensitivity, specificity and side, with n and 95 % intervals by patient."""
    segmenter = Segmenter.load("axial", device)
    items = noted_slices(data / "axial")
    read = [
        _herniation(item, probabilities, segmenter)
        for item, probabilities in zip(items, _read(items, segmenter), strict=True)
    ]
    truth = np.array([item.positive for item in items])
    scored = np.stack([np.array([score for score, _, _ in read]), truth], axis=1)
    low, high = bootstrap_interval(scored, [item.patient for item in items], roc_auc)
    called = np.array([found for _, found, _ in read])
    sided = [(item, offset) for item, (_, found, offset) in zip(items, read, strict=True) if found and item.side]
    right = sum((offset > 0) == (item.side == "left") for item, offset in sided)
    return "\n".join(
        (
            f"herniated material on real axial T1 against notes, {len(items)} levels of {len({item.patient for item in items})} patients",
            f"AUC {roc_auc(scored):.3f} (95 % {low:.3f} to {high:.3f}); {int(truth.sum())} levels with, {int((~truth).sum())} without",
            f"called: sensitivity {called[truth].mean():.2f}, specificity {1 - called[~truth].mean():.2f}; side right {right}/{len(sided)}",
        )
    )


def noted_slices(folder: Path) -> list[Noted]:
    """Levels with a named focal herniation, and all levels of patients whose note states none; pictures that are there."""
    sides: dict[tuple[str, str], set[str]] = {}
    with (folder / "labels_from_notes.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (
                row["kind"] == "herniation"
                and row["type"] in _TYPES
                and row["negated"] == "0"
                and row["level"] in _SUFFIX
            ):
                sides.setdefault((row["patient"].zfill(4), row["level"]), set()).add(row["side"])
    with (folder / "labels_patients.csv").open(encoding="utf-8", newline="") as file:
        none = [row["patient"].zfill(4) for row in csv.DictReader(file) if row["no_herniation_stated"] == "1"]
    wanted: list[tuple[str, str, bool, set[str]]] = [(*key, True, found) for key, found in sides.items()]
    wanted += [(patient, level, False, set()) for patient in none for level in _SUFFIX]
    items = []
    for patient, level, positive, found in wanted:
        pixels = _picture(folder, f"T1_{patient}_{_SUFFIX[level]}.png")
        one_side = found & {"left", "right"} if "both" not in found else set()
        if pixels is not None:
            items.append(Noted(patient, level, pixels, positive, next(iter(one_side)) if len(one_side) == 1 else None))
    return items


def _picture(folder: Path, name: str) -> NDArray[np.float32] | None:
    from PIL import Image

    for part in ("sudirman_t1", "sudirman_t1_crops"):
        if (folder / part / name).is_file():
            with Image.open(folder / part / name) as picture:
                return np.asarray(picture.convert("L"), dtype=np.float32)
    return None


def _read(items: Sequence[Noted], segmenter: Segmenter) -> NDArray[np.float32]:
    """Probabilities (N, K, H, W) of windows that the network itself centred in a first look from the middle of the picture."""
    anchors = []
    for item in items:
        rows, columns = item.pixels.shape
        anchors.append(np.array([rows / 2 + (20 if columns < _CROPPED_COLUMNS else 0), columns / 2]))
    placements = _placements(anchors, segmenter)
    first = segmenter.probabilities(_windows(items, placements, segmenter)[:, None])
    found = [_margin(part, placement, segmenter) for part, placement in zip(first, placements, strict=True)]
    centred = [anchor if margin is None else margin for margin, anchor in zip(found, anchors, strict=True)]
    return read_windows(_windows(items, _placements(centred, segmenter), segmenter), segmenter)


def _placements(anchors: Sequence[NDArray[np.float64]], segmenter: Segmenter) -> list[Placement]:
    return [placed(Settings().t1_pixel_mm, segmenter.spacing_mm, anchor) for anchor in anchors]


def _windows(items: Sequence[Noted], placements: Sequence[Placement], segmenter: Segmenter) -> NDArray[np.float32]:
    size = reading().window.rows_columns
    return np.stack(
        [
            normalise(
                ndimage.map_coordinates(item.pixels, placement.positions(size), order=3, mode="nearest"),
                segmenter.card.input,
            )
            for item, placement in zip(items, placements, strict=True)
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
    middle = (
        float((sac * np.arange(len(sac))).sum() / sac.sum()) if sac.sum() > 20 else float(np.nonzero(disc)[1].mean())
    )
    column = round(middle)
    rows = np.flatnonzero(disc[:, max(column - 5, 0) : column + 6].any(axis=1))
    row = float(rows.max()) if len(rows) else float(np.nonzero(disc)[0].max())
    centre = (probabilities.shape[-1] - 1) / 2
    return placement.matrix @ (np.array([row, middle]) - centre) + placement.centre


def _herniation(item: Noted, probabilities: NDArray[np.float32], segmenter: Segmenter) -> tuple[float, bool, float]:
    """Score, whether a herniation is called, and its lateral offset in mm (+ left) on one slice."""
    size, pixel = probabilities.shape[-1], segmenter.spacing_mm
    window = Window(np.zeros(3), np.array([0.0, pixel, 0.0]), np.array([pixel, 0.0, 0.0]), size)
    volume = Volume(np.zeros((1, 2, 2), dtype=np.float32), Grid((1, 2, 2), np.eye(4)), (SourceInstance(item.patient),))
    one = AxialSlice(0, volume.instances[0], 0.0, 0.0, window, probabilities[0], probabilities)
    stack = Stack(volume, "axial_t1", "", "", None, "", None, None)
    disc = simulated_disc(np.zeros(3), np.array([0.0, 0.0, 1.0]))
    axial = AxialReading(disc, stack, segmenter.card.classes, (one,), float("inf"), None)
    found = herniation_on_slice(axial, one, segmenter.card.constants)
    head = segmenter.card.heads.get("herniation")
    features = {"peak": found.probability, "area_mm2": found.area_mm2, "extent_mm": found.extent.value}
    return head.probability(features) if head else found.probability, found.type != "none", found.offset_mm


def main() -> None:
    """`python -m training.evaluate_notes DATA`: figures on the notes in the folder of data."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    print(evaluate_notes(given.data, device=given.device))  # noqa: T201


if __name__ == "__main__":
    main()
