"""Recess depth on real axial slices, where nobody knows the true depth: how it repeats, and how the sides differ.

There is no reference: outlines of real recesses by two non-experts differ by a median of 1.5 mm, so every figure here is about the
reading's own consistency. One picture a level, taken as the slice through the disc. Pictures and notes: Sudirman et al., CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_io.geometry import Grid, SourceInstance, Volume
from dicom_io.study import Stack
from inference.measure import SIDES, measure_level
from inference.recess_depth import read_depths
from inference.segment import AxialReading, AxialSlice, Window
from inference.sizes import Missing
from models.runtime import Segmenter
from training.datasets.axial import Outlined, Settings, load_outlines
from training.datasets.notes import HERNIATION, NONE, T1_PIXEL_MM, Noted, noted_levels, picture_of, read_pictures
from training.intervals import bootstrap_interval, with_interval
from training.simulated_disc import simulated_disc

Picture = NDArray[np.float32]
LEVELS = ("L4-L5", "L5-S1")
_BATCH = 32
_TURN_DEG, _SHIFT_MM = 5.0, 3.0
"""Size of the small movements, to either side at random."""
_GAMMA, _NOISE = 1.3, 0.03
"""The exponent (or its inverse) of a changed tone; the standard deviation of added noise, as a share of the picture's range."""
_SEED = 5


@dataclass(frozen=True)
class Depths:
    """Left and right depth (2,) in mm of one picture; nan where the program withholds, with its code."""

    depth: NDArray[np.float64]
    codes: tuple[str | None, str | None]

    @property
    def difference(self) -> float:
        """Left minus right."""
        return float(self.depth[0] - self.depth[1])


def evaluate_recess(data: Path, *, count: int = 100, device: str = "auto") -> str:
    """Lines of text: sides, repeats of `count` pictures, neighbouring slices, with n, 95 % intervals by patient and what was withheld."""
    segmenter, recess = Segmenter.load("axial", device), Segmenter.load("axial_recess", device)
    items = [item for item in noted_levels(data / "axial") if item.level in LEVELS]
    pictures = [picture_of(data / "axial", item) for item in items]
    read = read_recesses(pictures, segmenter, recess)
    lines = [f"recess depth on real axial slices; no reference exists. Weights {recess.card.sha256[:12]}"]
    free = [r for r, item in zip(read, items, strict=True) if item.kind == NONE]
    lines += [f"T1, {line}" for line in (withheld_line(read), *side_lines(read, items), named_side_line(read, items))]
    lines.append(f"T1, patients stated free of herniation, {withheld_line(free)}")
    rng = np.random.default_rng(_SEED)
    chosen = np.sort(rng.permutation(len(items))[:count])
    patients = [items[k].patient for k in chosen]
    for name, change, mirrored in changes(rng):
        again = read_recesses([change(pictures[k]) for k in chosen], segmenter, recess)
        lines.append(f"T1, {name}: {repeat_text([read[k] for k in chosen], again, patients, mirrored=mirrored)}")
    slices = [item for item in load_outlines(data, Settings()) if item.weighting == "t2" and not item.body_level]
    t2 = read_recesses([_at_t1_pixel(item) for item in slices], segmenter, recess)
    lines.append(f"T2 (few), {withheld_line(t2)}")
    lines.append(f"T2 (few), left minus right: {_spread([r.difference for r in t2], [s.patient for s in slices])}")
    lines.append(f"T2 (few), {neighbour_text(t2, slices)}")
    lines.append(
        "planes: no patient here shows a recess in two planes (the sagittal pictures are single slices near the midline): not compared"
    )
    return "\n".join(lines)


def read_recesses(pictures: Sequence[Picture], segmenter: Segmenter, recess: Segmenter) -> list[Depths]:
    """Both depths of every picture (rows, columns) of T1_PIXEL_MM pixels, by the program's own rules of withholding."""
    found: list[Depths] = []
    for start in range(0, len(pictures), _BATCH):
        windows, probabilities = read_pictures(pictures[start : start + _BATCH], segmenter)
        found += [_depths(window, part, segmenter, recess) for window, part in zip(windows, probabilities, strict=True)]
    return found


def _depths(
    image: NDArray[np.float32], probabilities: NDArray[np.float32], segmenter: Segmenter, recess: Segmenter
) -> Depths:
    pixel = segmenter.spacing_mm
    window = Window(np.zeros(3), np.array([0.0, pixel, 0.0]), np.array([pixel, 0.0, 0.0]), image.shape[-1])
    instance = SourceInstance("picture")
    one = AxialSlice(0, instance, 0.0, 0.0, window, image, probabilities)
    volume = Volume(np.zeros((1, 2, 2), dtype=np.float32), Grid((1, 2, 2), np.eye(4)), (instance,))
    stack = Stack(volume, "axial_t1", "", "", None, "", None, None)
    disc = simulated_disc(np.zeros(3), np.array([0.0, 0.0, 1.0]))
    depths = read_depths((one,), recess)
    axial = AxialReading(disc, stack, segmenter.card.classes, (one,), float("inf"), None, depths)
    sizes: Mapping[str, object] = measure_level(axial, segmenter.card.constants).recess
    values, codes = [], []
    for side in SIDES:
        size = sizes[side]
        withheld = isinstance(size, Missing)
        values.append(float("nan") if withheld else depths[side].value)
        codes.append(size.code if isinstance(size, Missing) else None)
    return Depths(np.array(values), (codes[0], codes[1]))


def changes(rng: np.random.Generator) -> list[tuple[str, Callable[[Picture], Picture], bool]]:
    """Repeats of a picture: what is changed, how, and whether left and right change places."""

    def moved(picture: Picture) -> Picture:
        angle = np.radians(_TURN_DEG) * rng.choice([-1, 1])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = (np.array(picture.shape) - 1) / 2
        shift = rng.choice([-1, 1], 2) * _SHIFT_MM / T1_PIXEL_MM
        return np.asarray(
            ndimage.affine_transform(picture, turn, middle - turn @ middle + shift, order=3, mode="nearest")
        )

    def toned(picture: Picture) -> Picture:
        top = float(picture.max())
        return np.asarray(top * (np.clip(picture, 0, None) / top) ** (_GAMMA ** float(rng.choice([-1, 1]))))

    def noisy(picture: Picture) -> Picture:
        return np.asarray(picture + rng.normal(0, _NOISE * np.ptp(picture), picture.shape), dtype=np.float32)

    return [
        ("mirrored picture", lambda picture: np.ascontiguousarray(picture[:, ::-1]), True),
        (f"turned by {_TURN_DEG:g} degrees and moved by {_SHIFT_MM:g} mm each way", moved, False),
        (f"tone changed (exponent {_GAMMA:g} or its inverse)", toned, False),
        (f"noise of {_NOISE:.0%} added", noisy, False),
    ]


def repeat_text(
    first: Sequence[Depths], second: Sequence[Depths], patients: Sequence[str], *, mirrored: bool = False
) -> str:
    """Differences of two readings, side by side; `mirrored`: the second saw the picture with left and right exchanged."""
    pairs = [
        (again.depth[::-1] if mirrored else again.depth) - one.depth for one, again in zip(first, second, strict=True)
    ]
    values = np.concatenate(pairs)
    people = np.repeat(np.array(patients), len(SIDES))
    seen = np.isfinite(values)
    flipped = sum(
        one.difference * (-again.difference if mirrored else again.difference) < 0
        for one, again in zip(first, second, strict=True)
        if abs(one.difference) > 1.0
    )
    wide = sum(abs(one.difference) > 1.0 for one in first)
    return (
        f"{_spread(values, people)}; mean absolute {with_interval(np.abs(values[seen]), people[seen].tolist(), 2)} mm; in one reading "
        f"only {int((~seen).sum()) - _both_missing(first, second)}; the narrower side changed in {flipped} of {wide} that differed by 1 mm"
    )


def _both_missing(first: Sequence[Depths], second: Sequence[Depths]) -> int:
    return int(
        sum(
            (~np.isfinite(one.depth) & ~np.isfinite(again.depth)).sum()
            for one, again in zip(first, second, strict=True)
        )
    )


def side_lines(read: Sequence[Depths], items: Sequence[Noted]) -> list[str]:
    """Left minus right at each level, and where the notes state no herniation."""
    groups = [(level, [item.level == level for item in items]) for level in LEVELS]
    groups.append(("patients stated free of herniation", [item.kind == NONE for item in items]))
    return [
        f"left minus right, {name}: "
        + _spread(
            [r.difference for r, used in zip(read, chosen, strict=True) if used],
            [item.patient for item, used in zip(items, chosen, strict=True) if used],
        )
        for name, chosen in groups
    ]


def named_side_line(read: Sequence[Depths], items: Sequence[Noted]) -> str:
    """How often the recess is the narrower one on the side where a note places a one-sided protrusion or worse."""
    rows = [
        (r.difference * item.side < 0, item.patient)
        for r, item in zip(read, items, strict=True)
        if item.kind == HERNIATION and item.side and np.isfinite(r.difference)
    ]
    values = [float(value) for value, _ in rows]
    return (
        "the narrower recess lies on the side of a one-sided protrusion or worse (a hint, no reference): "
        f"{int(sum(values))}/{len(rows)}, {with_interval(values, [patient for _, patient in rows], 2)}"
    )


def neighbour_text(read: Sequence[Depths], slices: Sequence[Outlined]) -> str:
    """Differences between slices of one patient: which neighbours, and how far apart, is not known."""
    members: dict[str, list[Depths]] = {}
    for item, depths in zip(slices, read, strict=True):
        members.setdefault(item.patient, []).append(depths)
    gaps = [
        (abs(float(gap)), patient)
        for patient, found in members.items()
        for one, other in pairwise(found)
        for gap in other.depth - one.depth
        if np.isfinite(gap)
    ]
    if not gaps:
        return "slices of one patient: none"
    values = [gap for gap, _ in gaps]
    return (
        "slices of one patient (distance unknown, some at other levels): "
        f"mean absolute difference {with_interval(values, [patient for _, patient in gaps], 2)} mm, {len(values)} sides"
    )


def withheld_line(read: Sequence[Depths]) -> str:
    """Sides read and withheld, by the program's code."""
    codes = [code for item in read for code in item.codes]
    missing = [code for code in codes if code]
    depth = np.concatenate([item.depth for item in read])
    seen = depth[np.isfinite(depth)]
    quartiles = ", ".join(f"{value:.1f}" for value in np.percentile(seen, (25, 50, 75)))
    return (
        f"{len(read)} slices: {len(codes) - len(missing)} sides read, quartiles of the depth {quartiles} mm; withheld {len(missing)} "
        + (f"({', '.join(f'{code} {missing.count(code)}' for code in sorted(set(missing)))})" if missing else "")
    ).rstrip()


def _spread(values: Sequence[float] | NDArray[np.float64], patients: Sequence[str] | NDArray[np.str_]) -> str:
    """Mean difference with its interval, standard deviation and 95 % limits of agreement (Bland and Altman 1986)."""
    rows, people = np.asarray(values, dtype=np.float64), np.asarray(patients)
    kept = np.isfinite(rows)
    rows, people = rows[kept], people[kept]
    if len(rows) < 2:
        return f"n = {len(rows)}"
    mean, sd = float(rows.mean()), float(rows.std(ddof=1))
    low, high = bootstrap_interval(rows, people.tolist())
    return (
        f"mean {mean:+.2f} mm (95 % {low:+.2f} to {high:+.2f}), limits of agreement {mean - 1.96 * sd:+.2f} to "
        f"{mean + 1.96 * sd:+.2f} mm (n = {len(rows)}, {len(set(people.tolist()))} patients)"
    )


def _at_t1_pixel(item: Outlined) -> Picture:
    """A picture resampled to the pixel that `read_pictures` takes for granted."""
    return np.asarray(ndimage.zoom(item.pixels, item.pixel_mm / T1_PIXEL_MM, order=1), dtype=np.float32)
