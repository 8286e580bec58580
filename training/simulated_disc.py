"""Discs whose place is known, for pictures that no sagittal series goes with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.localize import Disc

_MARGIN_ERROR_MM = 1.2
_TILT_ERROR_DEG = 3.0
"""Discs are misplaced and misturned by this (one standard deviation), as sagittal slices would have it."""


def misplaced_disc(margin: NDArray[np.float64], normal: NDArray[np.float64], rng: np.random.Generator) -> Disc:
    """A disc whose posterior margin (3,) and unit normal (3,) are off by as much as sagittal slices would have them."""
    margin = margin + rng.normal(0, _MARGIN_ERROR_MM, 3)
    normal = normal + rng.normal(0, np.radians(_TILT_ERROR_DEG), 3)
    return simulated_disc(margin, normal / np.linalg.norm(normal))


def simulated_disc(margin: NDArray[np.float64], normal: NDArray[np.float64]) -> Disc:
    """A disc whose place is known and whose other values are unknown."""
    return Disc(
        name="L4-L5",
        basis="simulated",
        confidence=1.0,
        alternative_name=None,
        centre_lps=margin - np.array([0.0, 17.0, 0.0]),
        normal=normal,
        posterior_margin_lps=margin,
        anterior_margin_lps=margin - np.array([0.0, 34.0, 0.0]),
        height_mm=8.0,
        ap_mm=34.0,
        volume_mm3=0.0,
        source_slice=0,
    )
