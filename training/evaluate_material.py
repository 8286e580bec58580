"""Herniated material that the axial network alone sees on real T1 slices, against a radiologist's notes.

Nothing of it was taught on a real picture: this says how far what simulated slices taught carries over. Positive: a protrusion,
extrusion or sequestration named at the level; negative: patients whose note states none. Notes: Sudirman et al., CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import Grid, SourceInstance, Volume
from dicom_io.study import Stack
from inference.herniation import measure_herniation
from inference.segment import AxialReading, AxialSlice, Window
from inference.sizes import Missing
from models.runtime import Segmenter
from training.datasets.notes import HERNIATION, NONE, noted_levels, picture_of, read_pictures
from training.intervals import bootstrap_interval, roc_auc
from training.simulated_disc import simulated_disc

_STEP_MM = 4.4
"""Usual distance between the slices of these pictures, of which each is read alone."""


def evaluate_material(data: Path, *, device: str = "auto") -> str:
    """Lines of text: AUC, sensitivity, specificity and side, with n and 95 % intervals by patient."""
    segmenter = Segmenter.load("axial", device)
    items = [item for item in noted_levels(data / "axial") if item.kind in (NONE, HERNIATION)]
    _, probabilities = read_pictures([picture_of(data / "axial", item) for item in items], segmenter)
    read = [_herniation(part, segmenter) for part in probabilities]
    truth = np.array([item.kind == HERNIATION for item in items])
    scored = np.stack([np.array([score for score, _, _ in read]), truth], axis=1)
    low, high = bootstrap_interval(scored, [item.patient for item in items], roc_auc)
    called = np.array([found for _, found, _ in read])
    sided = [(item.side, offset) for item, (_, found, offset) in zip(items, read, strict=True) if found and item.side]
    right = sum((offset > 0) == (side > 0) for side, offset in sided)
    return "\n".join(
        (
            f"herniated material on real axial T1 against notes, {len(items)} levels of {len({item.patient for item in items})} patients",
            f"AUC {roc_auc(scored):.3f} (95 % {low:.3f} to {high:.3f}); {int(truth.sum())} levels with, {int((~truth).sum())} without",
            f"called: sensitivity {called[truth].mean():.2f}, specificity {1 - called[~truth].mean():.2f}; side right {right}/{len(sided)}",
        )
    )


def _herniation(probabilities: NDArray[np.float32], segmenter: Segmenter) -> tuple[float, bool, float]:
    """Score, whether a herniation is called, and its lateral offset in mm (+ left) on one slice."""
    size, pixel = probabilities.shape[-1], segmenter.spacing_mm
    window = Window(np.zeros(3), np.array([0.0, pixel, 0.0]), np.array([pixel, 0.0, 0.0]), size)
    instance = SourceInstance("picture")
    grid = Grid((1, 2, 2), np.diag([_STEP_MM, 1.0, 1.0, 1.0]))
    volume = Volume(np.zeros((1, 2, 2), dtype=np.float32), grid, (instance,))
    one = AxialSlice(0, instance, 0.0, 0.0, window, probabilities[0], probabilities)
    stack = Stack(volume, "axial_t1", "", "", None, "", None, None)
    disc = simulated_disc(np.zeros(3), np.array([0.0, 0.0, 1.0]))
    axial = AxialReading(disc, stack, segmenter.card.classes, (one,), float("inf"), None)
    found = measure_herniation(axial, segmenter.card.constants)
    if isinstance(found, Missing):
        raise ValueError(found.reason)
    head = segmenter.card.heads.get("herniation")
    return head.probability(found.features) if head else found.probability, found.type != "none", found.offset_mm


def main() -> None:
    """`python -m training.evaluate_material DATA`: figures on the notes in the folder of data."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    print(evaluate_material(given.data, device=given.device))  # noqa: T201


if __name__ == "__main__":
    main()
