"""The displacement of fat against water is told from the picture alone, with its axis and direction; natural dark rims are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from inference.competence import competence
from inference.image_quality import picture_quality

_PIXEL_MM = 0.7
_SIZE = 260


def _trunk(shift_mm: tuple[float, float], rim_mm: float = 0.0) -> NDArray[np.float32]:
    """Muscles in fat with noise, at 0.7 mm; fat lies `shift_mm` off (rows, columns), a dark rim surrounds each muscle."""
    row, column = (np.mgrid[:_SIZE, :_SIZE] - _SIZE / 2) * _PIXEL_MM
    body = np.hypot(row, 0.9 * column) < 80
    away = np.min([np.hypot(row - r, column - c) for r, c in ((-35, -30), (-35, 30), (30, -28), (30, 28))], axis=0)
    fat = (body & (away > 22)).astype(np.float64)
    muscle = body & (away < 22 - rim_mm)
    moved = ndimage.shift(fat, [mm / _PIXEL_MM for mm in shift_mm], order=1)
    noise = np.random.default_rng(3).normal(0, 8, row.shape)
    return np.asarray(np.abs(ndimage.gaussian_filter(800 * moved + 200 * muscle, 0.5) + noise), dtype=np.float32)


def _shift(picture: NDArray[np.float32]) -> tuple[float, float]:
    quality = picture_quality(picture, (_PIXEL_MM, _PIXEL_MM))
    return quality.shift_down, quality.shift_across


@pytest.mark.parametrize("millimetres", [3.5, 4.0, 5.0, 6.5])
@pytest.mark.parametrize(("axis", "sign"), [(0, 1), (0, -1), (1, 1), (1, -1)])
def test_displaced_fat_is_told_with_its_axis_and_direction(axis: int, sign: int, millimetres: float) -> None:
    off = sign * millimetres
    found = _shift(_trunk((off, 0.0) if axis == 0 else (0.0, off)))
    assert sign * found[axis] > competence().picture.largest_shift_axial
    assert abs(found[1 - axis]) < abs(found[axis]) / 4


@pytest.mark.parametrize(
    ("shift_mm", "rim_mm"), [((0.0, 0.0), 0.0), ((1.5, 0.0), 0.0), ((0.0, 2.0), 0.0), ((0.0, 0.0), 4.0)]
)
def test_the_usual_displacement_and_rims_all_round_are_no_artefact(
    shift_mm: tuple[float, float], rim_mm: float
) -> None:
    found = _shift(_trunk(shift_mm, rim_mm))
    assert max(map(abs, found)) < competence().picture.largest_shift_axial


def test_a_rim_all_round_is_seen_but_cancels() -> None:
    """The same rim on one side alone would be told: what cancels is the direction, not the darkness."""
    around = _trunk((0.0, 0.0), 4.0)
    one_side = np.where(np.mgrid[:_SIZE, :_SIZE][0] < _SIZE / 2 - 50, around, _trunk((0.0, 0.0)))
    assert abs(_shift(around)[0]) < competence().picture.largest_shift_axial < abs(_shift(one_side)[0])
