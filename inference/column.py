"""The spinal column in one upright sagittal label map: canal, discs in order, and whether together they look like a column.

Pure geometry on labels (rows head to foot, columns front to back, square pixels). Size limits: `configs/column.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from configs import anatomy, config_path, load_toml

Labels = NDArray[np.integer[Any]]
_EIGHT = np.ones((3, 3), dtype=int)
_BESIDE_MM = 9.0
"""Vertebra that comes so near to a disc or to the canal belongs to the column."""


class ColumnLimits(BaseModel):
    """What a lumbar column may measure, in mm; `configs/column.toml` says where each number comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    disc_area_mm2: tuple[float, float]
    disc_ap_mm: tuple[float, float]
    disc_height_mm: tuple[float, float]
    disc_to_canal_mm: tuple[float, float]
    spacing_mm: tuple[float, float]
    room_filled: float
    missing_disc_ratio: float
    canal_height_mm: float
    canal_ap_mm: tuple[float, float]
    canal_beside_discs: float
    stray: float
    bodies_between: float
    step_ratio: float
    ap_ratio: float
    bend_deg: float
    posterior_gap_mm: float
    min_discs: int
    min_found: float
    lowest_margin_mm: float
    sacral_slope_deg: tuple[float, float]
    least_lordosis_deg: float
    remnant_ap_ratio: float
    remnant_ap: tuple[float, float]
    remnant_height: float
    remnant_gap_mm: float
    promontory_deg: float
    early_bend_deg: float
    body_below_area_mm2: float
    sure_slope_deg: float
    missed_body_share: float
    missed_slope_deg: float
    mid_slab_sigma_mm: float
    disc_half_width_mm: float
    beside_middle_mm: float
    same_disc_mm: float


@cache
def column_limits() -> ColumnLimits:
    """The shipped limits."""
    return load_toml(config_path("column.toml"), ColumnLimits)


@dataclass(frozen=True)
class FlatDisc:
    """One disc in a sagittal slice: pixel mask, centre (row, column), unit vectors to the head and to the back, mm sizes."""

    mask: NDArray[np.bool_]
    centre: NDArray[np.float64]
    up: NDArray[np.float64]
    back: NDArray[np.float64]
    height_mm: float
    ap_mm: float
    posterior: NDArray[np.float64]
    """Point (row, column) of the posterior margin at mid height."""
    anterior: NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """Canal and discs of one slice; discs from the lowest upward. `gaps` are places where one seems to be missing."""

    canal: NDArray[np.bool_]
    canal_front: NDArray[np.float64]
    """Column of the canal's front edge for every row; nan where the canal is not seen or extrapolated."""
    vertebra: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    discs: tuple[FlatDisc, ...]
    gaps: tuple[int, ...]
    """Numbers (from the lowest, 0) of discs above which the next seems to have been missed."""
    spacing_mm: float


def find_column(label_map: Labels, spacing_mm: float) -> Column | None:
    """The column in an upright label map (rows, columns) of sagittal class numbers; None where there is no canal or no disc."""
    labels, limits = anatomy().sagittal, column_limits()
    canal = _canal(label_map == labels.value("canal"), spacing_mm, limits)
    if canal is None:
        return None
    front = _front_edge(canal)
    found = []
    components, count = ndimage.label(label_map == labels.value("disc"))
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        part = components[box] == index
        if not limits.disc_area_mm2[0] <= part.sum() * spacing_mm**2 <= limits.disc_area_mm2[1]:
            continue
        mask = np.zeros(label_map.shape, dtype=bool)
        mask[box] = part
        disc = measure_disc(mask, spacing_mm)
        row = int(np.clip(round(disc.posterior[0]), 0, len(front) - 1))
        distance = (front[row] - disc.centre[1]) * spacing_mm
        if (
            limits.disc_to_canal_mm[0] <= distance <= limits.disc_to_canal_mm[1]
            and disc.ap_mm >= limits.disc_ap_mm[0] / 2
        ):
            found.append(disc)
    del count
    if not found:
        return None
    vertebra = label_map == labels.value("vertebra")
    chain = _longest_chain(sorted(found, key=lambda disc: -disc.centre[0]), vertebra, spacing_mm, limits)
    return Column(canal, front, vertebra, label_map > 0, chain, _gaps(chain, spacing_mm, limits), spacing_mm)


def measure_disc(mask: NDArray[np.bool_], spacing_mm: float) -> FlatDisc:
    """Centre, axes and sizes of one disc from its pixels (principal axes; height = area / length along the disc)."""
    points = np.argwhere(mask).astype(np.float64)
    centre = points.mean(axis=0)
    _, _, axes = np.linalg.svd(points - centre, full_matrices=False)
    back = axes[0] if axes[0][1] > 0 else -axes[0]
    up = np.array([-back[1], back[0]])
    along = (points - centre) @ back
    low, high = np.percentile(along, (1.0, 99.0))
    ap = (high - low + 1.0) * spacing_mm
    height = mask.sum() * spacing_mm**2 / ap
    return FlatDisc(mask, centre, up, back, float(height), float(ap), centre + high * back, centre + low * back)


def column_faults(column: Column | None) -> tuple[str, ...]:
    """Why this is not a lumbar column, in plain words; empty when it looks like one."""
    limits = column_limits()
    if column is None:
        return ("no spinal canal with discs in front of it was found",)
    faults = []
    if len(column.discs) < limits.min_discs:
        faults.append(
            f"only {len(column.discs)} consecutive discs with bodies between them were found in front of a canal"
        )
    aps = np.array([disc.ap_mm for disc in column.discs])
    heights = np.array([disc.height_mm for disc in column.discs])
    if not _within(np.median(aps), limits.disc_ap_mm):
        faults.append(f"the discs are {np.median(aps):.0f} mm from front to back")
    if not _within(np.median(heights), limits.disc_height_mm):
        faults.append(f"the discs are {np.median(heights):.1f} mm high")
    if len(column.discs) > 1:
        steps = np.array(disc_steps(column.discs, column.spacing_mm))
        if not _within(np.median(steps), limits.spacing_mm):
            faults.append(f"the discs follow each other every {np.median(steps):.0f} mm")
    return (*faults, *_canal_faults(column, limits), *_form_faults(column, limits))


def _canal_faults(column: Column, limits: ColumnLimits) -> list[str]:
    rows = np.arange(int(column.discs[-1].centre[0]), int(column.discs[0].centre[0]) + 1)
    depth = column.canal[rows].sum(axis=1) * column.spacing_mm
    if (depth > 0).mean() < limits.canal_beside_discs:
        return ["no canal runs behind the discs over their length"]
    if not _within(np.median(depth[depth > 0]), limits.canal_ap_mm):
        return [f"the canal behind the discs is {np.median(depth[depth > 0]):.0f} mm wide"]
    return []


def _form_faults(column: Column, limits: ColumnLimits) -> list[str]:
    """What a real column has and a chance pattern lacks: bodies between the discs, even sizes and steps, discs across its course."""
    if len(column.discs) < limits.min_discs:
        return []
    form = column_form(column)
    faults = []
    if form["stray"] > limits.stray:
        faults.append("much of what looks like spine lies away from the column")
    if form["bodies_between"] < limits.bodies_between:
        faults.append("no vertebral bodies fill the room between the discs")
    if form["step_ratio"] > limits.step_ratio:
        faults.append("the discs do not follow each other at even distances")
    if form["ap_ratio"] > limits.ap_ratio:
        faults.append("the discs differ too much in length")
    if form["bend_deg"] > limits.bend_deg:
        faults.append("the discs do not lie across the course of the column")
    if form["posterior_gap_mm"] > limits.posterior_gap_mm:
        faults.append("the canal does not run close behind the discs")
    return faults


def column_form(column: Column) -> dict[str, float]:
    """Regularity of a column of two discs or more: see the limits of the same names in `configs/column.toml`."""
    discs, spacing = column.discs, column.spacing_mm
    steps = np.array(disc_steps(discs, spacing))
    # the lowest may be what remains in a sacrum; of one that the upper edge of the picture cuts, only a piece is seen
    aps = np.array([disc.ap_mm for disc in discs[1:] if not disc.mask[0].any()])
    filled, bends = [], []
    for lower, upper in pairwise(discs):
        course = upper.centre - lower.centre
        length = float(np.linalg.norm(course))
        for disc in (lower, upper):
            bends.append(float(np.degrees(np.arccos(np.clip(disc.up @ course / length, -1, 1)))))
        filled.append(_room_filled(lower, upper, column.vertebra, spacing))
    gaps = [canal_gap_mm(disc, column) for disc in discs]
    discs_mask = np.any([disc.mask for disc in discs], axis=0)
    near = ndimage.distance_transform_edt(~(discs_mask | column.canal)) * spacing <= _BESIDE_MM
    pieces, _ = ndimage.label(column.vertebra)
    own = np.isin(pieces, np.setdiff1d(np.unique(pieces[near]), [0])) | discs_mask | column.canal
    return {
        "stray": 1.0 - float((own & column.labelled).sum()) / float(column.labelled.sum()),
        "bodies_between": float(np.median(filled)),
        "step_ratio": float(steps.max() / steps.min()),
        "ap_ratio": float(aps.max() / aps.min()) if len(aps) else 1.0,
        "bend_deg": float(np.median(bends)),
        "posterior_gap_mm": float(np.median(gaps)),
    }


def _room_filled(lower: FlatDisc, upper: FlatDisc, vertebra: NDArray[np.bool_], spacing_mm: float) -> float:
    """Share of the room between two discs that is labelled vertebra."""
    along = np.linspace(0.3, 0.7, 9)[:, None, None] * (upper.centre - lower.centre)
    across = np.linspace(-0.3, 0.3, 9)[None, :, None] * (lower.ap_mm + upper.ap_mm) / 2 / spacing_mm * lower.back
    points = np.rint(lower.centre + along + across).astype(int).reshape(-1, 2)
    inside = np.clip(points, 0, np.array(vertebra.shape) - 1)
    return float(vertebra[inside[:, 0], inside[:, 1]].mean())


def disc_steps(discs: tuple[FlatDisc, ...], spacing_mm: float) -> list[float]:
    """Distances in mm between the centres of neighbouring discs."""
    return [float(np.linalg.norm(upper.centre - lower.centre) * spacing_mm) for lower, upper in pairwise(discs)]


def slope_deg(disc: FlatDisc) -> float:
    """Tilt of a disc against the horizontal of the upright picture, positive when its back lies higher, as at the sacrum."""
    return float(np.degrees(np.arctan2(-disc.back[0], disc.back[1])))


def below_promontory(lowest_deg: float, second_deg: float) -> bool:
    """Whether the lowest disc lies in the sacrum, as the tilts (degrees) of it and of the next tell.

    Tilts grow from disc to disc down to the lumbosacral one; below it, where the sacrum bends back, they grow no more.
    """
    limits = column_limits()
    return second_deg >= limits.sacral_slope_deg[0] and lowest_deg - second_deg < limits.promontory_deg


def bends_above_lowest(lowest_deg: float, second_deg: float, third_deg: float) -> bool:
    """Whether the column bends most above the second disc, not above the lowest, as it does where that one is no lumbosacral disc."""
    limits, bend = column_limits(), (second_deg - third_deg) - (lowest_deg - second_deg)
    return second_deg >= limits.sacral_slope_deg[0] and bend > limits.early_bend_deg


def without_remnant(column: Column) -> Column:
    """The column without what remains of a disc within the sacrum. A column without one comes back itself.

    Such a disc is the lowest, much shorter and lower than the next, and below the promontory. It begins at the canal: what does not is a
    piece of a lumbosacral disc.
    """
    limits, discs = column_limits(), column.discs
    while len(discs) > limits.min_discs and _is_remnant(discs, column, limits):
        discs = discs[1:]
    if discs is column.discs:
        return column
    return replace(column, discs=discs, gaps=_gaps(discs, column.spacing_mm, limits))


def _is_remnant(discs: tuple[FlatDisc, ...], column: Column, limits: ColumnLimits) -> bool:
    lowest, second = discs[:2]
    return (
        lowest.ap_mm < limits.remnant_ap_ratio * second.ap_mm
        and lowest.height_mm < limits.remnant_height * usual_height_mm(discs)
        and canal_gap_mm(lowest, column) < limits.remnant_gap_mm
        and below_promontory(slope_deg(lowest), slope_deg(second))
    )


def usual_height_mm(discs: tuple[FlatDisc, ...]) -> float:
    """Median height of the four discs above the lowest."""
    return float(np.median([disc.height_mm for disc in discs[1:5]]))


def canal_gap_mm(disc: FlatDisc, column: Column) -> float:
    """Distance in mm between a disc's back and the canal's front, whichever lies further back."""
    row = int(np.clip(round(disc.posterior[0]), 0, len(column.canal_front) - 1))
    return float(abs(column.canal_front[row] - disc.posterior[1]) * column.spacing_mm)


def without_lordosis(column: Column) -> bool:
    """Whether the column neither ends at a sacrum nor bends as a lumbar one does: its scope is in doubt."""
    limits = column_limits()
    slopes = [slope_deg(disc) for disc in column.discs]
    return not _within(slopes[0], limits.sacral_slope_deg) and slopes[0] - min(slopes) < limits.least_lordosis_deg


def _within(value: float | np.floating[Any], bounds: tuple[float, float]) -> bool:
    return bool(bounds[0] <= value <= bounds[1])


def _canal(mask: NDArray[np.bool_], spacing_mm: float, limits: ColumnLimits) -> NDArray[np.bool_] | None:
    """The tallest piece labelled canal, with the pieces that continue it above and below."""
    components, count = ndimage.label(mask, structure=_EIGHT)
    if count == 0:
        return None
    boxes = ndimage.find_objects(components)
    heights = [(box[0].stop - box[0].start) * spacing_mm for box in boxes]
    main = int(np.argmax(heights))
    if heights[main] < limits.canal_height_mm:
        return None
    keep = {main + 1}
    rows, columns = np.nonzero(components == main + 1)
    slope = np.polyfit(rows, columns, 2 if np.ptp(rows) * spacing_mm > 80 else 1)
    for index in range(count):
        piece_rows, piece_columns = np.nonzero(components == index + 1)
        outside = piece_rows.min() > rows.max() or piece_rows.max() < rows.min()
        nearest = rows.max() if piece_rows.min() > rows.max() else rows.min()
        far = np.abs(piece_columns.mean() - np.polyval(slope, nearest)) * spacing_mm
        if outside and len(piece_rows) * spacing_mm**2 > 30 and far < 25:
            keep.add(index + 1)
    return np.isin(components, list(keep))


def _front_edge(canal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Column of the canal's front edge per row, carried on straight for rows above and below the canal."""
    rows = np.nonzero(canal.any(axis=1))[0]
    edge = np.argmax(canal[rows], axis=1).astype(np.float64)
    edge = ndimage.median_filter(edge, size=min(9, len(edge)), mode="nearest")
    every = np.arange(canal.shape[0], dtype=np.float64)
    front = np.interp(every, rows, edge)
    reach = min(40, len(rows))
    for part, side in ((rows[:reach], every < rows[0]), (rows[-reach:], every > rows[-1])):
        if reach >= 10:
            chosen = np.isin(rows, part)
            slope = np.clip(np.polyfit(rows[chosen], edge[chosen], 1)[0], -1.5, 1.5)
            anchor = rows[0] if side[0] else rows[-1]
            front[side] = front[anchor] + slope * (every[side] - anchor)
    return front


def _longest_chain(
    discs: list[FlatDisc], vertebra: NDArray[np.bool_], spacing_mm: float, limits: ColumnLimits
) -> tuple[FlatDisc, ...]:
    """Longest run of discs, lowest first, whose neighbours are as far apart as discs are (a single missed one allowed) and have
    a vertebra between them.

    Two pieces nearer than the smallest distance are one broken disc: the larger stays.
    """
    merged: list[FlatDisc] = []
    for disc in discs:
        if merged and np.linalg.norm(disc.centre - merged[-1].centre) * spacing_mm < limits.spacing_mm[0]:
            if disc.mask.sum() > merged[-1].mask.sum():
                merged[-1] = disc
        else:
            merged.append(disc)
    runs: list[list[FlatDisc]] = []
    for disc in merged:
        reach = limits.spacing_mm[1] * limits.missing_disc_ratio
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and np.linalg.norm(disc.centre - last.centre) * spacing_mm <= reach
            and _room_filled(last, disc, vertebra, spacing_mm) >= limits.room_filled
        ):
            runs[-1].append(disc)
        else:
            runs.append([disc])
    return tuple(runs[int(np.argmax([len(run) for run in runs]))])


def _gaps(discs: tuple[FlatDisc, ...], spacing_mm: float, limits: ColumnLimits) -> tuple[int, ...]:
    steps = disc_steps(discs, spacing_mm)
    usual = float(np.median(steps)) if steps else 0.0
    return tuple(i for i, step in enumerate(steps) if step > limits.missing_disc_ratio * usual)
