"""A sagittal stack turned upright: rows from head to foot, columns from front to back, one pixel size; and the way back.

Only the affine decides what is up and what is front; the slice order stays as it is in the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_io.geometry import FloatArray, Volume


@dataclass(frozen=True)
class Upright:
    """Planes (slice, row, column) on square pixels, the matrix from their index to LPS mm, and how the source was turned."""

    planes: NDArray[np.float32]
    affine: FloatArray
    transposed: bool
    flipped_rows: bool
    flipped_columns: bool

    @property
    def pixel_mm(self) -> float:
        """Pixel size in mm (the two directions agree within rounding of the image size)."""
        return float(np.linalg.norm(self.affine[:3, 1]))

    @property
    def step_mm(self) -> float:
        """Distance in mm between neighbouring slices."""
        return float(np.linalg.norm(self.affine[:3, 0]))

    def to_lps(self, index: NDArray[Any]) -> NDArray[np.float64]:
        """LPS mm (..., 3) of upright (slice, row, column) indices (..., 3)."""
        return np.asarray(np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def direction(self, axis: int) -> NDArray[np.float64]:
        """Unit LPS vector of growing slice (0), row (1) or column (2)."""
        step = self.affine[:3, axis]
        return np.asarray(step / np.linalg.norm(step))


def upright(volume: Volume, pixel_mm: float) -> Upright:
    """`volume` (sagittal) with the head up and the front to the left on pixels of about `pixel_mm`.

    ValueError when the slices are not sagittal.
    """
    if volume.plane != "sagittal":
        raise ValueError(f"slices are {volume.plane}, not sagittal")
    affine = np.array(volume.grid.affine)
    array = np.asarray(volume.array, dtype=np.float32)
    transposed = abs(affine[2, 1]) < abs(affine[2, 2])
    if transposed:
        array = array.transpose(0, 2, 1)
        affine = affine[:, [0, 2, 1, 3]]
    flipped_rows, flipped_columns = bool(affine[2, 1] > 0), bool(affine[1, 2] < 0)
    for axis, flipped in ((1, flipped_rows), (2, flipped_columns)):
        if flipped:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    spacing = np.linalg.norm(affine[:3, 1:3], axis=0)
    shape = [max(1, round(size * old / pixel_mm)) for size, old in zip(array.shape[1:], spacing, strict=True)]
    sigma = [max(0.0, 0.35 * new / old - 0.35) for old, new in zip(spacing, (pixel_mm, pixel_mm), strict=True)]
    planes = np.stack([resize(ndimage.gaussian_filter(plane, sigma), (shape[0], shape[1])) for plane in array])
    for axis, size in ((1, shape[0]), (2, shape[1])):
        ratio = array.shape[axis] / size
        affine[:3, 3] += affine[:3, axis] * (0.5 * ratio - 0.5)
        affine[:3, axis] *= ratio
    return Upright(planes.astype(np.float32), affine, transposed, flipped_rows, flipped_columns)


def resize(plane: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A plane on another number of rows and columns over the same field, linear."""
    factors = [new / old for new, old in zip(shape, plane.shape, strict=True)]
    return np.asarray(ndimage.zoom(plane, factors, order=1, grid_mode=True, mode="nearest"), dtype=np.float32)


def to_source(probabilities: NDArray[np.float32], turned: Upright, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Class numbers on the source grid `shape` from upright class probabilities (slice, class, row, column)."""
    rows, columns = (shape[2], shape[1]) if turned.transposed else (shape[1], shape[2])
    label_map = np.empty((shape[0], rows, columns), dtype=np.uint8)
    for index, classes in enumerate(probabilities):
        label_map[index] = np.stack([resize(part, (rows, columns)) for part in classes]).argmax(axis=0)
    if turned.flipped_columns:
        label_map = np.flip(label_map, 2)
    if turned.flipped_rows:
        label_map = np.flip(label_map, 1)
    if turned.transposed:
        label_map = label_map.transpose(0, 2, 1)
    return np.ascontiguousarray(label_map)
