"""What has to be solved once per person: how the dural sac and the free nerve roots give way to disc, flavum and bone.

The sac moves away from obstacles and takes up free space until it has kept its share of the area (tables per mm along the canal); roots are
pushed to the nearest place with room, and flattened where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import tan

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from training.phantom.anatomy import Anatomy, RootDraw
from training.phantom.shapes import Field, smooth_max, superellipse
from training.phantom.tissues import solids

_DURA_GAP = 0.35
_SAC_K = 1.6
_STATION = 1.5
_ROOT_STEPS = 14


@dataclass(frozen=True, eq=False)
class SacTable:
    """Per station along the canal: half width, AP, centre v, shift u and v, growth (mm)."""

    start: float
    step: float
    table: NDArray[np.float32]

    def at(self, t: Field) -> Field:
        """Rows (..., 6) at positions t."""
        place = np.clip((t - np.float32(self.start)) / np.float32(self.step), 0, len(self.table) - 1.001)
        index = place.astype(np.int32)
        part = (place - index)[..., None].astype(np.float32)
        return np.asarray(self.table[index] * (1 - part) + self.table[index + 1] * part, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class RootTube:
    """One root from the sac to beyond the foramen: t (growing), u, v, radius, flattening per station."""

    name: str
    side: int
    t: NDArray[np.float32]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    radius: NDArray[np.float32]
    flat: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scene:
    """A person with the sac and the roots in place."""

    anatomy: Anatomy
    sac: SacTable
    roots: tuple[RootTube, ...]


def rest_sac(rows: Field, u: Field, v: Field) -> Field:
    """Undeformed sac at table rows (..., 6): wider in front."""
    half, ap = rows[..., 0], rows[..., 1]
    x = u - rows[..., 3]
    y = v - rows[..., 2] - rows[..., 4]
    wide = half * (1 - np.float32(0.16) * np.clip(y / (ap / 2), -1.3, 1.3))
    return superellipse(x, y, wide, ap / 2, 2.5) - rows[..., 5]


def sac_field(scene: Scene, u: Field, v: Field, t: Field, obstacle: Field) -> Field:
    """Dural sac: the moved and grown rest shape, cut back to the free space."""
    f = rest_sac(scene.sac.at(t), u, v)
    end = np.float32(scene.anatomy.sac_end) - t
    return smooth_max(smooth_max(f, np.float32(_DURA_GAP) - obstacle, _SAC_K), end, 3.0)


def obstacle_of(fields: dict[str, Field]) -> Field:
    """Nearest of disc, herniated material, body, bone and flavum, and of a lesion where there is one."""
    names = ("disc", "hernia", "body", "bone", "flavum", "joint", *(("lesion",) if "lesion" in fields else ()))
    return np.minimum.reduce([fields[name] for name in names])


def _rest_tables(anatomy: Anatomy) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stations and rest (half width, AP, centre v) along the canal, from the discs and the pedicle heights between them."""
    rows = []
    for i, disc in enumerate(anatomy.discs):
        rows.append((disc.t, disc.sac_width / 2, disc.sac_ap, disc.anterior_fat + disc.sac_ap / 2))
        if i + 1 < len(anatomy.discs):
            vertebra, lower = anatomy.vertebrae[i + 1], anatomy.discs[i + 1]
            ap = min(0.5 * (disc.sac_ap + lower.sac_ap), vertebra.canal_ap - 1.0)
            fat = 0.4 * (disc.anterior_fat + lower.anterior_fat) + 0.6
            half = min(0.25 * (disc.sac_width + lower.sac_width), vertebra.interpedicular / 2 - 2)
            rows.append(((vertebra.top + vertebra.bottom) / 2, half, ap, fat + ap / 2))
    table = np.array(sorted(rows))
    stations = np.arange(table[0, 0] - 30, table[-1, 0] + 40, _STATION)
    values = PchipInterpolator(table[:, 0], table[:, 1:])(np.clip(stations, table[0, 0], table[-1, 0]))
    return stations, values


@lru_cache(maxsize=8)
def solve_scene(anatomy: Anatomy) -> Scene:
    """Place sac and roots of one person. Levels above L1-L2 keep the rest shape."""
    stations, rest = _rest_tables(anatomy)
    table = np.zeros((len(stations), 6), dtype=np.float32)
    table[:, :3] = rest
    upper = anatomy.discs[4].t + 14
    lower = anatomy.vertebrae[anatomy.settings.vertebrae.index("S1")].bottom
    active = np.nonzero((stations > lower) & (stations < upper))[0]
    table[active, 3:6] = _give_way(anatomy, stations[active], table[active])
    table[:, 3:6] = gaussian_filter1d(table[:, 3:6], 1.2, axis=0)
    scene = Scene(anatomy, SacTable(float(stations[0]), _STATION, table), ())
    return Scene(anatomy, scene.sac, _place_roots(scene))


def _give_way(anatomy: Anatomy, stations: NDArray[np.float64], rows: Field) -> Field:
    """Shift u, shift v and growth per station, all stations at once on a 0.8 mm lattice."""
    axis_u = np.arange(-15, 15.1, 0.8, dtype=np.float32)
    axis_v = np.arange(-3, 26.1, 0.8, dtype=np.float32)
    t, v, u = np.meshgrid(stations.astype(np.float32), axis_v, axis_u, indexing="ij")
    shape = t.shape
    obstacle = obstacle_of(solids(anatomy, u.ravel(), v.ravel(), t.ravel())).reshape(shape)
    grad_v = np.gradient(obstacle, 0.8, axis=1)
    grad_u = np.gradient(obstacle, 0.8, axis=2)
    at = [rows[:, j][:, None, None] for j in range(6)]
    cell = 0.8 * 0.8

    def shape_at(du: Field, dv: Field) -> Field:
        full = np.stack(np.broadcast_arrays(at[0], at[1], at[2], du[:, None, None], dv[:, None, None], 0 * at[0]), -1)
        return rest_sac(full.astype(np.float32), u, v)

    n = len(stations)
    du, dv = np.zeros(n, dtype=np.float32), np.zeros(n, dtype=np.float32)
    area0 = np.clip(0.5 - shape_at(du, dv) / 0.8, 0, 1).sum((1, 2)) * cell
    for _ in range(6):
        inside = np.clip(0.5 - shape_at(du, dv) / 0.8, 0, 1)
        overlap = inside * np.clip(_DURA_GAP - obstacle, 0, 4)
        weight = overlap.sum((1, 2)) + 1e-3
        depth = np.minimum(overlap.max((1, 2)), 1.2) * 0.5
        gu, gv = (overlap * grad_u).sum((1, 2)) / weight, (overlap * grad_v).sum((1, 2)) / weight
        length = np.maximum(np.hypot(gu, gv), 1e-3)
        moves = np.where(weight > 0.05, depth, 0)
        du, dv = du + moves * gu / length, dv + moves * gv / length
    base = shape_at(du, dv)
    free = _DURA_GAP - obstacle
    grow = np.zeros(n, dtype=np.float32)
    first = np.clip(0.5 - smooth_max(base, free, _SAC_K) / 0.8, 0, 1).sum((1, 2)) * cell
    wanted = area0 * (1 - 0.8 * np.clip(1 - first / np.maximum(area0, 1), 0, 1))
    for delta in (0.4, 0.8, 1.2, 1.6, 2.0):
        area = np.clip(0.5 - smooth_max(base - grow[:, None, None], free, _SAC_K) / 0.8, 0, 1).sum((1, 2)) * cell
        grow = np.where(area < wanted, np.float32(delta), grow)
    return np.stack([du, dv, grow], -1).astype(np.float32)


def _place_roots(scene: Scene) -> tuple[RootTube, ...]:
    """Lay all roots along their rest paths, then let the parts outside the sac find room, all at once."""
    paths = [_rest_path(scene, root) for root in scene.anatomy.roots]
    t, u, v, radius, free = (np.concatenate([path[j] for path in paths]) for j in range(5))
    du, dv, flat = np.zeros_like(u), np.zeros_like(v), np.ones_like(u)
    chosen = np.nonzero(free > 0)[0]
    if len(chosen):
        du[chosen], dv[chosen], flat[chosen] = _make_room(scene, t[chosen], u[chosen], v[chosen], radius[chosen])
    tubes, start = [], 0
    for root, path in zip(scene.anatomy.roots, paths, strict=True):
        part = slice(start, start + len(path[0]))
        start = part.stop
        moved_u, moved_v = u[part] + gaussian_filter1d(du[part], 1.0), v[part] + gaussian_filter1d(dv[part], 1.0)
        name = scene.anatomy.vertebrae[root.vertebra].name
        tubes.append(
            RootTube(name, root.side, t[part], moved_u, moved_v, radius[part], gaussian_filter1d(flat[part], 1.0))
        )
    return tuple(tubes)


def _rest_path(scene: Scene, root: RootDraw) -> tuple[Field, Field, Field, Field, Field]:
    """t (growing, 1 mm apart), u, v, radius and whether the root lies free beside the sac, from sac to beyond the foramen."""
    anatomy = scene.anatomy
    k = root.vertebra
    crossed, vertebra = anatomy.discs[k - 1], anatomy.vertebrae[k]
    exit_t = crossed.t + root.exit_offset
    sac = scene.sac.at(np.array([exit_t], dtype=np.float32))[0]
    pedicle = vertebra.top - 0.5 * vertebra.pedicle_height
    below = vertebra.top - vertebra.pedicle_height - 3.0
    inner = vertebra.interpedicular / 2
    start_u = 0.80 * float(sac[0]) + root.lateral_jitter * 0.5
    start_v = float(sac[2] - 0.22 * sac[1]) + root.posterior_jitter * 0.4
    # 26 degrees from the midline on average while still wrapped in the sac's corner (coronal take-off of L5)
    drift = 6 * tan(0.45) * 0.5
    points = [
        (exit_t + 6, start_u - drift, start_v + 0.8, root.radius * 0.7),
        (exit_t, start_u, start_v, root.radius * 0.9),
        (pedicle, inner - root.radius - 0.9, 4.3 + root.posterior_jitter * 0.5, root.radius),
        (below, inner + 0.35 * vertebra.pedicle_width, 3.0, root.ganglion_radius),
    ]
    if vertebra.name.startswith("L"):
        lower = anatomy.discs[k]
        reach, back = (4.0, -6.0) if vertebra.name == "L5" else (2.0, -1.5)
        points.append((lower.t, lower.width / 2 + reach, back, root.ganglion_radius * 0.95))
        points.append((lower.t - 16, lower.width / 2 + reach + 8, -10.0, root.radius))
    else:
        points.append((below - 12, inner + 0.5 * vertebra.pedicle_width, -2.0, root.radius * 0.9))
    table = np.array(sorted(points))
    for j in range(1, len(table)):
        table[j, 0] = max(table[j, 0], table[j - 1, 0] + 1.0)
    t = np.arange(table[0, 0], table[-1, 0], 1.0)
    values = PchipInterpolator(table[:, 0], table[:, 1:])(t).astype(np.float32)
    free = ((t < exit_t - 1) & (t > pedicle - 2)).astype(np.float32)
    return t.astype(np.float32), root.side * values[:, 0], values[:, 1], values[:, 2], free


def _make_room(scene: Scene, t: Field, u: Field, v: Field, radius: Field) -> tuple[Field, Field, Field]:
    """Shift u, shift v and flattening: march away from obstacles and sac; flatten where no place is wide enough."""
    pu, pv = u.copy(), v.copy()

    def clearance(a: Field, b: Field) -> Field:
        obstacle = obstacle_of(solids(scene.anatomy, a, b, t))
        return np.minimum(obstacle, sac_field(scene, a, b, t, obstacle))

    room = radius + np.float32(0.15)
    best_u, best_v, best = pu, pv, np.full_like(pu, -99)
    for _ in range(_ROOT_STEPS):
        c = clearance(pu, pv)
        better = c > best
        best_u, best_v, best = np.where(better, pu, best_u), np.where(better, pv, best_v), np.where(better, c, best)
        if bool(np.all(best >= room)):
            break
        gu = clearance(pu + np.float32(0.3), pv) - c
        gv = clearance(pu, pv + np.float32(0.3)) - c
        length = np.maximum(np.hypot(gu, gv), np.float32(0.02))
        move = np.where(c < room, np.float32(0.45), 0)
        pu, pv = pu + move * gu / length, pv + move * gv / length
    return best_u - u, best_v - v, np.clip(best / radius, 0.35, 1.0)


def root_field(scene: Scene, u: Field, v: Field, t: Field) -> Field:
    """Distance to the roots outside the sac, ganglia and exiting parts included."""
    out = np.full(t.shape, np.float32(99), dtype=np.float32)
    low, high = float(t.min()), float(t.max())
    for tube in scene.roots:
        if tube.t[0] > high or tube.t[-1] < low:
            continue
        near = (t >= tube.t[0]) & (t <= tube.t[-1]) & (u * tube.side > 0) & (np.abs(v) < 16)
        if not near.any():
            continue
        tn = t[near]
        squeeze = np.sqrt(np.interp(tn, tube.t, tube.flat)).astype(np.float32)
        x = u[near] - np.interp(tn, tube.t, tube.u).astype(np.float32)
        y = v[near] - np.interp(tn, tube.t, tube.v).astype(np.float32)
        radius = np.interp(tn, tube.t, tube.radius).astype(np.float32)
        out[near] = np.minimum(out[near], (np.sqrt((x * squeeze) ** 2 + (y / squeeze) ** 2) - radius) * squeeze)
    return out
