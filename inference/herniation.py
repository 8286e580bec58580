"""Herniated material on axial slices: how far beyond the disc, how wide, which type, side and zone.

Types by disc nomenclature 2.0 (Fardon 2014) in the axial plane, zones by Wiltse 1997; limits: configs/reading.toml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs import grading
from inference.report import HerniationType, Side, Zone
from inference.segment import AxialReading, AxialSlice, reading
from inference.sizes import MEMBER, Missing, Size, carried, slices_between, standard_deviation

_SEEN_MM2 = 25.0
"""Less of the sac, or of the disc, does not tell where the canal is."""
_FINER = 2
"""Borders are drawn on pixels of this fraction of the window's."""


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
    features: Mapping[str, float] = field(default_factory=dict)
    """What the card's head makes a calibrated probability of; of all slices of the level (`measure_herniation`)."""
    cut_off: bool = False
    """The slices end where it reaches farthest: it may reach farther than `extent` on slices that are not there."""
    both_sides: bool = False
    """One slice of the level shows focal material on the left and another on the right: which is meant is not known."""


def canal_middle(axial: AxialReading, item: AxialSlice) -> float:
    """Column of the canal's middle: halfway between the facets of the two sides, else the middle of the sac or of the disc.

    Sides are parted at the sac: an oblique slice shows the disc on one side only.
    """
    facets = item.probabilities[axial.channel("facets")].max(axis=0) > MEMBER
    parts = (item.probabilities[axial.channel(name)].sum(axis=0) for name in ("thecal_sac", "disc"))
    seen = next((part for part in parts if float(part.sum()) * item.window.pixel_mm**2 > _SEEN_MM2), None)
    if seen is None:
        return item.window.size / 2
    middle = float((seen * np.arange(item.window.size)).sum() / seen.sum())
    right, left = np.flatnonzero(facets[: round(middle)]), np.flatnonzero(facets[round(middle) :])
    if len(right) and len(left):
        return (float(right.max()) + round(middle) + float(left.min())) / 2
    return middle


def measure_herniation(axial: AxialReading, constants: Mapping[str, float]) -> Herniation | Missing:
    """Focal material of the slice where it reaches farthest beyond the disc: extent, base, type, side and zone.

    The disc's margin is that of all slices that cross it, seen along its normal: it stands where a slice shows little of the disc, or
    cuts the body behind which material has moved. Types follow disc nomenclature 2.0 in the axial plane: wider than a quarter of
    the circumference is a bulge, farther than wide an extrusion. Sequestration needs the sagittal stack and is not told here.
    """
    inside = slices_between(axial, *reading().slices.herniation_mm)
    if not inside:
        return Missing("NOT_COVERED", "axial slices do not cover the level")
    margin = disc_margin(axial, inside)
    every = [herniation_on_slice(axial, item, margin, constants) for item in inside]
    worst = max(every, key=lambda found: (found.type != "none", found.extent.value))
    sides = {found.side for found in every if found.type in {"protrusion", "extrusion"}}
    return replace(
        worst,
        features=_features(axial, inside, every, worst),
        cut_off=_cut_off(axial, inside, worst),
        both_sides={"left", "right"} <= sides,
    )


def _cut_off(axial: AxialReading, slices: Sequence[AxialSlice], worst: Herniation) -> bool:
    """Whether the worst slice is an outermost one and the next, if the stack went on, would still belong to the level."""
    low, high = reading().slices.herniation_mm
    step, offset = axial.stack.volume.grid.spacing[0], worst.extent.slice.offset_mm
    below = worst.extent.slice is slices[0] and offset - step >= low
    above = worst.extent.slice is slices[-1] and offset + step <= high
    return worst.type != "none" and (below or above)


def _features(
    axial: AxialReading, slices: Sequence[AxialSlice], every: Sequence[Herniation], worst: Herniation
) -> dict[str, float]:
    """How likely material is on its likeliest and second likeliest slice, how much there is on all, how far it reaches, how doubtful
    the slices are.
    """
    peaks = sorted((found.probability for found in every), reverse=True)
    material = axial.channel("herniated_material")
    amount = sum(float(item.probabilities[material].sum()) * item.window.pixel_mm**2 for item in slices)
    return {
        "peak": peaks[0],
        "second_peak": peaks[1] if len(peaks) > 1 else 0.0,
        "log_volume_mm3": float(np.log1p(amount * axial.stack.volume.grid.spacing[0])),
        "extent_mm": worst.extent.value,
        "entropy_nats": float(np.mean([item.canal_entropy for item in slices])),
    }


def disc_margin(axial: AxialReading, slices: Sequence[AxialSlice]) -> NDArray[np.bool_]:
    """Where the disc lies on any of the slices, (F * H, F * W) with F = _FINER.

    Pixels of one reading's windows lie one behind the other along the disc's normal, so they can be laid over each other.
    """
    disc = np.max([item.probabilities[axial.channel("disc")] for item in slices], axis=0)
    return finer(disc) > MEMBER


def finer(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (H, W) on pixels of a fraction of the edge, so that a border does not jump by whole pixels."""
    fine: NDArray[np.float32] = ndimage.zoom(probability, _FINER, order=1, grid_mode=True, mode="nearest")
    return fine


def herniation_on_slice(
    axial: AxialReading, item: AxialSlice, margin: NDArray[np.bool_], constants: Mapping[str, float]
) -> Herniation:
    """The largest focal piece of herniated material on one slice beyond a `margin` (`disc_margin`); type none where it is too small."""
    settings = reading().herniation
    pixel = item.window.pixel_mm
    probability = item.probabilities[axial.channel("herniated_material")]
    piece = _largest_piece(finer(probability) > MEMBER)
    near = ndimage.binary_dilation(piece, iterations=2 * _FINER)[::_FINER, ::_FINER]
    area = float(probability[near].sum()) * pixel**2 if piece.any() else 0.0
    peak = float(ndimage.uniform_filter(probability, 3).max())
    middle = canal_middle(axial, item)
    if not piece.any() or not margin.any():
        point = item.window.to_lps(item.window.size / 2, middle)
        extent = Size(0.0, standard_deviation(constants, "herniation"), (point, point), item)
        return Herniation("none", False, peak, extent, 0.0, "midline", "central", 0.0, area)
    base, share = _base(piece, margin, pixel / _FINER)
    root, tip, reach = _reach(piece, margin)
    length = carried(reach * pixel / _FINER, constants, "herniation")
    offset = (_coarse(float(np.nonzero(piece)[1].mean())) - middle) * pixel
    points = (item.window.to_lps(*map(_coarse, root)), item.window.to_lps(*map(_coarse, tip)))
    kind: HerniationType = "protrusion" if length < base else "extrusion"
    if share > settings.focal_share_of_circumference:
        kind = "bulge"
    if area < settings.smallest_area_mm2 or length < grading().herniation.present_at_or_above:
        kind = "none"
    return Herniation(
        type=kind,
        type_uncertain=abs(length - base) < settings.type_uncertain_mm,
        probability=peak,
        extent=Size(length, standard_deviation(constants, "herniation"), points, item),
        base_mm=base,
        side=_side(offset, axial, item),
        zone=_zone(abs(offset), axial, item),
        offset_mm=offset,
        area_mm2=area,
    )


_Pixel = tuple[float, float]


def _coarse(position: float) -> float:
    """Row or column of a finer pixel on the window's own pixels."""
    return (position + 0.5) / _FINER - 0.5


def _reach(piece: NDArray[np.bool_], margin: NDArray[np.bool_]) -> tuple[_Pixel, _Pixel, float]:
    """Nearest pixel of the disc, farthest pixel of the piece, and the pixels from the disc's border to it."""
    distance, nearest = ndimage.distance_transform_edt(~margin, return_indices=True)
    row, column = np.unravel_index(int(np.argmax(np.where(piece, distance, -1.0))), piece.shape)
    root = float(nearest[0][row, column]), float(nearest[1][row, column])
    return root, (float(row), float(column)), float(distance[row, column])


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    numbers, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(numbers.ravel())[1:]
    return np.asarray(numbers == 1 + int(np.argmax(sizes)))


def _base(piece: NDArray[np.bool_], margin: NDArray[np.bool_], pixel_mm: float) -> tuple[float, float]:
    """Width (mm) of the contact between a piece and the disc, and its share of the disc's circumference."""
    rim = margin & ~ndimage.binary_erosion(margin)
    contact = np.argwhere(ndimage.binary_dilation(piece, iterations=2 * _FINER) & rim)
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
