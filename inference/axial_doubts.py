"""Doubts about one level from its axial slices: poor pictures, an opened back, fluid or fat that may pass for something else.

Pictures are the windows that the network saw (rows to the back, columns to the patient's left). Limits: configs/competence.toml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs import grading
from inference.competence import ALL, STENOSIS, Doubt, competence
from inference.image_quality import PictureQuality, picture_quality
from inference.segment import AxialReading, AxialSlice, reading, sample_window
from inference.sizes import slices_between

_SOLID = 0.5
_DEEPEST_MM = 20.0
"""No canal is deeper; where the flavum was not seen, fat behind the joints does not count."""
_CYST_MM, _CYST_LATERAL_MM = (-2.0, 16.0), 20.0
"""From here to there behind the disc margin, and so far to either side, cysts of the facet joints are looked for."""
_NECK_MM = 2.0
"""What hangs on the sac by less than twice this is no part of it."""


@dataclass(frozen=True)
class AxialMeasures:
    """What was measured of one level: median picture measures, doubt of the network (nats), areas in mm2, and the cyst's side."""

    picture: PictureQuality
    entropy: float
    flavum_mm2: float
    fluid_mm2: Mapping[str, float]
    free_share: float
    free_bright: float
    sac_mm2: float


def axial_doubts(axial: Sequence[AxialReading]) -> tuple[Doubt, ...]:
    """All doubts about the axial reading of the discs, in the order in which they give a withheld value its code."""
    measured = [(item.disc.name, axial_measures(item)) for item in axial]
    doubts: list[Doubt] = []
    for name, measures in with_common_shift([(name, found) for name, found in measured if found is not None]):
        doubts += level_doubts(name, measures)
    order = ("LOW_QUALITY", "ARTEFACT", "MOTION", "OOD", "POSTOP", "MIMIC_UNCERTAIN")
    return tuple(sorted(doubts, key=lambda doubt: order.index(doubt.code)))


def with_common_shift(levels: Sequence[tuple[str, AxialMeasures]]) -> list[tuple[str, AxialMeasures]]:
    """Every level with the mean displacement of fat over all levels: one bandwidth made them all, what one body adds differs."""
    if not levels:
        return []
    names = ("shift_down", "shift_across")
    mean = {name: float(np.mean([getattr(measures.picture, name) for _, measures in levels])) for name in names}
    return [(level, replace(found, picture=replace(found.picture, **mean))) for level, found in levels]


def level_doubts(level: str, measures: AxialMeasures) -> list[Doubt]:
    """Doubts about one level from its measures."""
    limits = competence()
    found: list[Doubt] = []
    # elsewhere the network was never taught, and is in doubt without cause
    entropy = measures.entropy if level in reading().levels.taught else 0.0
    code = picture_code(measures.picture, entropy)
    if code is not None:
        found.append(Doubt(code, f"axial slices at {level}", level, None, ALL))
        return found
    if level not in reading().levels.taught:
        return found
    if measures.flavum_mm2 < limits.operation.least_flavum_mm2:
        found.append(Doubt("POSTOP", f"no laminae or flavum behind the sac at {level}", level, None, STENOSIS))
        return found
    for side, area in measures.fluid_mm2.items():
        if area > limits.mimic.cyst_mm2:
            text = f"{area:.0f} mm2 as bright as fluid beside the sac at {level} {side}"
            found.append(Doubt("MIMIC_UNCERTAIN", text, level, side, ("herniation", "recess_stenosis")))
    narrow = measures.sac_mm2 < grading().canal_area.moderate_below and measures.free_bright > limits.mimic.fat_bright
    if narrow and measures.free_share > limits.mimic.fat_share.get(level, np.inf):
        text = f"the room around the sac at {level} is {measures.free_share:.1f} times the sac"
        found.append(Doubt("MIMIC_UNCERTAIN", text, level, None, ("canal_stenosis",)))
    return found


def picture_code(picture: PictureQuality, entropy: float, *, sagittal: bool = False) -> str | None:
    """LOW_QUALITY, ARTEFACT, MOTION or OOD for a picture that is too poor or that the network is in doubt about, else None."""
    limits = competence().picture
    if picture.snr < (limits.least_snr_sagittal if sagittal else limits.least_snr_axial):
        return "LOW_QUALITY"
    ghosts = picture.ripple * picture.snr > limits.motion_ripple and picture.snr < limits.smoothed_snr
    if picture.sharp < limits.least_sharp:
        return "MOTION" if ghosts else "LOW_QUALITY"
    if picture.stripe > limits.largest_stripe or picture.dash > limits.largest_dash:
        return "ARTEFACT"
    displaced = max(abs(picture.shift_down), abs(picture.shift_across))
    if displaced > (limits.largest_shift_sagittal if sagittal else limits.largest_shift_axial):
        return "ARTEFACT"
    if entropy <= limits.largest_entropy:
        return None
    if picture.sharp < limits.motion_sharp:
        return "MOTION"
    if picture.fold > limits.fold:
        return "ARTEFACT"
    return "MOTION" if ghosts else "OOD"


def axial_measures(axial: AxialReading) -> AxialMeasures | None:
    """Measures of one level over its slices between the endplates; None without such slices."""
    inside = slices_between(axial, *reading().slices.canal_mm)
    if not inside:
        return None
    volume = axial.stack.volume
    _, row_mm, column_mm = volume.grid.spacing
    pictures = [picture_quality(volume.array[item.index], (row_mm, column_mm)) for item in inside]
    # on one scale for all slices: each network window is scaled by itself
    greys = {item.index: sample_window(volume, item.index, item.window) for item in axial.slices}
    least = _least_fluid(axial, greys)
    fluid = [_fluid(axial, item, greys[item.index] >= least) for item in inside]
    free = [_free(axial, item) for item in inside]
    return AxialMeasures(
        picture=median_of(pictures),
        entropy=float(np.median([item.canal_entropy for item in inside])),
        flavum_mm2=max(_flavum(axial, item) for item in inside),
        fluid_mm2={side: max(part[side] for part in fluid) for side in ("left", "right")},
        free_share=float(np.median([share for share, _ in free])),
        free_bright=float(np.median([bright for _, bright in free])),
        sac_mm2=float(np.median([_sac(axial, item) for item in inside])),
    )


def median_of(pictures: Sequence[PictureQuality]) -> PictureQuality:
    """The median of every measure over several pictures."""
    return PictureQuality(
        **{
            name: float(np.median([getattr(picture, name) for picture in pictures]))
            for name in PictureQuality.__dataclass_fields__
        }
    )


def _sac(axial: AxialReading, item: AxialSlice) -> float:
    return float(item.probabilities[axial.channel("thecal_sac")].sum()) * item.window.pixel_mm**2


def _margin_row(item: AxialSlice) -> float:
    """Row of the posterior disc margin for which the window was laid."""
    return (item.window.size - 1) / 2 + reading().window.anterior_mm / item.window.pixel_mm


def _box(item: AxialSlice, rows_mm: tuple[float, float], lateral_mm: float, column: float) -> tuple[slice, slice]:
    """Rows from the disc margin backwards and columns about `column`, cut to the window."""
    pixel, size = item.window.pixel_mm, item.window.size
    top, bottom = (int(np.clip(_margin_row(item) + mm / pixel, 0, size)) for mm in rows_mm)
    left, right = (int(np.clip(column + mm / pixel, 0, size)) for mm in (-lateral_mm, lateral_mm))
    return slice(top, bottom), slice(left, right)


def ball(radius_px: float) -> NDArray[np.bool_]:
    """A disc-shaped neighbourhood."""
    reach = int(np.ceil(radius_px))
    axis = np.arange(-reach, reach + 1)
    return np.asarray(np.hypot(axis[:, None], axis[None]) <= radius_px)


def largest_area(mask: NDArray[np.bool_], opening_px: float, pixel_mm2: float) -> float:
    """Area (mm2) of the largest piece that is left after thin parts are taken away."""
    opened = ndimage.binary_opening(mask, ball(opening_px)) if opening_px >= 1 else mask
    pieces, count = ndimage.label(opened)
    return float(np.bincount(pieces.ravel())[1:].max()) * pixel_mm2 if count else 0.0


def _middle_column(axial: AxialReading, item: AxialSlice) -> float | None:
    sac = item.probabilities[axial.channel("thecal_sac")].astype(np.float64)
    if sac.sum() * item.window.pixel_mm**2 < 20.0:
        return None
    return float((sac.sum(axis=0) * np.arange(item.window.size)).sum() / sac.sum())


def _flavum(axial: AxialReading, item: AxialSlice) -> float:
    """Flavum and facets (mm2) near the midline behind the front of the sac; what a laminectomy takes away."""
    column = _middle_column(axial, item)
    if column is None:
        return 0.0
    box = _box(item, (4.0, 34.0), competence().operation.midline_mm, column)
    parts = item.probabilities[[axial.channel("flavum"), axial.channel("facets")]].sum(axis=0)[box]
    return float(parts.sum()) * item.window.pixel_mm**2


def _least_fluid(axial: AxialReading, greys: Mapping[int, NDArray[np.float32]]) -> float:
    """Least grey value that may be fluid. In a narrowed sac roots hide the fluid: the slice with the brightest sac counts."""
    limits = competence().mimic
    brightest = max(float(np.percentile(grey, 99.0)) for grey in greys.values())
    sacs = [(greys[item.index], item.probabilities[axial.channel("thecal_sac")] > _SOLID) for item in axial.slices]
    fluid = max((float(np.percentile(grey[sac], 75)) for grey, sac in sacs if sac.sum() >= 20), default=0.0)
    return max(limits.cyst_bright * fluid, limits.fluid_bright * brightest)


def _fluid(axial: AxialReading, item: AxialSlice, bright: NDArray[np.bool_]) -> dict[str, float]:
    """Area (mm2) of the largest round piece of `bright` pixels beside the sac, by side, whatever it is labelled."""
    column = _middle_column(axial, item)
    sac = item.probabilities[axial.channel("thecal_sac")] > _SOLID
    if column is None or sac.sum() < 20:
        return {"left": 0.0, "right": 0.0}
    pixel = item.window.pixel_mm
    # a cyst may hang on the sac by a neck and be taken for it: the sac proper is what is left when thin parts are taken away
    pieces, count = ndimage.label(ndimage.binary_erosion(sac, ball(_NECK_MM / pixel)))
    if not count:
        return {"left": 0.0, "right": 0.0}
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    main = ndimage.binary_dilation(pieces == int(sizes.argmax()), ball((_NECK_MM + 1.2) / pixel))
    rows, columns = _box(item, _CYST_MM, _CYST_LATERAL_MM, column)
    candidate = (bright & ~main)[rows, columns]
    middle = int(np.clip(round(column) - columns.start, 0, candidate.shape[1]))
    opening = competence().mimic.cyst_opening_mm / pixel
    parts = {"right": candidate[:, :middle], "left": candidate[:, middle:]}
    return {side: largest_area(part, opening, pixel**2) for side, part in parts.items()}


@dataclass(frozen=True)
class _Room:
    """The canal of one slice between disc and flavum or joints: its part of the window, and which pixels of it lie free."""

    rows: slice
    columns: slice
    free: NDArray[np.bool_]


def _room(axial: AxialReading, item: AxialSlice, column: float, lateral_mm: float) -> _Room:
    rows, columns = _box(item, (-6.0, 32.0), lateral_mm, column)

    def solid(*names: str) -> NDArray[np.bool_]:
        whole = item.probabilities[[axial.channel(name) for name in names]].sum(axis=0)
        return np.asarray(whole[rows, columns] > _SOLID)

    front, back = solid("disc", "herniated_material"), solid("flavum", "facets")
    height = front.shape[0]
    after = np.where(front.any(axis=0), height - np.argmax(front[::-1], axis=0), 0)
    place = np.arange(height)[:, None]
    behind = back & (place > after[None])
    until = np.where(behind.any(axis=0), np.argmax(behind, axis=0), after)
    until = np.minimum(until, after + round(_DEEPEST_MM / item.window.pixel_mm))
    return _Room(rows, columns, np.asarray((place >= after[None]) & (place < until[None])))


def _free(axial: AxialReading, item: AxialSlice) -> tuple[float, float]:
    """Room of the canal that is no sac, in shares of the sac, and its brightness; 0 without a sac or without room."""
    column = _middle_column(axial, item)
    if column is None:
        return 0.0, 0.0
    room = _room(axial, item, column, 9.0)
    sac = item.probabilities[axial.channel("thecal_sac")][room.rows, room.columns]
    free = room.free * (1 - sac)
    bright = item.image[room.rows, room.columns][free > _SOLID]
    share = float(free.sum()) / max(float(sac.sum()), 20.0 / item.window.pixel_mm**2)
    return share, float(np.median(bright)) if bright.size else 0.0
