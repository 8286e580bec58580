"""Millimetres at one disc from the probabilities of its axial slices: recess depth per side, dural sac, herniated material.

Lengths are sums of probabilities times the pixel (sub-pixel), along the disc's posterior direction; definitions: the soft
recess depth is the least free anteroposterior distance between disc or body and facet or flavum, beside the sac. The depth
itself comes from the recess network where it took part. Numbers that carry label extents to mm stand in the model's card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs import grading
from inference.herniation import Herniation, measure_herniation
from inference.report import Measurement
from inference.segment import AxialReading, AxialSlice, reading
from inference.sizes import MEMBER, Missing, Size, carried, column_extents, slices_between, standard_deviation

Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = ("left", "right")
_GAP = Missing("SLICE_MISSING", "slice gap too large")
_EDGE_MM = 1.2
"""So much of an outlined recess at either end is its tapering edge: no depth is drawn there."""


@dataclass(frozen=True)
class Canal:
    """Dural sac: least area and least anteroposterior diameter over the slices near the disc."""

    area: Size
    ap: Size


@dataclass(frozen=True)
class LevelSizes:
    """Everything measured at one disc; what could not be measured says why."""

    recess: Mapping[str, Size | Missing]
    canal: Canal | Missing
    herniation: Herniation | Missing


def measure_level(axial: AxialReading, constants: Mapping[str, float]) -> LevelSizes:
    """Measure one disc. `constants` are those of the model's card (names `canal_area.*`, `canal_ap.*`, `herniation.*`)."""
    barrier = _barrier(axial)
    if barrier is not None:
        return LevelSizes(dict.fromkeys(SIDES, barrier), barrier, barrier)
    gap = slice_gap(axial)
    canal = gap or measure_canal(axial, constants)
    if axial.disc.name not in reading().levels.taught:
        unread = Missing("OOD", "out-of-distribution input")
        return LevelSizes(dict.fromkeys(SIDES, unread), canal, unread)
    herniation = gap or measure_herniation(axial, constants)
    recess: dict[str, Size | Missing] = {side: measure_recess(axial, side, constants) for side in SIDES}
    return LevelSizes(_beside_herniation(recess, herniation), canal, herniation)


def _beside_herniation(
    recess: dict[str, Size | Missing], herniation: Herniation | Missing
) -> dict[str, Size | Missing]:
    """The depths, but not that of a large herniation's side where it is no less than the other's: one of both is wrong.

    Where either is severely narrow both stay: their order is then wrong by little, if at all.
    """
    if (
        isinstance(herniation, Missing)
        or herniation.type not in {"protrusion", "extrusion"}
        or herniation.zone == "extraforaminal"
        or herniation.side not in SIDES
        or herniation.extent.value < reading().recess.herniation_narrows_mm
    ):
        return recess
    here, there = recess[herniation.side], recess["right" if herniation.side == "left" else "left"]
    narrow = grading().recess.severe_at_or_below
    if isinstance(here, Size) and isinstance(there, Size) and here.value >= there.value > narrow:
        return {**recess, herniation.side: Missing("MM_IMPLAUSIBLE", "measures disagree")}
    return recess


def _barrier(axial: AxialReading) -> Missing | None:
    """What forbids every millimetre at this disc: slices too oblique, too undecided, or showing no disc."""
    settings = reading()
    if not axial.slices:
        return Missing("NOT_COVERED", "axial slices do not cover the level")
    if axial.slices[0].tilt_deg > settings.slices.largest_tilt_deg:
        return Missing("ORIENTATION_CONFLICT", "axial slices do not cover the level")
    if axial.recentred_mm > settings.window.largest_recentring_mm:
        return Missing("PLANES_DISAGREE", "measures disagree")
    disc = [axial.channel("disc"), axial.channel("herniated_material")]
    # an oblique block cuts the disc over many slices, a band in each: the best one counts, wherever it meets the canal
    largest = max(float(item.probabilities[disc].sum()) * item.window.pixel_mm**2 for item in axial.slices)
    if largest < settings.quality.smallest_disc_mm2:
        return Missing("OOD", "out-of-distribution input")
    if min(item.canal_entropy for item in axial.slices) > settings.quality.largest_entropy:
        return Missing("LOW_QUALITY", "out-of-distribution input")
    return None


def coverage(axial: AxialReading) -> Missing | None:
    """Why the recess range of a disc is not covered by its slices; None when it is."""
    settings = reading().slices
    low, high = settings.recess_mm
    inside = slices_between(axial, low, high)
    if not inside:
        distance = min(
            (max(low - item.offset_mm, item.offset_mm - high) for item in axial.slices), default=float("inf")
        )
        if distance > settings.nearest_mm or len(axial.slices) < 2:
            return Missing("NOT_COVERED", "axial slices do not cover the level")
        return _GAP
    return slice_gap(axial)


def slice_gap(axial: AxialReading) -> Missing | None:
    """Whether slices are missing between those near the disc, where the widest or narrowest place may lie; None when not."""
    settings = reading().slices
    offsets = [
        item.offset_mm for item in axial.slices if settings.recess_mm[0] - settings.largest_gap_mm <= item.offset_mm
    ]
    return _GAP if len(offsets) > 1 and float(np.max(np.diff(offsets))) > settings.largest_gap_mm else None


def label_depth(axial: AxialReading, item: AxialSlice, side: Side) -> float:
    """Least extent (mm) of the recess label over its columns on one slice; 0 where the recess is closed."""
    probability = item.probabilities[axial.channel(f"recess_{side}")]
    member = probability.max(axis=0)
    columns = np.flatnonzero(member > MEMBER)
    if not len(columns):
        return 0.0
    return float(_member_extents(column_extents(probability, item), member, columns).min())


def _member_extents(
    extents: NDArray[np.float64], member: NDArray[np.float32], columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Extents of the member columns, smoothed over three; an edge column counts by its share that belongs."""
    return np.asarray(ndimage.uniform_filter1d(extents[columns] / member[columns], 3, mode="nearest"))


def measure_recess(axial: AxialReading, side: Side, constants: Mapping[str, float]) -> Size | Missing:
    """Soft recess depth of one side, or why it is withheld: from the recess network where it took part, else from its label."""
    settings = reading().recess
    gap = coverage(axial)
    if gap is not None:
        return gap
    if side in axial.depths:
        depth = axial.depths[side]
        value, sd = depth.value, depth.sd
        if abs(depth.readings[0] - depth.readings[1]) > settings.largest_disagreement_mm:
            return Missing("MM_IMPLAUSIBLE", "measures disagree")
    else:
        value = min(label_depth(axial, item, side) for item in slices_between(axial, *reading().slices.recess_mm))
        sd = standard_deviation(constants, "recess")
    if not settings.plausible_mm[0] <= value <= settings.plausible_mm[1]:
        return Missing("MM_IMPLAUSIBLE", "out-of-distribution input")
    if sd > settings.largest_uncertainty_mm:
        return Missing("LOW_QUALITY", "measures disagree")
    inside = slices_between(axial, *reading().slices.recess_mm)
    # the slice whose outlined recess is as deep as what is said: one that shows no recess must not carry a wide one
    shown = min(inside, key=lambda item: abs(label_depth(axial, item, side) - value))
    column, row = _recess_site(axial, shown, side, value)
    half = value / 2 / shown.window.pixel_mm
    points = (shown.window.to_lps(row - half, column), shown.window.to_lps(row + half, column))
    return Size(value, sd, points, shown)


def _recess_site(axial: AxialReading, item: AxialSlice, side: Side, value: float) -> tuple[float, float]:
    """(column, row) of the middle of the outlined column, not at an edge, whose extent is nearest to `value` (mm): a line fits there.

    Where the recess is closed: the middle between disc and facet at the most likely column.
    """
    probability = item.probabilities[axial.channel(f"recess_{side}")]
    outlined = column_extents((probability > MEMBER).astype(np.float32), item)
    columns = np.flatnonzero(outlined)
    member = probability.max(axis=0)
    if len(columns):
        edge = round(_EDGE_MM / item.window.pixel_mm)
        inner = columns[edge : len(columns) - edge] if len(columns) > 2 * edge else columns
        column = int(inner[np.argmin(np.abs(outlined[inner] - value))])
    else:
        column = int(np.argmax(member)) if member.max() > 0.05 else _beside_sac(axial, item, side)
    weight = probability[:, column].astype(np.float64)
    if weight.sum() < 0.05:
        front = item.probabilities[[axial.channel("disc"), axial.channel("herniated_material")]].sum(axis=0)[:, column]
        solid = np.flatnonzero(front > MEMBER)
        return float(column), float(solid.max()) if len(solid) else float(item.window.size / 2)
    return float(column), float((weight * np.arange(len(weight))).sum() / weight.sum())


def _beside_sac(axial: AxialReading, item: AxialSlice, side: Side) -> int:
    sac = np.flatnonzero(item.probabilities[axial.channel("thecal_sac")].max(axis=0) > MEMBER)
    if not len(sac):
        return item.window.size // 2
    step = round(3.0 / item.window.pixel_mm)
    column = int(sac.max()) + step if side == "left" else int(sac.min()) - step
    return int(np.clip(column, 0, item.window.size - 1))


def measure_canal(axial: AxialReading, constants: Mapping[str, float]) -> Canal | Missing:
    """Least dural sac area and AP diameter over the slices near the disc, in the plane of the slice.

    The sac runs between the perpendiculars of slice and disc: on simulated studies tilted by up to 36 degrees, no correction for the
    tilt errs least.
    """
    settings = reading().canal
    inside = slices_between(axial, *reading().slices.canal_mm)
    if not inside:
        return Missing("NOT_COVERED", "axial slices do not cover the level")
    areas, diameters = [], []
    for item in inside:
        probability = item.probabilities[axial.channel("thecal_sac")]
        areas.append(float(probability.sum()) * item.window.pixel_mm**2)
        depth: NDArray[np.float32] = ndimage.uniform_filter1d(probability.sum(axis=0), 3)
        diameters.append(float(depth.max()) * item.window.pixel_mm)
    narrow, thin = int(np.argmin(areas)), int(np.argmin(diameters))
    area = carried(areas[narrow], constants, "canal_area")
    ap = carried(diameters[thin], constants, "canal_ap")
    in_range = settings.plausible_area_mm2[0] <= area <= settings.plausible_area_mm2[1]
    if not in_range or not settings.plausible_ap_mm[0] <= ap <= settings.plausible_ap_mm[1]:
        return Missing("MM_IMPLAUSIBLE", "out-of-distribution input")
    return Canal(
        area=_sac_size(axial, inside[narrow], area, standard_deviation(constants, "canal_area"), across=True),
        ap=_sac_size(axial, inside[thin], ap, standard_deviation(constants, "canal_ap"), across=False),
    )


def _sac_size(axial: AxialReading, item: AxialSlice, value: float, sd: float, *, across: bool) -> Size:
    """A sac measure with the line that shows it: the sac's width (for the area) or its AP diameter, through its middle."""
    probability = item.probabilities[axial.channel("thecal_sac")].astype(np.float64)
    total = max(float(probability.sum()), 1e-6)
    rows, columns = np.mgrid[: item.window.size, : item.window.size]
    row, column = float((probability * rows).sum() / total), float((probability * columns).sum() / total)
    if across:
        half = float(probability.sum(axis=1).max()) / 2
        return Size(value, sd, (item.window.to_lps(row, column - half), item.window.to_lps(row, column + half)), item)
    half = value / 2 / item.window.pixel_mm
    return Size(value, sd, (item.window.to_lps(row - half, column), item.window.to_lps(row + half, column)), item)


def as_measurement(name: str, size: Size, unit: str, cuts: tuple[float, ...], margin: float) -> Measurement:
    """A `Size` as it leaves in the report; borderline when within `margin` of one of `cuts`."""
    first, second = (tuple(float(v) for v in point) for point in size.points)
    return Measurement(
        name=name,
        value=round(size.value, 2),
        unit=unit,
        uncertainty=round(size.sd, 2),
        points_lps=(first, second),
        source_instance=size.slice.instance.sop_instance_uid,
        borderline=any(abs(size.value - cut) <= margin for cut in cuts),
    )
