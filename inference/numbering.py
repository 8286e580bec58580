"""Which disc of a column is which: names counted upward from the lumbosacral disc, reasons to doubt them, and the other name.

Pure geometry on one upright sagittal section; neither ribs nor the upper spine are needed, nor used. Limits: `configs/column.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs import anatomy
from inference.column import (
    Column,
    bends_above_lowest,
    canal_gap_mm,
    column_limits,
    disc_steps,
    slope_deg,
    usual_height_mm,
)

LEVELS_UPWARD = (
    *reversed(anatomy().levels),
    *(f"T{upper}-T{upper + 1}" for upper in range(11, 0, -1)),
)
"""Names of discs from the lumbosacral one upward."""

_BELOW = "S1-S2"
_SURE, _DOUBT, _WEAK = 0.95, 0.6, 0.5
"""Confidence of a name without doubt, with one reason to doubt, and with several. Expert estimates, not calibrated."""
_BESIDE_MM = 5.0
"""So much longer than the lowest disc, to the front and to the back, may be what lies below it."""
_REACH = 1.2
"""The body below is looked for down to this share of the height of the one above, so that no second one counts with it."""


@dataclass(frozen=True)
class Numbering:
    """How the discs of a column are named: the place of the lowest one in `LEVELS_UPWARD`, and the doubts about it.

    `shift` is where the other name of a disc lies, one place up (1) or down (-1); it counts only where there are doubts.
    """

    lowest: int
    basis: str
    doubts: tuple[str, ...]
    shift: int
    ambiguous: str = ""
    """The doubt for which nothing is said of a level by its name: perhaps four or six vertebrae are of lumbar type."""

    @property
    def confidence(self) -> float:
        """Of every name."""
        return (_SURE, _DOUBT, _WEAK)[min(len(self.doubts), 2)]

    def name(self, number: int, missed: int) -> str | None:
        """Name of the disc `number` (0: the lowest) above `missed` gaps; None above the last name."""
        return _level(self.lowest + number + missed)

    def alternative(self, number: int, missed: int) -> str | None:
        """The other name that this disc may have; None without doubts."""
        return _level(self.lowest + number + missed + self.shift) if self.doubts else None


def number_discs(column: Column, flat: NDArray[np.uint8], *, remnant: bool) -> Numbering:
    """Names for the discs of `column`, found in the section `flat` (rows, columns) of class numbers.

    `remnant` says that a disc within the sacrum was found below the column: the body below its lowest disc is then the first sacral one.
    """
    limits, spacing = column_limits(), column.spacing_mm
    lowest, second = column.discs[0], column.discs[1]
    height, above = _body_above(column)
    slope, body = slope_deg(lowest), 0.0 if remnant else _body_below_mm2(column, flat, _REACH * height)
    missed = body > limits.missed_body_share * above and slope < limits.missed_slope_deg
    ambiguous = _ambiguous(column, missed=missed)
    doubts, shift = [ambiguous] if ambiguous else [], -1
    if (flat.shape[0] - lowest.centre[0]) * spacing < limits.lowest_margin_mm:
        doubts.append("the image ends close below the lowest disc, so the lumbosacral disc may be cut off")
        shift = 1
    if not limits.sacral_slope_deg[0] <= slope <= limits.sacral_slope_deg[1]:
        doubts.append(f"the lowest disc is tilted by {slope:.0f} degrees, unlike a lumbosacral disc")
    if not ambiguous and lowest.ap_mm < limits.remnant_ap_ratio * second.ap_mm:
        doubts.append("the lowest disc is much shorter than the next and may be a remnant between S1 and S2")
    if not missed and body > limits.body_below_area_mm2 and slope < limits.sure_slope_deg:
        doubts.append("a vertebral body was found below the lowest disc")
        shift = 1
    if column.gaps:
        doubts.append("a disc seems to have been missed between two that were found")
    if missed:
        basis = "counted upward from a lumbosacral disc that was not found"
        return Numbering(1, basis, tuple(doubts), -1, ambiguous)
    basis = "counted upward from the lowest disc, taken as lumbosacral"
    return Numbering(0, basis, tuple(doubts), shift, ambiguous)


def _ambiguous(column: Column, *, missed: bool) -> str:
    """In words: four or six vertebrae may be of lumbar type; "" else."""
    limits, (lowest, second) = column_limits(), column.discs[:2]
    if missed:
        return (
            f"a whole body lies below the lowest disc found, which is tilted by only {slope_deg(lowest):.0f} degrees: "
            "the lumbosacral disc was missed or has grown together"
        )
    tilts = [slope_deg(disc) for disc in column.discs[:3]]
    if bends_above_lowest(*tilts):
        return (
            f"the lowest discs are tilted by {tilts[0]:.0f}, {tilts[1]:.0f} and {tilts[2]:.0f} degrees: "
            "the lowest one may lie in the sacrum"
        )
    length = lowest.ap_mm / second.ap_mm
    low = lowest.height_mm < limits.remnant_height * usual_height_mm(column.discs)
    # far from the canal it is a piece of a lumbosacral disc
    near = canal_gap_mm(lowest, column) < limits.remnant_gap_mm
    if low and near and limits.remnant_ap[0] < length < limits.remnant_ap[1]:
        return f"the lowest disc is a remnant ({length:.2f} times as long as the next, {lowest.height_mm:.0f} mm high)"
    return ""


def _level(place: int) -> str | None:
    if place < 0:
        return _BELOW
    return LEVELS_UPWARD[place] if place < len(LEVELS_UPWARD) else None


def _body_below_mm2(column: Column, flat: NDArray[np.uint8], reach_mm: float) -> float:
    """Area labelled vertebra in front of the canal and up to `reach_mm` below the lowest disc, in mm2."""
    lowest = column.discs[0]
    rows, columns = np.nonzero(flat == anatomy().sagittal.value("vertebra"))
    offset = (np.stack([rows, columns], axis=1) - lowest.centre) * column.spacing_mm
    depth = -(offset @ lowest.up) - lowest.height_mm / 2
    below = (depth > 0) & (depth < reach_mm)
    across = np.abs(offset @ lowest.back) < lowest.ap_mm / 2 + _BESIDE_MM
    in_front = columns < column.canal_front[rows]
    return float((below & across & in_front).sum()) * column.spacing_mm**2


def _body_above(column: Column) -> tuple[float, float]:
    """Height (mm) and area (mm2) of the body between the two lowest discs, from where they lie and how large they are."""
    lower, upper = column.discs[:2]
    height = disc_steps((lower, upper), column.spacing_mm)[0] - (lower.height_mm + upper.height_mm) / 2
    return height, height * (lower.ap_mm + upper.ap_mm) / 2
