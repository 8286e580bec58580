"""Where a disc lies along its normal as its axial slices show it.

Sagittal slices may place a disc some millimetres too high or too low: fat in the vertebrae is displaced along the readout
direction while the disc is not, and patients move between series. The axial slices themselves say where the disc begins and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import FloatArray

if TYPE_CHECKING:
    from inference.localize import Disc
    from inference.segment import AxialSlice

_BEFORE_MARGIN_MM = (4.0, 18.0)
"""From here to there in front of the posterior margin, and so far to either side, slices show either the disc or a vertebra."""
_LATERAL_MM = 10.0
_ALONG_MM = 7.0
"""... and so far to either side along the normal: as far as to the other, where a network calls vertebrae disc too."""
_OFFSETS_MM = np.arange(-9.0, 9.01, 0.25)
_USUAL_MM = 3.0
"""One standard deviation of where discs lie about their sagittal place, before any axial slice is seen."""
_LABEL_SD = 0.2
"""How far the share of disc on a slice strays from that of a flat disc cut by a thick slice (one standard deviation)."""
_BLUR_SHARE = 1.2
"""The border of a disc blurs over this share of the distance between slices."""


def offset_along_normal(
    slices: Sequence[AxialSlice], disc: Disc, place: FloatArray, channel: int, step_mm: float, anterior_mm: float
) -> float:
    """How far (mm, + towards the head) the posterior disc margin lies from its supposed `place` (3,) in LPS mm, along its normal.

    The mean of a posterior over offsets: a disc of the height that sagittal slices give, against the probability of class `channel`
    near the midline of `slices`, whose windows were laid `anterior_mm` in front of the disc's posterior margin and which lie
    `step_mm` apart. 0 without slices.
    """
    normal = np.asarray(disc.normal)
    half, blur = disc.height_mm / 2, step_mm * _BLUR_SHARE
    cost = (_OFFSETS_MM / _USUAL_MM) ** 2
    for item in slices:
        rows, columns = np.nonzero(_between(item.window.size, item.window.pixel_mm, anterior_mm))
        along = (item.window.to_lps(rows.astype(np.float64), columns.astype(np.float64)) - place) @ normal
        near = np.abs(along) <= _ALONG_MM
        along, seen = along[near, None], item.probabilities[channel][rows[near], columns[near], None]
        top = np.minimum(along + blur / 2, _OFFSETS_MM + half)
        bottom = np.maximum(along - blur / 2, _OFFSETS_MM - half)
        expected = np.clip(top - bottom, 0.0, None) / blur
        # a slice weighs by its share of pixels in reach
        cost = cost + ((expected - seen) ** 2).sum(axis=0) / len(near) / _LABEL_SD**2
    posterior = np.exp((cost.min() - cost) / 2)
    return float(posterior @ _OFFSETS_MM / posterior.sum())


def _between(size: int, pixel_mm: float, anterior_mm: float) -> NDArray[np.bool_]:
    """Pixels of a window where a slice shows either the disc or a vertebra."""
    rows, columns = np.mgrid[:size, :size]
    before = anterior_mm - (rows - (size - 1) / 2) * pixel_mm
    lateral = (columns - (size - 1) / 2) * pixel_mm
    near, far = _BEFORE_MARGIN_MM
    return np.asarray((before > near) & (before < far) & (np.abs(lateral) < _LATERAL_MM))
