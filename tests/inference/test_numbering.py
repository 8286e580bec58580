"""Which disc is the lumbosacral one: a remnant within the sacrum is not counted, a missed one is, and doubt shows both names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from configs import anatomy
from inference.column import Column, column_faults, find_column, without_remnant
from inference.numbering import Numbering, number_discs

PIXEL, SIZE = 1.0, 330
LUMBAR = (26.0, 13.0, 3.0, -4.0, -9.0, -12.0)
"""Tilts of L5-S1, L4-L5 and so on upward: they grow towards the sacrum."""
FULL = (8.0, 35.0)
"""Height and length of a disc in mm."""
REMNANT = (3.0, 19.0)
BODY_MM = 27.0


def _spine(tilts: Sequence[float], lowest: tuple[float, float] = FULL, *, below: float = 0.0) -> NDArray[np.uint8]:
    """A painted column with these tilts in degrees from the lowest disc upward; `lowest` is the height and length of that disc.

    `below` is the size of a body below it, in shares of the others' height and length.
    """
    labels = anatomy().sagittal
    flat = np.zeros((SIZE, SIZE), dtype=np.uint8)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(float)
    centre = np.array([235.0, 170.0])
    sizes = (lowest, *(FULL for _ in tilts[1:]))

    def box(
        name: str, middle: NDArray[np.float64], tilt: float, half: tuple[float, float], behind: float = 0.0
    ) -> None:
        back = np.array([-np.sin(tilt), np.cos(tilt)])
        up = np.array([-back[1], back[0]])
        offset = np.stack([rows, columns], axis=-1) - middle
        inside = (np.abs(offset @ up) <= half[0]) & (np.abs(offset @ back - behind) <= half[1])
        flat[inside & (flat == 0)] = labels.value(name)

    for number, (tilt, (height, length)) in enumerate(zip(np.radians(tilts), sizes, strict=True)):
        up = np.array([-np.cos(tilt), -np.sin(tilt)])
        box("disc", centre, tilt, (height / 2, length / 2))
        if number == 0 and below:
            size = below * np.array([BODY_MM, FULL[1]]) / 2
            box("vertebra", centre - up * (height / 2 + size[0]), tilt, (size[0], size[1]))
        box("canal", centre, tilt, (10.0, 6.0), behind=FULL[1] / 2 + 9.0)
        if number + 1 < len(tilts):
            mean = (tilt + np.radians(tilts[number + 1])) / 2
            course = np.array([-np.cos(mean), -np.sin(mean)])
            reach = (height + sizes[number + 1][0]) / 2 + BODY_MM
            box("vertebra", centre + course * reach / 2, mean, (BODY_MM / 2 + 2, FULL[1] / 2))
            box("canal", centre + course * reach / 2, mean, (BODY_MM / 2 + 6, 6.0), behind=FULL[1] / 2 + 9.0)
            # the back of the column is in line, so that a shorter disc lies further back
            back = np.array([-np.sin(mean), np.cos(mean)])
            centre = centre + course * reach - back * (sizes[number + 1][1] - length) / 2
    return flat


def _numbered(flat: NDArray[np.uint8]) -> tuple[Column, Numbering]:
    whole = find_column(flat, PIXEL)
    assert whole is not None
    column = without_remnant(whole)
    assert column_faults(column) == ()
    return column, number_discs(column, flat, remnant=column is not whole)


def test_a_lumbar_column_is_named_from_its_lowest_disc_without_doubt() -> None:
    column, numbering = _numbered(_spine(LUMBAR))
    assert len(column.discs) == len(LUMBAR)
    assert numbering.doubts == ()
    assert [numbering.name(number, 0) for number in range(3)] == ["L5-S1", "L4-L5", "L3-L4"]
    assert numbering.alternative(0, 0) is None


@pytest.mark.parametrize("tilt", [28.0, 24.0, 18.0])
def test_a_remnant_between_s1_and_s2_is_not_counted(tilt: float) -> None:
    column, numbering = _numbered(_spine((tilt, *LUMBAR), REMNANT))
    assert len(column.discs) == len(LUMBAR)
    assert column.discs[0].ap_mm == pytest.approx(FULL[1], abs=3)
    assert numbering.name(0, 0) == "L5-S1"
    assert numbering.doubts == (), "the first sacral body above the remnant is no missed vertebra"


def test_the_short_disc_of_a_sacralised_vertebra_keeps_its_place_and_leaves_two_names() -> None:
    column, numbering = _numbered(_spine(LUMBAR, (2.4, 20.0)))
    assert len(column.discs) == len(LUMBAR)
    assert (numbering.name(0, 0), numbering.alternative(0, 0)) == ("L5-S1", "S1-S2")
    assert (numbering.name(1, 0), numbering.alternative(1, 0)) == ("L4-L5", "L5-S1")
    assert "remnant" in numbering.ambiguous


def test_a_column_that_bends_little_keeps_its_names() -> None:
    column, numbering = _numbered(_spine((12.0, 11.0, 3.0, -1.0, -5.0, -8.0)))
    assert len(column.discs) == 6
    assert numbering.doubts == ()


def test_a_piece_of_a_lumbosacral_disc_far_from_the_canal_is_no_remnant() -> None:
    flat = _spine(LUMBAR)
    rows, columns = np.nonzero(flat == anatomy().sagittal.value("disc"))
    lowest = rows > 215
    front = lowest & (columns > np.percentile(columns[lowest], 45))
    flat[rows[front], columns[front]] = 0
    column, numbering = _numbered(flat)
    assert len(column.discs) == len(LUMBAR)
    assert numbering.ambiguous == ""
    assert any("much shorter" in doubt for doubt in numbering.doubts)
    assert numbering.name(0, 0) == "L5-S1"


def test_a_full_disc_below_the_promontory_leaves_two_names() -> None:
    column, numbering = _numbered(_spine((24.0, *LUMBAR), (6.0, 32.0)))
    assert len(column.discs) == len(LUMBAR) + 1
    assert "sacrum" in numbering.ambiguous
    assert numbering.alternative(1, 0) == "L5-S1"


def test_a_flat_lowest_disc_above_a_whole_body_is_not_the_lumbosacral_one() -> None:
    _, numbering = _numbered(_spine(LUMBAR[1:], below=0.95))
    assert numbering.ambiguous in numbering.doubts
    assert [numbering.name(number, 0) for number in range(2)] == ["L4-L5", "L3-L4"]
    assert [numbering.alternative(number, 0) for number in range(2)] == ["L5-S1", "L4-L5"]
    assert "not found" in numbering.basis


def test_a_sacral_body_below_a_flat_lumbosacral_disc_is_only_told() -> None:
    _, numbering = _numbered(_spine((16.0, 4.0, -3.0, -7.0, -10.0), below=0.74))
    assert numbering.name(0, 0) == "L5-S1"
    assert numbering.ambiguous == ""
    assert (len(numbering.doubts), numbering.alternative(0, 0)) == (1, "L4-L5")
