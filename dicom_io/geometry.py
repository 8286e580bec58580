"""Where voxels are: grids, volumes and stacks in LPS millimetres (x to the patient's left, y to the back, z to the head).

Index order is (slice, row, column). Formula: DICOM PS3.3 C.7.6.2.1.1. A millimetre is never taken from a pixel count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


class GeometryError(ValueError):
    """Positions or directions that do not describe a usable stack; the text says which and why."""


@dataclass(frozen=True)
class Grid:
    """A regular lattice of voxels: shape (slices, rows, columns) and the 4x4 matrix index -> LPS mm."""

    shape: tuple[int, int, int]
    affine: FloatArray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
            raise GeometryError("a grid needs a finite 4x4 matrix from (slice, row, column) to LPS mm")
        if not abs(np.linalg.det(affine[:3, :3])) > 1e-9:
            raise GeometryError("the grid's matrix is singular: a direction or a spacing is zero")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring slices, rows and columns (length of each index step)."""
        step = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(step[0]), float(step[1]), float(step[2])

    @property
    def normal(self) -> FloatArray:
        """Unit vector (3,) perpendicular to the slices, pointing towards growing slice index."""
        normal = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        normal = normal / np.linalg.norm(normal)
        return normal if float(normal @ self.affine[:3, 0]) > 0 else -normal

    def to_lps(self, index: FloatArray) -> FloatArray:
        """LPS mm (..., 3) of indices (..., 3) in (slice, row, column); fractions allowed."""
        index = np.asarray(index, dtype=np.float64)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, lps: FloatArray) -> FloatArray:
        """Fractional (slice, row, column) of LPS mm points (..., 3)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(lps, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def contains(self, lps: FloatArray, margin: float = 0.5) -> NDArray[np.bool_]:
        """Which points (..., 3) lie inside the lattice, `margin` voxels beyond the outer centres allowed."""
        index = self.to_index(lps)
        upper = np.array(self.shape) - 1 + margin
        return np.asarray(np.all((index >= -margin) & (index <= upper), axis=-1))


@dataclass(frozen=True)
class SourceInstance:
    """The DICOM object (and frame, from 1, in a multi-frame object) that one slice of a volume came from."""

    sop_instance_uid: str
    frame: int | None = None
    sop_class_uid: str = ""
    path: str = ""


@dataclass(frozen=True)
class Volume:
    """Pixels on a grid, (slice, row, column) float32 in the scanner's units, with the source object of every slice."""

    array: FloatArray
    grid: Grid
    instances: tuple[SourceInstance, ...]
    series_instance_uid: str = ""
    frame_of_reference_uid: str = ""

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise GeometryError(f"pixels {self.array.shape} do not fit the grid {self.grid.shape}")
        if len(self.instances) != self.grid.shape[0]:
            raise GeometryError(f"{len(self.instances)} source objects for {self.grid.shape[0]} slices")

    @property
    def plane(self) -> str:
        """Plane of the slices: "sagittal", "coronal" or "axial" (`plane_of`)."""
        return plane_of(self.grid.normal)


_LUMBOSACRAL_COSINE = 0.5
"""Slices along a steep L5-S1 disc, which looks up and forwards, are axial up to 60 degrees of tilt."""


def plane_of(normal: FloatArray) -> str:
    """Anatomical plane of slices with this LPS normal (3,): the nearest, or axial where they may lie along the L5-S1 disc.

    Oblique coronal slices along the sacrum lean the other way and stay coronal.
    """
    across, back, up = np.asarray(normal, dtype=np.float64) / np.linalg.norm(normal)
    if abs(back) > max(abs(across), abs(up)) and abs(up) >= _LUMBOSACRAL_COSINE and back * up < 0:
        return "axial"
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs([across, back, up])))]


def slice_affine(
    image_position_patient: FloatArray,
    image_orientation_patient: FloatArray,
    pixel_spacing: FloatArray,
    step: FloatArray,
) -> FloatArray:
    """4x4 matrix (slice, row, column) -> LPS mm of a stack whose first slice has these DICOM values.

    `image_orientation_patient` holds the direction of growing column index, then of growing row index;
    `pixel_spacing` is (between rows, between columns); `step` is the LPS vector (3,) to the next slice.
    """
    orientation = np.asarray(image_orientation_patient, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = orientation[3:] * float(pixel_spacing[0])
    affine[:3, 2] = orientation[:3] * float(pixel_spacing[1])
    affine[:3, 3] = image_position_patient
    return affine
