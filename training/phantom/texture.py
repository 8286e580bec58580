"""Smooth random fields that belong to places in the body, so that axial and sagittal pictures show the same grain.

A periodic block of filtered Gaussian noise per person, looked up by position.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from training.phantom.shapes import Field

_SIZE = 64


@lru_cache(maxsize=4)
def _block(seed: int, sigma: float) -> Field:
    noise = np.random.default_rng([seed, 77]).standard_normal((_SIZE, _SIZE, _SIZE)).astype(np.float32)
    smooth = gaussian_filter(noise, sigma, mode="wrap")
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


def grain(seed: int, x: Field, y: Field, z: Field, step: tuple[float, float, float], *, sigma: float = 1.6) -> Field:
    """Standard normal noise at points, correlated over about `sigma` times `step` mm along each axis."""
    block = _block(seed, sigma)
    index = [
        np.floor(axis * np.float32(1 / s)).astype(np.int32) & (_SIZE - 1)
        for axis, s in zip((x, y, z), step, strict=True)
    ]
    return np.asarray(block[index[0], index[1], index[2]], dtype=np.float32)
