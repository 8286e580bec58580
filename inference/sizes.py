"""What a measurement is before it leaves: a size with its error, place and slice, or the reason why there is none.

Lengths are sums of probabilities times the pixel, along the disc's posterior direction. Fits that carry them to mm: the model's card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.geometry import FloatArray
from inference.segment import AxialReading, AxialSlice

MEMBER = 0.5
"""A pixel or column belongs to a structure when it is more likely that structure than not."""
_DEFAULT_SD = {"recess": 1.0, "canal_area": 12.0, "canal_ap": 1.0, "herniation": 1.0}
"""Uncertainty (one standard deviation) where the card says nothing."""


@dataclass(frozen=True)
class Missing:
    """A value that cannot be given: stable code and the sentence that is printed."""

    code: str
    reason: str


@dataclass(frozen=True)
class Size:
    """A length in mm or an area in mm2, its standard deviation, the slice and two LPS points that show it."""

    value: float
    sd: float
    points: tuple[FloatArray, FloatArray]
    slice: AxialSlice


def slices_between(axial: AxialReading, low: float, high: float) -> list[AxialSlice]:
    """Slices whose offset lies in low..high mm from the disc's mid-plane."""
    return [item for item in axial.slices if low <= item.offset_mm <= high]


def column_extents(probability: NDArray[np.float32], item: AxialSlice) -> NDArray[np.float64]:
    """Expected anteroposterior extent (W,) in mm of a structure in every column, along the disc's posterior direction.

    Slices tilted against the disc see the distance stretched by 1 / cos(tilt).
    """
    cosine = float(np.cos(np.radians(item.tilt_deg)))
    extents: NDArray[np.float64] = probability.sum(axis=0).astype(np.float64) * (item.window.pixel_mm * cosine)
    return extents


def carried(value: float, constants: Mapping[str, float], name: str) -> float:
    """A label extent carried to mm by the slope and offset in the card (identity where there is none)."""
    return max(constants.get(f"{name}.slope", 1.0) * value + constants.get(f"{name}.intercept", 0.0), 0.0)


def standard_deviation(constants: Mapping[str, float], name: str) -> float:
    """Error of a measure as the card states it, else its default."""
    return constants.get(f"{name}.sd", _DEFAULT_SD[name])
