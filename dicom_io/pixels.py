"""Stored values to the scanner's units: modality scaling per slice, inverted greys, padding (PS3.3 C.7.6.3, C.11.1).

Nothing here changes geometry; the numbers come from each slice's own header.
"""

from __future__ import annotations

import numpy as np

from dicom_io.frames import Slice
from dicom_io.geometry import FloatArray
from dicom_io.stacks import Run

_ABSURD = 1e12  # beyond this a scaled value is no signal


def pixels_of(run: Run) -> tuple[list[FloatArray], str]:
    """Float32 planes (rows, columns) of a run in scanner units, and a code when they cannot be used ("" = fine)."""
    planes = [_plane(item) for item in run.slices]
    if not all(np.isfinite(plane).all() and np.abs(plane).max() < _ABSURD for plane in planes):
        return [], "RESCALE_INVALID"
    if run.slices[0].header.photometric == "MONOCHROME1":
        # inverted as one: the darkest value of the whole stack becomes zero signal
        top = max(float(plane.max()) for plane in planes)
        planes = [top - plane for plane in planes]
    return planes, ""


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
