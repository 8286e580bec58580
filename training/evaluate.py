"""Measures the sagittal network on SPIDER patients that were never trained or chosen on (the publisher's `validation` subset).

Dice and surface distance per class on the slabs, discs counted on whole slices, herniation per disc cross-validated by patient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.intensity import normalise
from models.runtime import Segmenter
from training.datasets.spider import Slab, resample, slabs, whole_slices
from training.evaluate_discs import TEST_SUBSET, disc_lines
from training.intervals import with_interval


@dataclass(frozen=True)
class SlabScore:
    """Dice and mean surface distance (mm) of every class on one patient's slab."""

    patient: int
    dice: dict[str, float]
    surface_mm: dict[str, float]


def evaluate_sagittal(data: Path, *, device: str = "auto", sheet: Path | None = None) -> str:
    """All figures of the sagittal network as printable text; `sheet` receives overlays of the test slices as PNG."""
    from training.herniation import evaluate_herniation
    from training.sheets import sagittal_sheet

    segmenter = Segmenter.load("sagittal", device)
    lines = [f"sagittal {segmenter.card.version}, weights {segmenter.card.sha256[:12]}, {segmenter.device}"]
    lines += slab_lines(score_slabs(segmenter, data), segmenter.card.classes)
    if segmenter.partner is not None:
        for member in (replace(segmenter, partner=None), segmenter.partner):
            alone = slab_lines(score_slabs(member, data), member.card.classes)
            lines += [f"{member.card.name} alone, {line}" for line in alone]
    lines += disc_lines(segmenter, data)
    lines += evaluate_herniation(segmenter, data)
    if sheet is not None:
        sagittal_sheet(segmenter, [w for w in whole_slices(data) if w.subset == TEST_SUBSET], sheet)
        lines.append(f"overlays: {sheet}")
    return "\n".join(lines)


def segment_slab(segmenter: Segmenter, slab: Slab) -> NDArray[np.uint8]:
    """Class numbers (slice, row, column) on the slab's own grid: resampled in, probabilities resampled back."""
    spacing = segmenter.spacing_mm
    planes = normalise(
        np.stack([resample(plane, slab.spacing[1:], spacing) for plane in slab.image]), segmenter.card.input
    )
    factors = [new / old for new, old in zip(slab.image.shape[1:], planes.shape[1:], strict=True)]
    result = np.empty(slab.image.shape, dtype=np.uint8)
    for index, probabilities in enumerate(segmenter.plane_probabilities(planes, slab.spacing[0])):
        back = [ndimage.zoom(part, factors, order=1, grid_mode=True, mode="nearest") for part in probabilities]
        result[index] = np.argmax(back, axis=0)
    return result


def score_slabs(segmenter: Segmenter, data: Path) -> list[SlabScore]:
    """Scores of every test slab."""
    scores = []
    for slab, subset in slabs(data):
        if subset != TEST_SUBSET:
            continue
        guess = segment_slab(segmenter, slab)
        dice, surface = {}, {}
        for value, name in enumerate(segmenter.card.classes):
            if value:
                dice[name] = dice_of(guess == value, slab.classes == value)
                surface[name] = mean_surface_distance(guess == value, slab.classes == value, slab.spacing)
        scores.append(SlabScore(slab.patient, dice, surface))
    return scores


def dice_of(guess: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks; 1 when both are empty."""
    size = int(guess.sum()) + int(truth.sum())
    return 1.0 if size == 0 else 2.0 * int((guess & truth).sum()) / size


def mean_surface_distance(guess: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: tuple[float, ...]) -> float:
    """Mean distance in mm from either surface to the other (symmetric, in 3-D); nan when a mask is empty."""
    if not guess.any() or not truth.any():
        return float("nan")
    one, two = (mask & ~ndimage.binary_erosion(mask) for mask in (guess, truth))
    to_two = ndimage.distance_transform_edt(~two, sampling=spacing)[one]
    to_one = ndimage.distance_transform_edt(~one, sampling=spacing)[two]
    return float(np.concatenate([to_two, to_one]).mean())


def slab_lines(scores: list[SlabScore], classes: tuple[str, ...]) -> list[str]:
    """One line per class: Dice and surface distance with intervals by patient."""
    patients = [score.patient for score in scores]
    return [
        f"{name}: Dice {with_interval([s.dice[name] for s in scores], patients)}; "
        f"mean surface distance {with_interval([s.surface_mm[name] for s in scores], patients, 2)} mm"
        for name in classes[1:]
    ]
