"""Recess depth of both sides from three neighbouring axial slices by a network of its own: a distribution over depths per side.

The window lies around the canal; which slices: those around the middle between mid-disc and pedicle top. What it learned from:
card `axial_recess` (simulated images only). Sides are the patient's: columns of a window run to the patient's left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.intensity import InputSpec, normalise

if TYPE_CHECKING:
    from inference.segment import AxialSlice
    from models.runtime import Segmenter

SIZE = 96
"""Rows and columns of the canal window; a technical choice (58 mm at 0.6 mm: canal, facets and some disc)."""
BEHIND_MARGIN_MM = 6.0
"""The window's centre lies this far behind the posterior disc margin."""
MIDDLE_MM = -2.25
"""Along the disc normal, the middle of the range in which the depth is defined (mid-disc to pedicle top)."""
BIN_MM = 0.75
"""Step between the depths that the network tells apart, from 0; the expectation over them is finer."""
CHANNELS = 7
"""Three slices from feet to head, three constant planes with their offsets, one plane with the lateral place."""
_REGION_MM = ((-6.0, 14.0), (3.0, 21.0))
"""Pixels that vote for a side: rows from the disc margin to the back, columns from the midline to that side."""
_OFFSET_SCALE_MM = 5.0


@dataclass(frozen=True)
class Depth:
    """Expected depth (mm), standard deviation of the network's distribution, and the two readings (window and its mirror image)."""

    value: float
    sd: float
    readings: tuple[float, float]


def chosen_slices(offsets: Sequence[float]) -> tuple[int, int, int]:
    """Positions of the slice nearest the middle of the recess and its neighbours towards feet and head (itself at an end).

    `offsets` (mm along the disc normal) grow from the feet to the head.
    """
    middle = int(np.argmin(np.abs(np.asarray(offsets) - MIDDLE_MM)))
    return max(middle - 1, 0), middle, min(middle + 1, len(offsets) - 1)


def network_input(
    pictures: Sequence[NDArray[np.float32]], offsets: Sequence[float], spec: InputSpec
) -> NDArray[np.float32]:
    """The channels (CHANNELS, SIZE, SIZE) from three canal windows (SIZE, SIZE) and their offsets in mm."""
    planes = [normalise(picture, spec) for picture in pictures]
    planes += [np.full((SIZE, SIZE), offset / _OFFSET_SCALE_MM, dtype=np.float32) for offset in offsets]
    lateral = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) * spec.spacing_mm / 30.0
    planes.append(np.broadcast_to(lateral, (SIZE, SIZE)).astype(np.float32))
    return np.stack(planes)


def regions(pixel_mm: float) -> NDArray[np.bool_]:
    """Pixels (2, SIZE, SIZE) that vote for the left and for the right side."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    behind = (rows - (SIZE - 1) / 2) * pixel_mm + BEHIND_MARGIN_MM
    lateral = (columns - (SIZE - 1) / 2) * pixel_mm
    (front, back), (inner, outer) = _REGION_MM
    deep = (behind >= front) & (behind <= back)
    return np.stack([deep & (sign * lateral >= inner) & (sign * lateral <= outer) for sign in (1, -1)])


def depth_distribution(probabilities: NDArray[np.float32], pixel_mm: float) -> NDArray[np.float64]:
    """Distribution over depths (N, 2, bins), left first, from pixel-wise ones (N, bins, SIZE, SIZE): normalised geometric mean."""
    logs = np.log(np.clip(probabilities, 1e-9, 1.0)).astype(np.float64)
    pooled = np.stack([logs[:, :, region].mean(axis=-1) for region in regions(pixel_mm)], axis=1)
    shares: NDArray[np.float64] = np.exp(pooled - pooled.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares


def bin_depths(count: int) -> NDArray[np.float64]:
    """Depth in mm that each of `count` bins stands for."""
    return BIN_MM * np.arange(count, dtype=np.float64)


def read_depths(slices: Sequence[AxialSlice], segmenter: Segmenter) -> Mapping[str, Depth]:
    """Depth of "left" and "right" from the slices of one disc (feet first), averaged over the window and its mirror image.

    The fit `slope`, `intercept` and `sd_scale` of the card's constants is applied. ValueError without slices.
    """
    if not slices:
        raise ValueError("a depth needs at least one slice")
    shares = _shares(slices, segmenter)
    depths = bin_depths(shares.shape[-1])
    constants = segmenter.card.constants
    slope, intercept = constants.get("slope", 1.0), constants.get("intercept", 0.0)
    result = {}
    for side, place in (("left", 0), ("right", 1)):
        both = np.stack([shares[0, place], shares[1, 1 - place]])
        means = np.maximum(slope * (both @ depths) + intercept, 0.0)
        mixed = both.mean(axis=0)
        spread = float(np.sqrt(max(float(mixed @ depths**2) - float(mixed @ depths) ** 2, 0.0)))
        sd = float(np.hypot(constants.get("sd_floor", 0.3), constants.get("sd_scale", 1.0) * spread))
        result[side] = Depth(float(means.mean()), sd, (float(means[0]), float(means[1])))
    return result


def _shares(slices: Sequence[AxialSlice], segmenter: Segmenter) -> NDArray[np.float64]:
    """Distributions (2, 2, bins) over depths, of the window and of its mirror image, side by side as seen; with a partner the mean."""
    picked = [slices[k] for k in chosen_slices([item.offset_mm for item in slices])]
    spec = segmenter.card.input
    pictures = [canal_window(item, spec.spacing_mm) for item in picked]
    offsets = [item.offset_mm for item in picked]
    straight = network_input(pictures, offsets, spec)
    mirrored = network_input([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures], offsets, spec)
    shares = depth_distribution(segmenter.probabilities(np.stack([straight, mirrored])), spec.spacing_mm)
    return shares if segmenter.partner is None else (shares + _shares(slices, segmenter.partner)) / 2


def canal_window(item: AxialSlice, pixel_mm: float) -> NDArray[np.float32]:
    """The part (SIZE, SIZE) of a slice's window around the canal; pixels are those of the window."""
    from inference.segment import reading

    middle = (item.window.size - 1) / 2
    row = middle + (reading().window.anterior_mm + BEHIND_MARGIN_MM) / pixel_mm
    top, left = round(row - (SIZE - 1) / 2), round(middle - (SIZE - 1) / 2)
    return item.image[top : top + SIZE, left : left + SIZE]
