"""Grades of one disc from a T2 mid-sagittal section: bulging, narrowing, slip, Modic changes, endplates, Pfirrmann grade.

A small network looks at a window that lies along the disc, cut from the slice as it was scanned, together with what the segmentation
made of it. What it learned from and how well it agrees with the reader of the gradings: card `disc_grades`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.column import Column

ROWS, COLUMNS = 80, 112
"""Size of the window; a technical choice (48 mm along the spine, 67 mm from front to back at 0.6 mm)."""
BEHIND_MM = 10.0
"""The window's centre lies this far behind the centre of the disc: disc, canal and half of either body are seen."""
_SEGMENTED = ("vertebra", "disc", "canal")
CHANNELS = 1 + len(_SEGMENTED) + 4
"""The picture, three class probabilities, and four constant planes that tell L5-S1, L4-L5, L3-L4 and higher discs apart."""
PFIRRMANN = ("pfirrmann_2", "pfirrmann_3", "pfirrmann_4", "pfirrmann_5")
QUESTIONS = (
    "bulging",
    "narrowing",
    "spondylolisthesis",
    "modic",
    "upper_endplate",
    "lower_endplate",
    *PFIRRMANN,
)
"""What the grader answers; `pfirrmann_k` is "grade k or worse"."""


def disc_window(
    picture: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    column: Column,
    number: int,
    pixel_mm: float,
) -> NDArray[np.float32]:
    """The channels (CHANNELS, ROWS, COLUMNS) for disc `number` (from the lowest, 0).

    `picture` (r, c) is the normalised slice on any pixels, `probabilities` (4, R, C) background, vertebra, disc, canal on the
    pixels of `column`; both show the same field. The window has square pixels of `pixel_mm`, its rows along the disc's axis.
    """
    disc = column.discs[number]
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    rise = -(rows - (ROWS - 1) / 2) * pixel_mm / column.spacing_mm
    along = ((columns - (COLUMNS - 1) / 2) * pixel_mm + BEHIND_MM) / column.spacing_mm
    place = disc.centre[:, None, None] + rise * disc.up[:, None, None] + along * disc.back[:, None, None]
    ratio = np.array(picture.shape) / np.array(probabilities.shape[1:])
    seen = ndimage.map_coordinates(picture, (place + 0.5) * ratio[:, None, None] - 0.5, order=1, mode="constant")
    segmented = [ndimage.map_coordinates(plane, place, order=1, mode="constant") for plane in probabilities[1:]]
    level = np.zeros((4, ROWS, COLUMNS), dtype=np.float32)
    level[min(number, 3)] = 1.0
    return np.concatenate([seen[None], segmented, level]).astype(np.float32)


def pfirrmann_grades(answers: Mapping[str, float]) -> dict[str, float]:
    """Probability of each Pfirrmann grade ("1" to "5", summing to one) from the cumulative answers, made monotone."""
    beyond = [1.0, *np.minimum.accumulate([answers[name] for name in PFIRRMANN]), 0.0]
    return {str(grade): float(beyond[grade - 1] - beyond[grade]) for grade in range(1, 6)}


def most_likely_grade(grades: Mapping[str, float]) -> int:
    """The median grade: the first at which half of the probability is reached."""
    reached = np.cumsum([grades[str(grade)] for grade in range(1, 6)])
    return int(np.searchsorted(reached, 0.5) + 1)
