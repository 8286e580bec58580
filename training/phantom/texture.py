"""Smooth random fields that belong to places in the body, so that axial and sagittal pictures show the same grain.

A periodic block of filtered Gaussian noise per person, looked up by position.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from training.phantom.shapes import Field

_SIZE = 64


@lru_cache(maxsize=8)
def _block(seed: int) -> Field:
    noise = np.random.default_rng([seed, 77]).standard_normal((_SIZE, _SIZE, _SIZE)).astype(np.float32)
    smooth = gaussian_filter(noise, 1.5, mode="wrap")
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


def grain(seed: int, kind: int, x: Field, y: Field, z: Field, step: tuple[float, float, float]) -> Field:
    """Standard normal noise at points, correlated over about 1.5 times `step` mm along each axis.

    Each `kind` of tissue reads the block from another place.
    """
    block = _block(seed)
    low: list[NDArray[np.int32]] = []
    part: list[Field] = []
    for axis, s in zip((x, y, z), step, strict=True):
        place = axis * np.float32(1 / s) + np.float32(17.37 * kind)
        floor = np.floor(place)
        low.append(floor.astype(np.int32) & (_SIZE - 1))
        part.append((place - floor).astype(np.float32))
    # flat indices: several times faster than indexing with three arrays
    flat = block.ravel()
    i0, i1 = low[0] * (_SIZE * _SIZE), ((low[0] + 1) & (_SIZE - 1)) * (_SIZE * _SIZE)
    j0, j1 = low[1] * _SIZE, ((low[1] + 1) & (_SIZE - 1)) * _SIZE
    k0, k1 = low[2], (low[2] + 1) & (_SIZE - 1)
    a, b, c = part
    near = (flat[i0 + j0 + k0] * (1 - c) + flat[i0 + j0 + k1] * c) * (1 - b)
    near += (flat[i0 + j1 + k0] * (1 - c) + flat[i0 + j1 + k1] * c) * b
    far = (flat[i1 + j0 + k0] * (1 - c) + flat[i1 + j0 + k1] * c) * (1 - b)
    far += (flat[i1 + j1 + k0] * (1 - c) + flat[i1 + j1 + k1] * c) * b
    return np.asarray(near * (1 - a) + far * a, dtype=np.float32)
