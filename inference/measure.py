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
from dicom_io.geometry import FloatArray
from inference.report import HerniationType, Measurement, Side, Zone
from inference.segment import AxialReading, AxialSlice, reading

SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_MEMBER = 0.5
"""A column belongs to a structure when some pixel of it is more likely that structure than not."""
_DEFAULT_SD = {"recess": 1.0, "canal_area": 12.0, "canal_ap": 1.0, "herniation": 1.0}
"""Uncertainty (one standard deviation) where the card says nothing."""


@dataclass(frozen=True)
class Missing:
    """A value that cannot be given: stable code and the sentence that is printed."""

    code: str
    reason: str


@dataclass(frozen=True)
class Size:
    """A length in mm or an area in mm2, its standard deviation, the slice and two LPS points that show it."""

    value: float
    sd: float
    points: tuple[FloatArray, FloatArray]
    slice: AxialSlice


@dataclass(frozen=True)
class Canal:
    """Dural sac: least area and least anteroposterior diameter over the slices near the disc."""

    area: Size
    ap: Size


@dataclass(frozen=True)
class Herniation:
    """Focal material beyond the disc margin on axial slices; `type` none when there is too little of it.

    `probability` is the network's, not calibrated; `offset_mm` is lateral from the canal's middle, + to the patient's left;
    `type_uncertain` when base and extent differ by less than can be told.
    """

    type: HerniationType
    type_uncertain: bool
    probability: float
    extent: Size
    base_mm: float
    side: Side
    zone: Zone
    offset_mm: float
    area_mm2: float


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
    return LevelSizes(
        recess={side: measure_recess(axial, side, constants) for side in SIDES},
        canal=measure_canal(axial, constants),
        herniation=measure_herniation(axial, constants),
    )


def _barrier(axial: AxialReading) -> Missing | None:
    """What forbids every millimetre at this disc: slices too oblique, too undecided, or showing no disc."""
    settings = reading()
    if not axial.slices:
        return Missing("NOT_COVERED", "axial slices do not cover the level")
    if axial.slices[0].tilt_deg > settings.slices.largest_tilt_deg:
        return Missing("ORIENTATION_CONFLICT", "axial slices do not cover the level")
    low, high = settings.slices.disc_mm
    near = [item for item in axial.slices if low <= item.offset_mm <= high] or list(axial.slices)
    disc = [axial.channel("disc"), axial.channel("herniated_material")]
    largest = max(float(item.probabilities[disc].sum()) * item.window.pixel_mm**2 for item in near)
    if largest < settings.quality.smallest_disc_mm2:
        return Missing("OOD", "out-of-distribution input")
    if min(canal_entropy(item) for item in near) > settings.quality.largest_entropy:
        return Missing("LOW_QUALITY", "out-of-distribution input")
    return None


def canal_entropy(item: AxialSlice) -> float:
    """Mean entropy (nats) of the class probabilities in the middle of the window, where the canal lies."""
    size = item.window.size
    rows, columns = slice(int(0.45 * size), int(0.85 * size)), slice(int(0.25 * size), int(0.75 * size))
    part = np.clip(item.probabilities[:, rows, columns], 1e-7, 1.0)
    return float(-(part * np.log(part)).sum(axis=0).mean())


def slices_between(axial: AxialReading, low: float, high: float) -> list[AxialSlice]:
    """Slices whose offset lies in low..high mm from the disc's mid-plane."""
    return [item for item in axial.slices if low <= item.offset_mm <= high]


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
        return Missing("SLICE_MISSING", "slice gap too large")
    offsets = [item.offset_mm for item in axial.slices if low - settings.largest_gap_mm <= item.offset_mm]
    if len(offsets) > 1 and float(np.max(np.diff(offsets))) > settings.largest_gap_mm:
        return Missing("SLICE_MISSING", "slice gap too large")
    return None


def column_extents(probability: NDArray[np.float32], item: AxialSlice) -> NDArray[np.float64]:
    """Expected anteroposterior extent (W,) in mm of a structure in every column, along the disc's posterior direction.

    Slices tilted against the disc see the distance stretched by 1 / cos(tilt).
    """
    cosine = float(np.cos(np.radians(item.tilt_deg)))
    extents: NDArray[np.float64] = probability.sum(axis=0).astype(np.float64) * (item.window.pixel_mm * cosine)
    return extents


def label_depth(axial: AxialReading, item: AxialSlice, side: Literal["left", "right"]) -> float:
    """Least extent (mm) of the recess label over its columns on one slice; 0 where the recess is closed."""
    probability = item.probabilities[axial.channel(f"recess_{side}")]
    member = probability.max(axis=0)
    columns = np.flatnonzero(member > _MEMBER)
    if not len(columns):
        return 0.0
    return float(_member_extents(column_extents(probability, item), member, columns).min())


def _member_extents(
    extents: NDArray[np.float64], member: NDArray[np.float32], columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Extents of the member columns, smoothed over three; an edge column counts by its share that belongs."""
    return np.asarray(ndimage.uniform_filter1d(extents[columns] / member[columns], 3, mode="nearest"))


def measure_recess(
    axial: AxialReading, side: Literal["left", "right"], constants: Mapping[str, float]
) -> Size | Missing:
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
        sd = _sd(constants, "recess")
    if not settings.plausible_mm[0] <= value <= settings.plausible_mm[1]:
        return Missing("MM_IMPLAUSIBLE", "out-of-distribution input")
    if sd > settings.largest_uncertainty_mm:
        return Missing("LOW_QUALITY", "measures disagree")
    inside = slices_between(axial, *reading().slices.recess_mm)
    narrowest = min(inside, key=lambda item: label_depth(axial, item, side))
    column, row = _recess_site(axial, narrowest, side)
    half = value / 2 / narrowest.window.pixel_mm
    points = (narrowest.window.to_lps(row - half, column), narrowest.window.to_lps(row + half, column))
    return Size(value, sd, points, narrowest)


def _recess_site(axial: AxialReading, item: AxialSlice, side: Literal["left", "right"]) -> tuple[float, float]:
    """(column, row) of the narrowest place of a recess: the middle of its shortest column.

    Where the recess is closed: the middle between disc and facet at the most likely column.
    """
    probability = item.probabilities[axial.channel(f"recess_{side}")]
    member = probability.max(axis=0)
    columns = np.flatnonzero(member > _MEMBER)
    if len(columns):
        shortest = np.argmin(_member_extents(column_extents(probability, item), member, columns))
        column = int(columns[shortest])
    else:
        column = int(np.argmax(member)) if member.max() > 0.05 else _beside_sac(axial, item, side)
    weight = probability[:, column].astype(np.float64)
    if weight.sum() < 0.05:
        front = item.probabilities[[axial.channel("disc"), axial.channel("herniated_material")]].sum(axis=0)[:, column]
        solid = np.flatnonzero(front > _MEMBER)
        return float(column), float(solid.max()) if len(solid) else float(item.window.size / 2)
    return float(column), float((weight * np.arange(len(weight))).sum() / weight.sum())


def _beside_sac(axial: AxialReading, item: AxialSlice, side: Literal["left", "right"]) -> int:
    sac = np.flatnonzero(item.probabilities[axial.channel("thecal_sac")].max(axis=0) > _MEMBER)
    if not len(sac):
        return item.window.size // 2
    step = round(3.0 / item.window.pixel_mm)
    column = int(sac.max()) + step if side == "left" else int(sac.min()) - step
    return int(np.clip(column, 0, item.window.size - 1))


def measure_canal(axial: AxialReading, constants: Mapping[str, float]) -> Canal | Missing:
    """Least dural sac area (perpendicular to the canal) and AP diameter over the slices near the disc."""
    settings = reading().canal
    inside = slices_between(axial, *reading().slices.canal_mm)
    if not inside:
        return Missing("NOT_COVERED", "axial slices do not cover the level")
    areas, diameters = [], []
    for item in inside:
        probability = item.probabilities[axial.channel("thecal_sac")]
        cosine = float(np.cos(np.radians(item.tilt_deg)))
        areas.append(float(probability.sum()) * item.window.pixel_mm**2 * cosine)
        diameters.append(float(ndimage.uniform_filter1d(column_extents(probability, item), 3).max()))
    narrow, thin = int(np.argmin(areas)), int(np.argmin(diameters))
    area = _carried(areas[narrow], constants, "canal_area")
    ap = _carried(diameters[thin], constants, "canal_ap")
    in_range = settings.plausible_area_mm2[0] <= area <= settings.plausible_area_mm2[1]
    if not in_range or not settings.plausible_ap_mm[0] <= ap <= settings.plausible_ap_mm[1]:
        return Missing("MM_IMPLAUSIBLE", "out-of-distribution input")
    return Canal(
        area=_sac_size(axial, inside[narrow], area, _sd(constants, "canal_area"), across=True),
        ap=_sac_size(axial, inside[thin], ap, _sd(constants, "canal_ap"), across=False),
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


def _carried(value: float, constants: Mapping[str, float], name: str) -> float:
    """A label extent carried to mm by the slope and offset in the card (identity where there is none)."""
    return max(constants.get(f"{name}.slope", 1.0) * value + constants.get(f"{name}.intercept", 0.0), 0.0)


def _sd(constants: Mapping[str, float], name: str) -> float:
    return constants.get(f"{name}.sd", _DEFAULT_SD[name])


def canal_middle(axial: AxialReading, item: AxialSlice) -> float:
    """Column of the canal's middle: halfway between the facets of the two sides, else the middle of the disc."""
    facets = item.probabilities[axial.channel("facets")].max(axis=0) > _MEMBER
    disc = item.probabilities[axial.channel("disc")]
    total = max(float(disc.sum()), 1e-6)
    middle = (
        float((disc.sum(axis=0) * np.arange(item.window.size)).sum() / total) if total > 1 else item.window.size / 2
    )
    right, left = np.flatnonzero(facets[: round(middle)]), np.flatnonzero(facets[round(middle) :])
    if len(right) and len(left):
        return (float(right.max()) + round(middle) + float(left.min())) / 2
    return middle


def measure_herniation(axial: AxialReading, constants: Mapping[str, float]) -> Herniation | Missing:
    """Focal material of the slice where it reaches farthest: extent, base, type, side and zone.

    Types follow disc nomenclature 2.0 in the axial plane: wider than a quarter of the circumference is a bulge, farther than
    wide an extrusion. Sequestration needs the sagittal stack and is not told here.
    """
    inside = slices_between(axial, *reading().slices.recess_mm) + slices_between(
        axial, reading().slices.recess_mm[1] + 1e-9, reading().slices.disc_mm[1]
    )
    if not inside:
        return Missing("NOT_COVERED", "axial slices do not cover the level")
    return max(
        (herniation_on_slice(axial, item, constants) for item in inside),
        key=lambda found: (found.type != "none", found.extent.value),
    )


def herniation_on_slice(axial: AxialReading, item: AxialSlice, constants: Mapping[str, float]) -> Herniation:
    """The largest focal piece of herniated material on one slice; type none where it is too small."""
    settings = reading().herniation
    pixel = item.window.pixel_mm
    probability = item.probabilities[axial.channel("herniated_material")]
    disc = item.probabilities[axial.channel("disc")] > _MEMBER
    piece = _largest_piece(probability > _MEMBER)
    area = float(probability[ndimage.binary_dilation(piece, iterations=2)].sum()) * pixel**2 if piece.any() else 0.0
    peak = float(ndimage.uniform_filter(probability, 3).max())
    middle = canal_middle(axial, item)
    if not piece.any() or not disc.any():
        point = item.window.to_lps(item.window.size / 2, middle)
        extent = Size(0.0, _sd(constants, "herniation"), (point, point), item)
        return Herniation("none", False, peak, extent, 0.0, "midline", "central", 0.0, area)
    distance, nearest = ndimage.distance_transform_edt(~disc, return_indices=True)
    farthest = np.unravel_index(int(np.argmax(np.where(piece, distance, -1.0))), piece.shape)
    root = np.array([nearest[0][farthest], nearest[1][farthest]])
    length = _carried(max(float(distance[farthest]) * pixel - 0.5 * pixel, 0.0), constants, "herniation")
    base, share = _base(piece, disc, pixel)
    _rows, columns = np.nonzero(piece)
    offset = (float(columns.mean()) - middle) * pixel
    points = (
        item.window.to_lps(float(root[0]), float(root[1])),
        item.window.to_lps(float(farthest[0]), float(farthest[1])),
    )
    kind: HerniationType = "protrusion" if length < base else "extrusion"
    if share > settings.focal_share_of_circumference:
        kind = "bulge"
    if area < settings.smallest_area_mm2 or length < grading().herniation.present_at_or_above:
        kind = "none"
    return Herniation(
        type=kind,
        type_uncertain=abs(length - base) < settings.type_uncertain_mm,
        probability=peak,
        extent=Size(length, _sd(constants, "herniation"), points, item),
        base_mm=base,
        side=_side(offset, axial, item),
        zone=_zone(abs(offset), axial, item),
        offset_mm=offset,
        area_mm2=area,
    )


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    numbers, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(numbers.ravel())[1:]
    return np.asarray(numbers == 1 + int(np.argmax(sizes)))


def _base(piece: NDArray[np.bool_], disc: NDArray[np.bool_], pixel_mm: float) -> tuple[float, float]:
    """Width (mm) of the contact between a piece and its disc, and its share of the disc's circumference."""
    rim = disc & ~ndimage.binary_erosion(disc)
    contact = np.argwhere(ndimage.binary_dilation(piece, iterations=2) & rim)
    if not len(contact):
        return 0.0, 0.0
    chord = float(np.linalg.norm(np.ptp(contact, axis=0))) * pixel_mm
    return chord, len(contact) / max(int(rim.sum()), 1)


def _sac_half_width(axial: AxialReading, item: AxialSlice) -> float:
    sac = item.probabilities[axial.channel("thecal_sac")].sum(axis=1)
    return float(sac.max()) / 2 * item.window.pixel_mm


def _zone(offset_mm: float, axial: AxialReading, item: AxialSlice) -> Zone:
    """Zone of a lateral offset from the canal's middle (Wiltse 1997, by the canal's own width and usual pedicle lines)."""
    settings = reading().herniation
    if offset_mm < settings.central_share_of_sac_half_width * _sac_half_width(axial, item):
        return "central"
    if offset_mm < settings.subarticular_to_mm:
        return "subarticular"
    return "foraminal" if offset_mm < settings.foraminal_to_mm else "extraforaminal"


def _side(offset_mm: float, axial: AxialReading, item: AxialSlice) -> Side:
    """Side of a lateral offset, + being the patient's left; in the middle third of the central zone neither."""
    limit = reading().herniation.central_share_of_sac_half_width * _sac_half_width(axial, item) / 3
    if abs(offset_mm) < limit:
        return "midline"
    return "left" if offset_mm > 0 else "right"


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

