"""Tells the discs of a sagittal label map apart by the mid-planes of the named discs; what has no level stays whole.

Nothing is measured here: names and planes are those of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import anatomy
from dicom_io.geometry import Grid
from inference.report import LevelRead

_REACH_MM = 15.0  # a disc is 7-15 mm high; its rim bulges a little further than half of that from the mid-plane

Part = tuple[str | None, tuple[str, ...], NDArray[np.bool_]]


def sagittal_parts(labels: NDArray[np.integer[Any]], grid: Grid, levels: Sequence[LevelRead]) -> tuple[Part, ...]:
    """Parts of a sagittal label map (slice, row, column): each named disc of `levels`, then what belongs to none of them.

    A part is the name of the disc (or None), the structures in it, and a mask of the map's shape. Each voxel of disc goes to the
    disc whose mid-plane is nearest, unless none is near.
    """
    known = [level for level in levels if level.name in anatomy().levels]
    places = np.argwhere(labels == anatomy().sagittal.value("disc"))
    points = grid.to_lps(places.astype(np.float64))
    distance = np.full((len(places), len(known) + 1), _REACH_MM)
    for number, level in enumerate(known):
        distance[:, number] = np.abs((points - np.array(level.mid_plane.point)) @ np.array(level.mid_plane.normal))
    nearest = np.full(labels.shape, -1)
    nearest[tuple(places.T)] = distance.argmin(axis=1)
    names = (*(level.name for level in known), None)
    parts = [(name, ("disc",), nearest == number) for number, name in enumerate(names)]
    others = tuple(name for name in anatomy().sagittal.names if name != "disc")
    return (*parts, (None, others, np.ones(labels.shape, dtype=bool)))
