"""A lumbar level painted from plain shapes in LPS mm, and axial volumes through it in any index order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import Grid, SourceInstance, Volume, slice_affine
from dicom_io.study import Stack
from inference.localize import Disc
from inference.segment import AxialReading, AxialSlice, class_names, label_map, slice_windows

PIXEL_MM = 0.6
MARGIN = np.array([4.0, -7.0, 12.0])
"""Midline point of the posterior disc margin."""


def disc(**changes: Any) -> Disc:
    """A disc whose plane is level, with its posterior margin at MARGIN."""
    level = Disc(
        name="L4-L5",
        basis="painted",
        confidence=0.9,
        alternative_name=None,
        centre_lps=MARGIN - [0, 17, 0],
        normal=np.array([0.0, 0.0, 1.0]),
        posterior_margin_lps=MARGIN,
        anterior_margin_lps=MARGIN - [0, 34, 0],
        height_mm=8.0,
        ap_mm=34.0,
        volume_mm3=10_000.0,
        source_slice=0,
    )
    return replace(level, **changes)


def paint(
    points: NDArray[np.float64],
    *,
    depth_left: float = 6.0,
    depth_right: float = 6.0,
    sac_area: float = 150.0,
    hernia_left: float = 0.0,
) -> NDArray[np.int64]:
    """Class numbers of LPS points (..., 3): disc, sac, one rectangle per recess, facets behind, a herniation on the left."""
    names = class_names()
    u, v = points[..., 0] - MARGIN[0], points[..., 1] - MARGIN[1]
    result = np.zeros(points.shape[:-1], dtype=np.int64)
    result[(u / 26.0) ** 2 + ((v + 18.0) / 18.0) ** 2 < 1] = names.index("disc")
    result[(np.abs(u) < 20) & (v > -12) & (v <= 0)] = names.index("disc")
    radius2 = sac_area / np.pi
    result[u**2 + (v - 8.0) ** 2 < radius2] = names.index("thecal_sac")
    for side, sign, depth in (("left", 1, depth_left), ("right", -1, depth_right)):
        here = (sign * u > 8.5) & (sign * u <= 14.5)
        result[here & (v > 0) & (v <= depth)] = names.index(f"recess_{side}")
        result[(sign * u > 8.5) & (sign * u < 24) & (v > depth) & (v < depth + 9)] = names.index("facets")
    bump = (u > 9) & (u <= 17) & (v > 0) & (v <= hernia_left)
    result[bump] = names.index("herniated_material")
    return result


def stack(
    *,
    flip_slices: bool = False,
    flip_rows: bool = False,
    flip_columns: bool = False,
    spacing: float = 4.0,
    slices: int = 12,
    role: str = "axial_t2",
) -> Stack:
    """An axial stack whose index order runs either way along each axis; pixels 0.7 mm, 160 x 180."""
    rows, columns, pixel = 160, 180, 0.7
    row_step = np.array([0.0, -1.0, 0.0] if flip_rows else [0.0, 1.0, 0.0])
    column_step = np.array([-1.0, 0.0, 0.0] if flip_columns else [1.0, 0.0, 0.0])
    step = np.array([0.0, 0.0, -spacing if flip_slices else spacing])
    first = np.array([0.0, -10.0, 0.0]) - row_step * pixel * (rows - 1) / 2 - column_step * pixel * (columns - 1) / 2
    first[2] = MARGIN[2] + (1 if flip_slices else -1) * spacing * (slices // 2)
    affine = slice_affine(first, np.concatenate([column_step, row_step]), np.array([pixel, pixel]), step)
    instances = tuple(SourceInstance(f"1.2.3.{index}") for index in range(slices))
    volume = Volume(
        np.zeros((slices, rows, columns), dtype=np.float32), Grid((slices, rows, columns), affine), instances
    )
    return Stack(volume, role, "painted", "1.2.3", 1, "", 100.0, 4000.0)


def painted_reading(
    source: Stack | None = None, level: Disc | None = None, sub: int = 4, **shape: float
) -> AxialReading:
    """What a network without error would have read: probabilities are the painted classes averaged over each pixel."""
    source, level = source or stack(), level or disc()
    classes = class_names()
    windows = slice_windows(source.volume, np.asarray(level.posterior_margin_lps), np.asarray(level.normal), PIXEL_MM)
    slices = []
    fine = (np.arange(sub) + 0.5) / sub - 0.5
    for index, offset, window in windows:
        rows, columns = np.mgrid[: window.size, : window.size].astype(np.float64)
        probabilities = np.zeros((len(classes), window.size, window.size), dtype=np.float32)
        for down in fine:
            for right in fine:
                labels = paint(window.to_lps(rows + down, columns + right), **shape)
                for number in range(len(classes)):
                    probabilities[number] += (labels == number) / sub**2
        image = probabilities[1].copy()
        slices.append(AxialSlice(index, source.volume.instances[index], offset, 0.0, window, image, probabilities))
    step = float(np.max(np.diff([item.offset_mm for item in slices]))) if len(slices) > 1 else float("inf")
    labels = label_map(source.volume, slices)
    return AxialReading(level, source, classes, tuple(slices), step, labels)
