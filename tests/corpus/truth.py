"""How far a stack lies from where its content belongs: pixels against the known tissue at the places its grid tells.

Shift and stretch along rows and columns are estimated from how the correlation falls off to either side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dicom_io.geometry import Volume
from dicom_io.study import Stack
from tests.corpus.small_study import TISSUE, tissue_at

_EVERY = 2  # of the pixels along rows and columns
_TRY_MM = 1.5
_STRETCH = 0.03
_REACH_MM = 40.0  # at this distance from the middle a stretch is told in mm
_LEAST_CORRELATION = 0.8


def misplaced_mm(stack: Stack) -> float:
    """Largest error of place in mm of a stack of the small study."""
    weighting = "t1" if stack.role.endswith("t1") else "t2"
    return misplacement(stack.volume, lambda points: _signal(points, weighting))


def misplacement(
    volume: Volume, signal: Callable[[np.ndarray], np.ndarray], every: int = _EVERY, least: float = _LEAST_CORRELATION
) -> float:
    """In-plane shift, or stretch 40 mm from the middle, in mm, whichever is larger; infinite when nothing fits.

    `signal` tells the brightness at LPS points (n, 3); `least` is the correlation with it below which nothing fits.
    """
    grid = volume.grid
    slices = np.unique(np.linspace(0, grid.shape[0] - 1, 4).round().astype(int))
    rows, columns = np.arange(1, grid.shape[1], every), np.arange(1, grid.shape[2], every)
    index = np.stack(np.meshgrid(slices, rows, columns, indexing="ij"), axis=-1).reshape(-1, 3)
    values = volume.array[tuple(index.T)].astype(float)
    points = grid.to_lps(index)
    middle = np.array([0.0, -15.0, float(np.median(points[:, 2]))])

    def fit(moved: np.ndarray) -> float:
        expected = signal(moved)
        return float(np.corrcoef(values, expected)[0, 1]) if expected.std() > 0 and values.std() > 0 else 0.0

    centre = fit(points)
    if not centre >= least:
        return float("inf")
    worst = 0.0
    for axis in (1, 2):
        direction = grid.affine[:3, axis] / np.linalg.norm(grid.affine[:3, axis])
        low, high = fit(points - _TRY_MM * direction), fit(points + _TRY_MM * direction)
        worst = max(worst, abs(_vertex(low, centre, high)) * _TRY_MM)
        along = ((points - middle) @ direction)[:, None] * direction
        low, high = fit(points - _STRETCH * along), fit(points + _STRETCH * along)
        worst = max(worst, abs(_vertex(low, centre, high)) * _STRETCH * _REACH_MM)
    return worst


def _vertex(low: float, centre: float, high: float) -> float:
    """Where the parabola through -1, 0 and 1 peaks, at most one step away; a step away when 0 is no peak."""
    bend = low - 2 * centre + high
    if not bend < -1e-9:
        return 0.0 if low == centre == high else 1.0
    return float(np.clip((low - high) / (2 * bend), -1, 1))


def _signal(points: np.ndarray, weighting: str) -> np.ndarray:
    tissue = tissue_at(points)
    out = np.zeros(len(points))
    for name, value in TISSUE[weighting].items():
        out[tissue == name] = value
    return out
