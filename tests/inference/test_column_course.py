"""A column without a lumbar curve and without a sacrum leaves the scope in doubt; a cut-off or flat lumbar one does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from inference.column import Column, FlatDisc, slope_deg, without_lordosis


def _disc(tilt_deg: float) -> FlatDisc:
    """A disc whose front lies higher by so many degrees."""
    turn = np.radians(tilt_deg)
    back = np.array([-np.sin(turn), np.cos(turn)])
    nowhere = np.zeros(2)
    return FlatDisc(
        np.zeros((1, 1), dtype=bool), nowhere, np.array([-back[1], back[0]]), back, 8.0, 34.0, nowhere, nowhere
    )


def _column(tilts_deg: Sequence[float]) -> Column:
    """A column with these tilts from the lowest disc upward."""
    empty = np.zeros((1, 1), dtype=bool)
    return Column(empty, np.zeros(1), empty, empty, tuple(_disc(tilt) for tilt in tilts_deg), (), 1.0)


@pytest.mark.parametrize("tilt", [-30.0, 0.0, 42.0])
def test_the_tilt_of_a_disc_is_read_from_its_axis(tilt: float) -> None:
    assert slope_deg(_disc(tilt)) == pytest.approx(tilt)


@pytest.mark.parametrize("tilts", [(0, 0, 1, 0, -1, 0), (-14, -12, -8, -2, 5, 12), (3, 2, 1, 0, 0)])
def test_straight_and_backward_curved_columns_leave_the_scope_in_doubt(tilts: tuple[float, ...]) -> None:
    assert without_lordosis(_column(tilts))


@pytest.mark.parametrize(
    "tilts", [(30, 15, 3, -9, -15), (15, 4, -1, -3, -2), (14, 3, -9, -15), (12, 11, 10, 9), (8, 2, -1, -4)]
)
def test_lumbar_columns_also_flat_or_cut_above_the_sacrum_do_not(tilts: tuple[float, ...]) -> None:
    assert not without_lordosis(_column(tilts))
