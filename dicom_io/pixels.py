"""Stored values to the scanner's units: modality scaling per slice, inverted greys, padding (PS3.3 C.7.6.3, C.11.1).

Nothing here changes geometry; the numbers come from each slice's own header.
"""

from __future__ import annotations

import numpy as np

from configs.loader import limits
from dicom_io.frames import Slice
from dicom_io.geometry import FloatArray
from dicom_io.stacks import Run

_ABSURD = 1e12  # beyond this a scaled value is no signal


def pixels_of(run: Run) -> tuple[FloatArray | None, str]:
    """Float32 planes (slices, rows, columns) of a run in scanner units, or None and the code why they cannot be used."""
    if not all(_sound(item) for item in run.slices):
        return None, "RESCALE_INVALID"
    planes = np.empty((len(run.slices), *run.slices[0].stored.shape), np.float32)
    for item, plane in zip(run.slices, planes, strict=True):
        _scale(item, plane)
    if run.slices[0].header.photometric == "MONOCHROME1":
        # inverted as one: the darkest value of the whole stack becomes zero signal
        np.subtract(planes.max(), planes, out=planes)
    return planes, ""


def is_clipped(item: Slice) -> bool:
    """Whether more than a fifth of a picture has its brightest value: what lies above is lost, and borders with it.

    A picture of a few grey levels is no clipped one but one without signal, as beside the body.
    """
    bounds = limits().scope
    low, high = item.extremes
    if high - low < bounds.saturated_least_range:
        return False
    darkest_is_brightest = (item.header.photometric == "MONOCHROME1") != (item.frame.slope < 0)
    top = low if darkest_is_brightest else high
    padding = item.header.padding_value
    if top == padding:
        kept = item.stored[item.stored != padding]
        top = kept.min() if darkest_is_brightest else kept.max()
    return int(np.count_nonzero(item.stored == top)) > bounds.saturated_fraction * item.stored.size


def _sound(item: Slice) -> bool:
    """Whether the scaled values are finite and no larger than a signal can be."""
    ends = [value * item.frame.slope + item.frame.intercept for value in item.extremes]
    return all(abs(value) < _ABSURD for value in ends)


def has_text(item: Slice) -> bool:
    """Whether letters seem to be burned into a picture: thin strokes of the highest value.

    Clipped tissue has bright neighbours and is no text. Text in another than the highest value is not seen.
    """
    return _strokes_of(item, item.extremes[1])


def may_have_text(item: Slice) -> bool:
    """Like `has_text` for every bright value that stands out by its number: what leaves the house is looked at more strictly."""
    values, counts = np.unique(item.stored, return_counts=True)
    bright = values > np.percentile(item.stored, limits().scope.text_percentile)
    often = counts >= limits().scope.text_pixels
    return any(_strokes_of(item, int(value)) for value in values[bright & often]) or has_text(item)


def _strokes_of(item: Slice, value: int) -> bool:
    bounds = limits().scope
    stored = item.stored
    low, top = item.extremes[0], value
    strokes = stored == value
    count = int(np.count_nonzero(strokes))
    if not bounds.text_pixels <= count <= bounds.text_fraction * stored.size:
        return False
    inner = strokes[1:-1, 1:-1] & strokes[:-2, 1:-1] & strokes[2:, 1:-1] & strokes[1:-1, :-2] & strokes[1:-1, 2:]
    if np.count_nonzero(inner) > bounds.text_filled * count:
        return False
    around = np.zeros_like(strokes)
    around[1:] |= strokes[:-1]
    around[:-1] |= strokes[1:]
    around[:, 1:] |= strokes[:, :-1]
    around[:, :-1] |= strokes[:, 1:]
    around &= ~strokes
    return bool(float(np.quantile(stored[around], 0.5)) < low + bounds.text_contrast * (top - low))


def is_blank(item: Slice) -> bool:
    """Whether the slice holds one value everywhere."""
    return item.extremes[0] == item.extremes[1]


def _scale(item: Slice, plane: FloatArray) -> None:
    """Write the scaled values of a slice into `plane` (rows, columns) float32."""
    stored = item.stored
    np.copyto(plane, stored, casting="same_kind")
    if item.frame.slope != 1.0:
        plane *= np.float32(item.frame.slope)
    if item.frame.intercept != 0.0:
        plane += np.float32(item.frame.intercept)
    padding = item.header.padding_value
    if padding is not None:
        mask = stored == padding
        if mask.any() and not mask.all():
            plane[mask] = plane[~mask].min()
