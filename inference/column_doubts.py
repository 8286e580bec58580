"""Doubts about the column from the sagittal slices: slip, curve to the side, wedged bodies, dark marrow, filled canal, extra segments.

Lengths are measured in the frame of each disc (its normal, and the direction from its front to its back) on the labels of the slices
near the middle of the column. Limits: configs/competence.toml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from configs import anatomy
from dicom_io.geometry import FloatArray, Volume
from dicom_io.study import Stack
from inference.axial_doubts import largest_area, median_of, picture_code
from inference.competence import ALL, STENOSIS, Doubt, beside, competence
from inference.image_quality import PictureQuality, picture_quality
from inference.localize import Disc, Localization
from inference.segment import AxialReading

_NEAR_MM = 7.0
"""Slices so near to the middle of the column are measured."""
_WALL_MM = (2.0, 9.0)
"""Distance from a disc's surface in which the posterior wall of the body beside it is looked for."""
_FEW = 12
_FAT_MM, _FAT_SEEN_MM = 5.0, (8.0, 24.0)
"""From so far behind the wall fat is counted, and between these distances the brightest of it is looked for, which ends both."""
_FAT_STEP_MM, _FAT_PERCENTILE = 0.5, 85.0
_FAT_PART = (0.0, 0.8)
"""Part of the way from a disc to the next above: most fat lies behind the disc and the lower part of the body."""
_REACH_MM = 50.0
"""Half of the field about a disc in which voids are looked for."""


@dataclass(frozen=True)
class ColumnMeasures:
    """What was measured of the column, by name of a disc (slip, void) or of the disc below a body (the others)."""

    slip_mm: Mapping[str, float]
    wedge: Mapping[str, float]
    canal: Mapping[str, float]
    marrow: Mapping[str, float]
    fat_mm: Mapping[str, float]
    void_mm2: Mapping[str, float]
    bend_deg: float
    remnant: str
    picture: PictureQuality


@dataclass(frozen=True)
class _Labelled:
    """Points (n, 3) in LPS mm of one class near the middle of the column, with grey values (n,)."""

    points: FloatArray
    values: FloatArray


def column_doubts(spine: Localization, stack: Stack, t1: Stack | None) -> tuple[Doubt, ...]:
    """All doubts about the column found in `stack`; `t1` is a sagittal T1 stack of the same study, where there is one."""
    return doubts_of(column_measures(spine, stack, t1))


def doubts_of(measures: ColumnMeasures) -> tuple[Doubt, ...]:
    """Doubts from the measures of a column."""
    limits, found = competence().column, []
    code = picture_code(measures.picture, 0.0, sagittal=True)
    for name, area in measures.void_mm2.items():
        if name in anatomy().levels and area > competence().metal.largest_void_sagittal_mm2:
            found += [
                Doubt("METAL", f"a void of {area:.0f} mm2 at {name} on sagittal slices", level, None, ALL)
                for level in beside(name, competence().metal.levels_beside)
            ]
            found.append(Doubt("POSTOP", f"metal at {name}: operated on, as it seems", name, None, STENOSIS))
    if code is not None:
        found.append(Doubt(code, "sagittal slices", None, None, ("herniation",)))
    if measures.remnant:
        found.append(Doubt("LEVEL_AMBIGUOUS", measures.remnant, None, None, ALL))
    for name, size in measures.slip_mm.items():
        if abs(size) >= limits.slip_mm:
            way = "forward" if size < 0 else "back"
            text = f"the vertebra above {name} lies {abs(size):.0f} mm further {way}"
            found.append(Doubt("SLIP", text, name, None, ("herniation",), ("extrusion", "sequestration")))
    if measures.bend_deg > limits.scoliosis_deg:
        found.append(Doubt("SCOLIOSIS", f"the discs lean to the side by up to {measures.bend_deg:.0f} degrees"))
    usual = float(np.median(list(measures.wedge.values()))) if measures.wedge else 1.0
    for name, ratio in measures.wedge.items():
        if ratio < limits.wedge_ratio and ratio < limits.wedge_to_others * usual:
            text = f"the body above {name} is {ratio:.2f} times as high in front as behind"
            found.append(Doubt("OUTSIDE_SCOPE_FINDING", text, name))
    for values, limit, text in (
        (measures.marrow, limits.marrow_to_disc, "the marrow above {name} gives {ratio:.2f} times the usual T1 signal"),
        (
            measures.canal,
            limits.canal_at_body,
            "the canal behind the body above {name} gives {ratio:.2f} times its usual signal",
        ),
    ):
        middle = float(np.median(list(values.values()))) if len(values) > 2 else 0.0
        for name, value in values.items():
            if middle > 0 and value < limit * middle:
                found.append(Doubt("OUTSIDE_SCOPE_FINDING", text.format(name=name, ratio=value / middle), name))
    for name, ratio in fat_to_neighbours(measures.fat_mm).items():
        if ratio < limits.fat_to_neighbours:
            text = f"behind the body above {name} there is {ratio:.2f} times the fat of its neighbours: something fills the canal"
            found.append(Doubt("OUTSIDE_SCOPE_FINDING", text, name))
    return tuple(found)


def oblique_doubts(doubts: Sequence[Doubt], axial: Sequence[AxialReading]) -> tuple[Doubt, ...]:
    """In a spine that is curved to the side: the levels whose axial slices are too oblique to their discs from left to right."""
    if not any(doubt.code == "SCOLIOSIS" for doubt in doubts):
        return ()
    limit, found = competence().column.oblique_deg, []
    for item in axial:
        normal = item.stack.volume.grid.normal
        lean = abs(_lean(np.asarray(item.disc.normal)) - _lean(normal if normal[2] > 0 else -normal))
        if lean > limit:
            text = f"axial slices lean by {lean:.0f} degrees against {item.disc.name}"
            found.append(Doubt("SCOLIOSIS", text, item.disc.name, None, ("recess_stenosis",)))
    return tuple(found)


def _lean(normal: FloatArray) -> float:
    """How far a normal leans to the patient's left, in degrees."""
    return float(np.degrees(np.arctan2(normal[0], normal[2])))


def column_measures(spine: Localization, stack: Stack, t1: Stack | None) -> ColumnMeasures:
    """Measure the column of `spine` on the labels of its stack."""
    volume, labels = stack.volume, anatomy().sagittal
    parts = {name: _labelled(spine, volume, labels.value(name)) for name in ("vertebra", "canal", "disc")}
    discs = spine.discs
    marrow_stack = t1.volume if t1 is not None else (volume if stack.role == "sagittal_t1" else None)
    return ColumnMeasures(
        slip_mm={disc.name: size for disc in discs if (size := _slip(disc, parts)) is not None},
        wedge={low.name: _wedge(low, high) for low, high in pairwise(discs) if _adjacent(low, high)},
        canal={
            low.name: size for low, high in pairwise(discs) if (size := _canal_signal(low, high, parts)) is not None
        },
        marrow={} if marrow_stack is None else _marrow(discs, marrow_stack),
        fat_mm={} if marrow_stack is None else _epidural_fat(discs, marrow_stack),
        void_mm2={} if marrow_stack is None else _voids(discs, marrow_stack),
        bend_deg=_bend(discs),
        remnant=spine.ambiguous,
        picture=middle_picture(spine, volume),
    )


def _axes(disc: Disc) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centre, normal to the head, and direction to the back within the disc's plane."""
    up = np.asarray(disc.normal, dtype=np.float64)
    back = np.asarray(disc.posterior_margin_lps) - np.asarray(disc.anterior_margin_lps)
    back = back - (back @ up) * up
    return np.asarray(disc.centre_lps, dtype=np.float64), up, back / np.linalg.norm(back)


def _adjacent(low: Disc, high: Disc) -> bool:
    names = list(anatomy().levels)
    if low.name not in names or high.name not in names:
        return False
    return names.index(low.name) - names.index(high.name) == 1


def _labelled(spine: Localization, volume: Volume, value: int) -> _Labelled:
    index = np.argwhere(spine.label_map == value)
    if not len(index) or not spine.discs:
        return _Labelled(np.zeros((0, 3)), np.zeros(0))
    points = volume.grid.to_lps(index.astype(np.float64))
    order = np.argsort([disc.centre_lps[2] for disc in spine.discs])
    z = np.array([spine.discs[i].centre_lps[2] for i in order])
    x = np.array([spine.discs[i].centre_lps[0] for i in order])
    near = np.abs(points[:, 0] - np.interp(points[:, 2], z, x)) <= max(_NEAR_MM, 0.6 * volume.grid.spacing[0])
    return _Labelled(points[near], volume.array[tuple(index[near].T)].astype(np.float64))


def _slip(disc: Disc, parts: Mapping[str, _Labelled]) -> float | None:
    """How much further back (+) or forward (-) the body above the disc ends than the one below, in mm."""
    centre, up, back = _axes(disc)
    walls = []
    for sign in (1.0, -1.0):
        ends = []
        for name in ("vertebra", "canal"):
            offset = parts[name].points - centre
            rise, along = sign * (offset @ up) - disc.height_mm / 2, offset @ back
            inside = (rise > _WALL_MM[0]) & (rise < _WALL_MM[1]) & (np.abs(along) < disc.ap_mm / 2 + 30)
            ends.append(along[inside])
        body, canal = ends
        if len(canal) >= _FEW:
            body = body[body < float(np.percentile(canal, 10)) + 1.0]
        body = body[np.abs(body) < disc.ap_mm / 2 + 12]
        if len(body) < _FEW:
            return None
        walls.append(float(np.percentile(body, 97)))
    return walls[0] - walls[1]


def _wedge(low: Disc, high: Disc) -> float:
    """Anterior over posterior height of the body between two discs."""
    heights = (low.height_mm + high.height_mm) / 2
    front = float(np.linalg.norm(high.anterior_margin_lps - low.anterior_margin_lps)) - heights
    behind = float(np.linalg.norm(high.posterior_margin_lps - low.posterior_margin_lps)) - heights
    return front / max(behind, 1.0)


def _canal_signal(low: Disc, high: Disc, parts: Mapping[str, _Labelled]) -> float | None:
    """Median grey value of what is labelled canal behind the body between two discs."""
    if not _adjacent(low, high):
        return None
    middle = (np.asarray(low.posterior_margin_lps) + np.asarray(high.posterior_margin_lps)) / 2
    up = np.asarray(high.posterior_margin_lps) - np.asarray(low.posterior_margin_lps)
    length = float(np.linalg.norm(up))
    rise = (parts["canal"].points - middle) @ (up / length)
    inside = parts["canal"].values[np.abs(rise) < 0.35 * length]
    return float(np.median(inside)) if len(inside) >= _FEW else 0.0


def _bodies(discs: Sequence[Disc], volume: Volume) -> dict[str, tuple[float, float]]:
    """Median grey value in the core of every body, and in the discs on either side of it."""
    array = volume.array
    out = {}

    def seen(points: FloatArray) -> FloatArray:
        index = volume.grid.to_index(points)
        inside = np.all((index > -0.5) & (index < np.array(array.shape) - 0.5), axis=1)
        rounded = np.rint(index[inside]).astype(int)
        return np.asarray(array[tuple(rounded.T)], dtype=np.float64)

    for low, high in pairwise(discs):
        if not _adjacent(low, high):
            continue
        across = np.linspace(-0.25, 0.25, 9)[:, None] * low.ap_mm
        side = np.array([1.0, 0.0, 0.0])
        _, _, back = _axes(low)
        aside = np.linspace(-5, 5, 3)
        cores, beside_ = [], []
        for a in aside:
            for part in (0.38, 0.5, 0.62):
                middle = np.asarray(low.centre_lps) * (1 - part) + np.asarray(high.centre_lps) * part
                cores.append(seen(middle + a * side + across * back))
            for disc in (low, high):
                beside_.append(seen(np.asarray(disc.centre_lps) + a * side + across * back))
        core, around = np.concatenate(cores), np.concatenate(beside_)
        if len(core) >= _FEW and len(around) >= _FEW:
            out[low.name] = (float(np.median(core)), float(np.median(around)))
    return out


def _marrow(discs: Sequence[Disc], volume: Volume) -> dict[str, float]:
    """T1 signal of every body in shares of the discs beside it: shading of the coil drops out."""
    return {name: core / max(around, 1e-6) for name, (core, around) in _bodies(discs, volume).items()}


def _epidural_fat(discs: Sequence[Disc], volume: Volume) -> dict[str, float]:
    """How much (mm) of the way from the wall of every body to its arch is as bright as fat on T1 slices."""
    depth = np.arange(_FAT_MM, _FAT_SEEN_MM[1], _FAT_STEP_MM)
    profiles = {}
    for low, high in pairwise(discs):
        if not _adjacent(low, high):
            continue
        back = _axes(low)[2] + _axes(high)[2]
        part = np.linspace(*_FAT_PART, 17)[:, None]
        wall = np.asarray(low.posterior_margin_lps) * (1 - part) + np.asarray(high.posterior_margin_lps) * part
        points = wall[:, None] + depth[None, :, None] * back / np.linalg.norm(back)
        index = volume.grid.to_index(points)
        number = round(float(np.median(index[..., 0])))
        if 0 <= number < volume.grid.shape[0]:
            plane = np.asarray(volume.array[number], dtype=np.float32)
            profiles[low.name] = ndimage.map_coordinates(plane, [index[..., 1], index[..., 2]], order=1)
    if not profiles:
        return {}
    seen = depth >= _FAT_SEEN_MM[0]
    bright = np.percentile(np.concatenate([part[:, seen].ravel() for part in profiles.values()]), _FAT_PERCENTILE)
    level = competence().column.fat_bright * float(bright)
    return {name: float((part > level).sum(axis=1).mean()) * _FAT_STEP_MM for name, part in profiles.items()}


def fat_to_neighbours(fat_mm: Mapping[str, float]) -> dict[str, float]:
    """Fat behind every body between two others, in shares of theirs; left out where those have little."""
    names, limits = list(fat_mm), competence().column
    out = {}
    for below, name, above in zip(names, names[1:], names[2:], strict=False):
        usual = (fat_mm[below] + fat_mm[above]) / 2
        if usual > limits.least_fat_mm:
            out[name] = fat_mm[name] / usual
    return out


def _voids(discs: Sequence[Disc], volume: Volume) -> dict[str, float]:
    """Largest area (mm2) without signal about each disc on T1 slices, from its front to behind its joints."""
    limits = competence().metal
    reference = {name: core for name, (core, _) in _bodies(discs, volume).items()}
    if not reference:
        return {}
    usual = float(np.median(list(reference.values())))
    _, row_mm, column_mm = volume.grid.spacing
    reach = np.array([_REACH_MM / row_mm, _REACH_MM / column_mm])
    out = {disc.name: 0.0 for disc in discs}
    for number, plane in enumerate(volume.array):
        smooth = ndimage.gaussian_filter(np.asarray(plane, dtype=np.float32), 0.6)
        for disc in discs:
            centre, up, back = _axes(disc)
            index = volume.grid.to_index(centre[None])[0]
            if abs(index[0] - number) * volume.grid.spacing[0] > limits.lateral_mm:
                continue
            low = np.clip(np.floor(index[1:] - reach), 0, plane.shape).astype(int)
            high = np.clip(np.ceil(index[1:] + reach), 0, plane.shape).astype(int)
            rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]]
            offset = volume.grid.to_lps(np.stack([np.full(rows.shape, float(number)), rows, columns], axis=-1)) - centre
            rise, along = offset @ up, offset @ back
            behind = disc.ap_mm / 2 + limits.posterior_mm - 8
            near = (np.abs(rise) < 20) & (along > 2 - disc.ap_mm / 2) & (along < behind)
            level = limits.dark_sagittal * reference.get(disc.name, usual)
            dark = near & (smooth[low[0] : high[0], low[1] : high[1]] < level)
            if dark.sum() * row_mm * column_mm > limits.largest_void_sagittal_mm2:
                area = largest_area(dark, limits.opening_mm / column_mm, row_mm * column_mm)
                out[disc.name] = max(out[disc.name], area)
    return out


def _bend(discs: Sequence[Disc]) -> float:
    """Largest difference (degrees) between the lateral leans of the lumbar discs: like Cobb's angle."""
    lumbar = [disc for disc in discs if disc.name in anatomy().levels]
    if len(lumbar) < 3:
        return 0.0
    return float(np.ptp([_lean(np.asarray(disc.normal)) for disc in lumbar]))


def middle_picture(spine: Localization, volume: Volume) -> PictureQuality:
    """Picture measures of the three slices about the middle of the column (of the stack, where no column was found)."""
    discs = [disc.source_slice for disc in spine.discs]
    middle = round(float(np.median(discs))) if discs else volume.grid.shape[0] // 2
    chosen = range(max(middle - 1, 0), min(middle + 2, volume.grid.shape[0]))
    _, row_mm, column_mm = volume.grid.spacing
    return median_of([picture_quality(volume.array[number], (row_mm, column_mm)) for number in chosen])
