"""Exact millimetres of a simulated person, level by level and side by side, from the distance functions and never from pixels.

Soft recess depth: least distance along the posterior direction from disc, body or herniated material to bone or flavum, over
the window beside the sac and over planes 1 mm apart from the disc's mid-height to the pedicle's top.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.phantom.anatomy import SIDES, Anatomy
from training.phantom.scene import Scene, obstacle_of, sac_field, solve_scene
from training.phantom.shapes import Field
from training.phantom.tissues import disc_outline, herniation_field, posterior_margin, sap_tip, solids

_COLUMN_STEP = 0.25
_DEPTH_STEP = 0.25
_SAC_SPAN = 6.0
SAC_STEP = 0.4
_ABOVE_PEDICLE = 0.2  # the pedicle begins 0.5 mm under the endplate; the last plane lies just above it


@dataclass(frozen=True)
class SideTruth:
    """One lateral recess: depths in mm, and the two LPS points between which the soft depth lies."""

    side: str
    recess_depth_soft_mm: float
    recess_depth_bony_mm: float
    points_lps: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class HerniationTruth:
    """One focal herniation: side of its centre, zone, type, largest distance beyond the unbulged margin, lateral position."""

    type: str
    zone: str
    side: str
    extent_mm: float
    u_mm: float
    migration_mm: float
    apex_lps: tuple[float, float, float]


@dataclass(frozen=True)
class LevelTruth:
    """All that is true at one disc. `normal` points to the head; areas are the least within 6 mm of the mid-height."""

    name: str
    disc_centre_lps: tuple[float, float, float]
    posterior_margin_lps: tuple[float, float, float]
    normal_lps: tuple[float, float, float]
    left: SideTruth
    right: SideTruth
    herniation: HerniationTruth | None
    bulge_mm: float
    pfirrmann: float
    sac_area_mm2: float
    sac_ap_mm: float
    disc_height_mm: float

    def side(self, name: str) -> SideTruth:
        """The recess of "left" or "right"."""
        return self.left if name == "left" else self.right

    def as_json(self) -> dict[str, Any]:
        """Plain dictionary for truth.json."""
        return asdict(self)


def _point(anatomy: Anatomy, u: float, v: float, t: float) -> tuple[float, float, float]:
    x, y, z = anatomy.curve.to_lps(np.array([u, v, t]))
    return float(x), float(y), float(z)


@lru_cache(maxsize=256)
def recess_window(scene: Scene, index: int, side: int) -> tuple[float, float, float, float]:
    """Lateral range (away from the midline) and range along the canal (top, bottom) in which the soft depth is taken."""
    anatomy = scene.anatomy
    settings = anatomy.settings.recess
    disc, lower = anatomy.discs[index], anatomy.vertebrae[index + 1]
    low = settings.window_sac_fraction * disc.sac_width / 2
    tip_u, tip_v = sap_tip(disc.facet(side))
    us, v = np.meshgrid(
        np.arange(tip_u - 8, tip_u + 6, 0.1, dtype=np.float32), np.arange(tip_v - 7, tip_v + 7, 0.25, dtype=np.float32)
    )
    t = np.full_like(us, disc.t)
    # measured on the superior process as it is, with its spur
    fields = solids(anatomy, us * np.float32(side) + np.float32(disc.arch_u), v, t, level=index)
    inside = (fields["sap"] < 0).any(axis=0)
    tip = float(us[0, np.argmax(inside)]) if inside.any() else tip_u
    edge = tip + side * disc.arch_u + settings.window_beyond_tip
    return min(low, edge - 1.0), edge, disc.t, lower.top - _ABOVE_PEDICLE


def _recess(scene: Scene, index: int, side: int) -> tuple[float, float, Field]:
    """Soft depth, bony depth, and (u, v front, v back, t) of the soft one."""
    anatomy = scene.anatomy
    low, high, top, bottom = recess_window(scene, index, side)
    settings = anatomy.settings.recess
    planes = np.append(np.arange(top, bottom, -settings.plane_step), bottom).astype(np.float32)
    columns = np.linspace(low, high, max(int((high - low) / _COLUMN_STEP), 4) + 1, dtype=np.float32)
    depth = np.arange(-14, settings.deepest + 8, _DEPTH_STEP, dtype=np.float32)
    t, us, v = np.meshgrid(planes, columns, depth, indexing="ij")
    shape = t.shape
    f = solids(anatomy, (us * side).ravel(), v.ravel(), t.ravel(), level=index)
    solid = np.minimum(f["disc"], np.minimum(f["hernia"], f["body"])).reshape(shape)
    back = np.minimum(f["bone"], f["flavum"]).reshape(shape)
    posterior = (back < 0) & (v > -4)
    hit = posterior.any(-1)
    first = np.where(hit, posterior.argmax(-1), shape[-1] - 1)
    rank = np.arange(shape[-1])
    front = (solid < 0) & (rank <= first[..., None])
    any_front = front.any(-1)
    last = shape[-1] - 1 - front[..., ::-1].argmax(-1)
    best = (float(settings.deepest), np.array([high * side, 0, settings.deepest, top], dtype=np.float32))
    i, j = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    v_back = _crossing(back, depth, first - 1, i, j)
    v_front = _crossing(solid, depth, last, i, j)
    gap = np.where(hit & any_front, np.maximum(v_back - v_front, 0), settings.deepest)
    a, b = np.unravel_index(int(gap.argmin()), gap.shape)
    if gap[a, b] < best[0]:
        place = np.array([columns[b] * side, v_front[a, b], v_back[a, b], planes[a]], dtype=np.float32)
        best = (float(gap[a, b]), place)
    sap = f["sap"].reshape(shape)
    outline = np.maximum(f["outline"].reshape(shape), 0)
    # shortest way from the superior process to the unbulged margin; the sum of the distances is least on that way
    bony = float((np.maximum(sap, 0) + outline).min()) if (sap < 4).any() else float(settings.deepest)
    return best[0], bony, best[1]


def _crossing(field: Field, depth: Field, index: NDArray[np.intp], i: NDArray[np.intp], j: NDArray[np.intp]) -> Field:
    """Where the field changes sign between sample `index` and the next, linear in between."""
    k = np.clip(index, 0, len(depth) - 2)
    a, b = field[i, j, k], field[i, j, k + 1]
    part = np.clip(a / np.where(np.abs(a - b) < 1e-6, 1, a - b), 0, 1)
    return np.asarray(depth[k] + part * _DEPTH_STEP, dtype=np.float32)


def sac_cover(scene: Scene, planes: NDArray[np.float64]) -> Field:
    """Share of every cell that the dural sac fills, (planes, N, M), on lattices of SAC_STEP mm across the canal at `planes` along it."""
    axis_u, axis_v = np.arange(-16, 16, SAC_STEP, dtype=np.float32), np.arange(-3, 28, SAC_STEP, dtype=np.float32)
    t, v, u = (
        grid.ravel() for grid in np.meshgrid(np.asarray(planes, dtype=np.float32), axis_v, axis_u, indexing="ij")
    )
    sac = sac_field(scene, u, v, t, obstacle_of(solids(scene.anatomy, u, v, t)))
    return np.clip(0.5 - sac / SAC_STEP, 0, 1).reshape(len(planes), len(axis_v), len(axis_u))


def _sac(scene: Scene, index: int) -> tuple[float, float]:
    cover = sac_cover(scene, np.arange(-_SAC_SPAN, _SAC_SPAN + 0.1, 1.0) + scene.anatomy.discs[index].t)
    area = cover.sum((1, 2)) * SAC_STEP * SAC_STEP
    ap = cover.sum(1).max(1) * SAC_STEP
    return float(area.min()), float(ap.min())


def _herniation(anatomy: Anatomy, index: int) -> HerniationTruth | None:
    disc = anatomy.discs[index]
    h = disc.herniation
    if h is None:
        return None
    u0, v0 = h.u, posterior_margin(disc, h.u)
    reach = h.extent + max(h.base, 4) + 2
    axis = np.arange(-reach, reach, 0.45, dtype=np.float32)
    along = np.arange(-h.half_height, h.half_height, 0.8, dtype=np.float32) + np.float32(h.apex_offset)
    if abs(h.migration) > 0.5:
        along = np.concatenate([along, along + np.float32(h.migration)])
    t, v, u = np.meshgrid(along + np.float32(disc.t), axis + np.float32(v0), axis + np.float32(u0), indexing="ij")
    f = herniation_field(disc, h, u, v, t)
    beyond = np.where(f < 0, disc_outline(disc, u, v) - np.clip(f, -0.45, 0), -99)
    k = int(beyond.argmax())
    side = "midline" if h.zone == "central" and abs(h.u) < 2.0 else ("left" if h.u > 0 else "right")
    apex = _point(anatomy, float(u.ravel()[k]), float(v.ravel()[k]), float(t.ravel()[k]))
    return HerniationTruth(h.type, h.zone, side, float(max(beyond.max(), 0)), h.u, h.migration, apex)


@lru_cache(maxsize=64)
def level_truth(anatomy: Anatomy, level: str) -> LevelTruth:
    """Everything true at the disc `level` of one person. KeyError for an unknown level."""
    scene = solve_scene(anatomy)
    index = anatomy.disc_index(level)
    disc = anatomy.discs[index]
    sides = []
    for side, name in zip(SIDES, ("left", "right"), strict=True):
        soft, bony, place = _recess(scene, index, side)
        u, front, back, t = (float(x) for x in place)
        sides.append(SideTruth(name, soft, bony, (_point(anatomy, u, front, t), _point(anatomy, u, back, t))))
    area, ap = _sac(scene, index)
    _, axes = anatomy.curve.frame(disc.t)
    return LevelTruth(
        name=disc.name,
        disc_centre_lps=_point(anatomy, 0.0, -disc.depth / 2, disc.t),
        posterior_margin_lps=_point(anatomy, 0.0, 0.0, disc.t),
        normal_lps=tuple(float(x) for x in axes[2]),  # type: ignore[arg-type]
        left=sides[0],
        right=sides[1],
        herniation=_herniation(anatomy, index),
        bulge_mm=disc.bulge,
        pfirrmann=disc.pfirrmann,
        sac_area_mm2=area,
        sac_ap_mm=ap,
        disc_height_mm=disc.height_posterior,
    )
