"""Signed distances (mm, negative inside) of the plain shapes that the simulated spine is put together from.

Polynomial smooth minimum after Quilez; superellipse distance (F - 1) / |grad F|. All arrays are float32 of one shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Scalar = float | NDArray[np.floating[Any]]
_TINY = np.float32(1e-6)


def smooth_min(a: Field, b: Field, k: float) -> Field:
    """Union of two solids, rounded over `k` mm; lies up to k/4 below both."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h * np.float32(0.25 / k)


def smooth_max(a: Field, b: Field, k: float) -> Field:
    """Intersection of two solids, rounded over `k` mm; lies up to k/4 above both."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0)
    return np.maximum(a, b) + h * h * np.float32(0.25 / k)


def superellipse(x: Field, y: Field, a: Scalar, b: Scalar, n: float) -> Field:
    """|x/a|^n + |y/b|^n = 1, half axes `a`, `b` in mm (numbers or arrays)."""
    p = np.abs(x) / a + _TINY
    q = np.abs(y) / b + _TINY
    pn, qn = p ** np.float32(n - 1), q ** np.float32(n - 1)
    radius = (pn * p + qn * q) ** np.float32(1.0 / n)
    gradient = np.sqrt((pn / a) ** 2 + (qn / b) ** 2) * radius ** np.float32(1 - n)
    return np.asarray((radius - 1) / np.maximum(gradient, _TINY), dtype=np.float32)


def ellipsoid(x: Field, y: Field, z: Field, a: Scalar, b: Scalar, c: Scalar) -> Field:
    """Ellipsoid with half axes `a`, `b`, `c` in mm."""
    p, q, r = x / a, y / b, z / c
    radius = np.sqrt(p * p + q * q + r * r) + _TINY
    gradient = np.sqrt((p / a) ** 2 + (q / b) ** 2 + (r / c) ** 2) / radius
    return np.asarray((radius - 1) / np.maximum(gradient, _TINY), dtype=np.float32)


def capsule(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], r0: float, r1: float) -> Field:
    """Segment from `start` to `end` thickened by a radius that goes from `r0` to `r1` (mm)."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length2 = max(dx * dx + dy * dy, 1e-6)
    px, py = x - np.float32(start[0]), y - np.float32(start[1])
    h = np.clip((px * np.float32(dx) + py * np.float32(dy)) / np.float32(length2), 0, 1)
    qx, qy = px - h * np.float32(dx), py - h * np.float32(dy)
    return np.asarray(np.sqrt(qx * qx + qy * qy) - (np.float32(r0) + h * np.float32(r1 - r0)), dtype=np.float32)


def rounded_box(x: Field, y: Field, hx: Scalar, hy: Scalar, radius: Scalar) -> Field:
    """Rectangle of half sizes `hx`, `hy` with corners of `radius` (mm), centred on the origin."""
    qx = np.abs(x) - (hx - radius)
    qy = np.abs(y) - (hy - radius)
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2)
    return np.asarray(outside + np.minimum(np.maximum(qx, qy), 0) - radius, dtype=np.float32)


def interval(t: Field, low: float, high: float) -> Field:
    """Distance outside the slab low..high (mm)."""
    return np.abs(t - np.float32((low + high) / 2)) - np.float32((high - low) / 2)
