"""Labels for real axial T1 slices that nobody outlined, by a network's own answers: self-training with what it is sure of.

Only slices of patients without any outline are taken, so that nobody who is tested on takes part, labelled or not.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from inference.segment import reading
from models.runtime import Segmenter
from training.datasets import IGNORE
from training.datasets.notes import noted_levels, picture_of, read_pictures

_SEED = 17
"""Which slices are drawn; the same for every network, so that all learn from the same ones."""


def label_slices(segmenter: Segmenter, data: Path, count: int, least_probability: float, path: Path) -> int:
    """Write windows and labels of up to `count` slices to `path` (training.datasets.axial.load_self_taught); returns how many.

    A pixel whose most probable class has less than `least_probability`, averaged with the mirror image, is labelled IGNORE.
    """
    folder = data / "axial"
    outlined = {
        item["patient"]
        for item in json.loads((folder / "outlines.json").read_text(encoding="utf-8"))["slices"].values()
    }
    free = [item for item in noted_levels(folder) if item.patient not in outlined]
    drawn = np.random.default_rng(_SEED).permutation(len(free))[:count]
    chosen = [free[index] for index in np.sort(drawn)]
    windows, probabilities = read_pictures([picture_of(folder, item) for item in chosen], segmenter)
    sure = probabilities.max(axis=1) >= least_probability
    labels = np.where(sure, probabilities.argmax(axis=1), IGNORE).astype(np.int8)
    middle = (windows.shape[-1] - 1) / 2
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        images=windows.astype(np.float16),
        labels=labels,
        anchor=np.array([middle + reading().window.anterior_mm / segmenter.spacing_mm, middle]),
        pixel_mm=np.float64(segmenter.spacing_mm),
        patients=np.array([item.patient for item in chosen]),
    )
    return len(chosen)
