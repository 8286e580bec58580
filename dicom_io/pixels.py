"""Stored values to the scanner's units: modality scaling per slice, inverted greys, padding (PS3.3 C.7.6.3, C.11.1).

Nothing here changes geometry; the numbers come from each slice's own header.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs.loader import limits

from dicom_io.frames import Slice
from dicom_io.geometry import FloatArray
from dicom_io.stacks import Run

_ABSURD = 1e12  # beyond this a scaled value is no signal


def pixels_of(run: Run) -> tuple[list[FloatArray], str]:
    """Float32 planes (rows, columns) of a run in scanner units, and a code when they cannot be used ("" = fine)."""
    planes = [_plane(item) for item in run.slices]
    if not all(np.isfinite(plane).all() and np.abs(plane).max() < _ABSURD for plane in planes):
        return [], "RESCALE_INVALID"
    if _clipped(run) > limits().scope.saturated_fraction:
        return [], "SATURATED"
    if run.slices[0].header.photometric == "MONOCHROME1":
        # inverted as one: the darkest value of the whole stack becomes zero signal
        top = max(float(plane.max()) for plane in planes)
        planes = [top - plane for plane in planes]
    return planes, ""


def _clipped(run: Run) -> float:
    """Part of the run's pixels that have its highest stored value."""
    top = max(int(item.stored.max()) for item in run.slices)
    return sum(int((item.stored == top).sum()) for item in run.slices) / sum(item.stored.size for item in run.slices)


def has_text(stored: NDArray[np.integer[Any]]) -> bool:
    """Whether letters seem to be burned into a picture (rows, columns): thin strokes of the highest value.

    Clipped tissue has bright neighbours and is no text. Text in another than the highest value is not seen.
    """
    bounds = limits().scope
    low, top = int(stored.min()), int(stored.max())
    strokes = stored == top
    count = int(strokes.sum())
    if not bounds.text_pixels <= count <= bounds.text_fraction * stored.size:
        return False
    around = ndimage.binary_dilation(strokes) & ~strokes
    return bool(float(np.median(stored[around])) < low + bounds.text_contrast * (top - low))


def is_blank(item: Slice) -> bool:
    """Whether the slice holds one value everywhere."""
    return bool(item.stored.min() == item.stored.max())


def _plane(item: Slice) -> FloatArray:
    stored = item.stored
    plane = stored.astype(np.float32) * np.float32(item.frame.slope) + np.float32(item.frame.intercept)
    padding = item.header.padding_value
    if padding is not None:
        mask = stored == padding
        if mask.any() and not mask.all():
            plane[mask] = plane[~mask].min()
    return plane
