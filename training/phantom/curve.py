"""The line along the posterior vertebral margin, its frames, and the way from a point in LPS mm to (lateral, posterior, along).

Tangents are the discs' normals; between discs the sagittal angle is interpolated monotonically (PCHIP).
Newton steps solve (p - C(t)) . w(t) = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

_STEP = 0.5
_NEWTON_STEPS = 5
_LEAST_SLOPE = 0.35  # behind the centre of curvature planes cross; the step is bounded there


@dataclass(frozen=True, eq=False)
class SpineCurve:
    """Points C(t) and frames on a table of t (mm, growing to the head); columns C, u, v, w and dw/dt."""

    start: float
    table: NDArray[np.float32]

    @property
    def end(self) -> float:
        """Largest t of the table (mm)."""
        return self.start + (len(self.table) - 1) * _STEP

    def at(self, t: NDArray[Any] | float) -> NDArray[np.float32]:
        """Rows of the table (..., 15) at positions t (mm), linear between entries."""
        place = (np.asarray(t, dtype=np.float32) - np.float32(self.start)) * np.float32(1 / _STEP)
        place = np.clip(place, 0, len(self.table) - 1.001)
        index = place.astype(np.int32)
        part = (place - index)[..., None]
        return np.asarray(self.table[index] * (1 - part) + self.table[index + 1] * part, dtype=np.float32)

    def frame(self, t: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Point (3,) and rotation (3, 3) with rows lateral (patient left), posterior, cranial at t."""
        row = self.at(t).astype(np.float64)
        axes = row[3:12].reshape(3, 3)
        w = axes[2] / np.linalg.norm(axes[2])
        u = axes[0] - (axes[0] @ w) * w
        u /= np.linalg.norm(u)
        return row[:3], np.stack([u, np.cross(w, u), w])

    def to_lps(self, uvt: NDArray[Any]) -> NDArray[np.float64]:
        """LPS mm (..., 3) of points (..., 3) given as lateral, posterior, along (mm)."""
        row = self.at(uvt[..., 2]).astype(np.float64)
        return row[..., :3] + uvt[..., :1] * row[..., 3:6] + uvt[..., 1:2] * row[..., 6:9]

    def to_uvt(self, lps: NDArray[Any]) -> NDArray[np.float32]:
        """Lateral (+ patient left), posterior and along-canal coordinates (..., 3) of LPS points (..., 3), all mm."""
        points = np.asarray(lps, dtype=np.float32)
        z = self.table[:, 2]
        grid = self.start + _STEP * np.arange(len(self.table))
        t = np.interp(points[..., 2], z, grid).astype(np.float32)
        for _ in range(_NEWTON_STEPS):
            row = self.at(t)
            away = points - row[..., :3]
            height = (away * row[..., 9:12]).sum(-1)
            slope = 1 - (away * row[..., 12:15]).sum(-1)
            t = t + np.clip(height / np.maximum(slope, _LEAST_SLOPE), -20, 20)
        row = self.at(t)
        away = points - row[..., :3]
        # beyond the ends of the table the last frame goes on straight
        height = (away * row[..., 9:12]).sum(-1)
        t = np.clip(t, self.start, self.end) + height
        return np.stack([(away * row[..., 3:6]).sum(-1), (away * row[..., 6:9]).sum(-1), t], -1).astype(np.float32)


def spine_curve(
    disc_t: NDArray[np.float64],
    disc_angle: NDArray[np.float64],
    *,
    scoliosis_mm: float,
    span: tuple[float, float],
    coupled_rotation: float,
    rotation: float,
    origin: NDArray[np.float64],
) -> SpineCurve:
    """Curve whose planes at `disc_t` (mm, growing) are tilted forward by `disc_angle` (radians).

    `scoliosis_mm` is the lateral amplitude over `span`, `coupled_rotation` radians of axial rotation per mm of it,
    `rotation` a constant axial rotation; `origin` is the LPS point at the middle of `span`.
    """
    t = np.arange(disc_t[0] - 60, disc_t[-1] + 60 + _STEP / 2, _STEP)
    angle = PchipInterpolator(disc_t, disc_angle)(np.clip(t, disc_t[0], disc_t[-1]))
    lateral = scoliosis_mm * np.sin(np.pi * (t - span[0]) / (span[1] - span[0]))
    slope = np.gradient(lateral, _STEP)
    w = np.stack([slope, -np.sin(angle), np.cos(angle)], -1)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    centre = np.concatenate([np.zeros((1, 3)), np.cumsum((w[1:] + w[:-1]) * (_STEP / 2), axis=0)])
    middle = int(np.argmin(np.abs(t - (span[0] + span[1]) / 2)))
    centre = centre - centre[middle] + origin
    roll = rotation + coupled_rotation * lateral
    u = np.tile([1.0, 0.0, 0.0], (len(t), 1))
    u -= (u * w).sum(1, keepdims=True) * w
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(w, u)
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    u, v = cos * u + sin * v, cos * v - sin * u
    table = np.concatenate([centre, u, v, w, np.gradient(w, _STEP, axis=0)], axis=1).astype(np.float32)
    return SpineCurve(float(t[0]), table)
