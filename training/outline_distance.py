"""Distances in mm between two outlines of disc and thecal sac on one axial slice: the sac's border, and the disc's margin at the canal.

Masks are compared on pixels a third of the picture's, because whole pixels (0.69 mm) are as coarse as the distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from training.datasets.axial import polygon_mask
from training.evaluate import dice_of, mean_surface_distance

FINE = 3
"""Fine pixels along one of the picture's."""
_BESIDE_SAC_MM = 5.0
"""The canal reaches this far to either side of the sac: the disc's margin is compared from recess to recess."""
_AROUND_MM = 8.0
_END_MM = 3.0
"""The other margin is looked for this much farther to the sides, so that its end is no distance."""

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class FineGrid:
    """Places (rows, columns) in a picture of every fine pixel around two outlines, and the edge of one in mm."""

    rows: Points
    columns: Points
    pixel_mm: float


@dataclass(frozen=True)
class Agreement:
    """Two outlines of one slice: Dice, mean distance of the sac's borders and of the disc's posterior margins in mm (nan: not seen)."""

    disc_dice: float
    sac_dice: float
    sac_mm: float
    margin_mm: float


def fine_grid(disc: Points, sac: Points, pixel_mm: float) -> FineGrid:
    """Fine pixels of the box around outlines of (column, row) points and 8 mm more."""
    points = np.concatenate([disc, sac])
    low = np.floor(points.min(axis=0) - _AROUND_MM / pixel_mm)
    high = np.ceil(points.max(axis=0) + _AROUND_MM / pixel_mm)
    columns, rows = (np.arange(low[k], high[k], 1 / FINE) for k in (0, 1))
    grid = np.meshgrid(rows, columns, indexing="ij")
    return FineGrid(grid[0], grid[1], pixel_mm / FINE)


def outline_masks(disc: Points, sac: Points, grid: FineGrid) -> tuple[Mask, Mask]:
    """Disc and sac on a fine grid; where they overlap, the sac counts."""
    inside = polygon_mask(sac, grid.rows, grid.columns)
    return polygon_mask(disc, grid.rows, grid.columns) & ~inside, inside


def agreement(guess: tuple[Mask, Mask], truth: tuple[Mask, Mask], pixel_mm: float) -> Agreement:
    """How well two pairs of (disc, sac) masks agree; the second pair's sac says which part of the disc faces the canal."""
    return Agreement(
        disc_dice=dice_of(guess[0], truth[0]),
        sac_dice=dice_of(guess[1], truth[1]),
        sac_mm=mean_surface_distance(guess[1], truth[1], (pixel_mm, pixel_mm)),
        margin_mm=margin_distance(guess[0], truth[0], truth[1], pixel_mm),
    )


def posterior_margin(disc: Mask, first: int, last: int) -> Points:
    """The rearmost pixel (row, column) of the disc in each of the columns first..last that it reaches."""
    columns = np.arange(max(first, 0), min(last + 1, disc.shape[1]))
    columns = columns[disc[:, columns].any(axis=0)]
    rows = disc.shape[0] - 1 - np.argmax(disc[::-1, columns], axis=0)
    return np.stack([rows, columns], axis=1).astype(np.float64)


def margin_distance(guess: Mask, truth: Mask, sac: Mask, pixel_mm: float) -> float:
    """Mean distance in mm, both ways, of the margins that two discs turn to the canal around `sac`; nan where one is not there."""
    seen = np.flatnonzero(sac.any(axis=0))
    if not len(seen):
        return float("nan")
    beside, end = round(_BESIDE_SAC_MM / pixel_mm), round(_END_MM / pixel_mm)
    first, last = int(seen[0]) - beside, int(seen[-1]) + beside
    means = []
    for one, other in ((guess, truth), (truth, guess)):
        points, target = posterior_margin(one, first, last), posterior_margin(other, first - end, last + end)
        if not len(points) or not len(target):
            return float("nan")
        means.append(float(np.mean(KDTree(target).query(points)[0])))
    return float(np.mean(means)) * pixel_mm
