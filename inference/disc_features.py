"""What is measured at one disc on a T2 mid-sagittal section: how far it reaches into the canal, how high and how bright it is.

All lengths in mm; all brightness relative to the fluid in the canal. A logistic head in the network's card weighs the features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from configs import anatomy
from inference.column import Column, FlatDisc

_NEAR_MM, _FAR_MM = 3.0, 11.0
"""The posterior wall of a neighbouring body is sought between these distances from the disc's surface."""
_LEVEL = frozenset({"level", "lumbosacral", "l4_l5", "l3_l4", "above"})
_T2_RATIO = 1.15
"""On T2 and STIR the canal is at least this much brighter than the bodies."""


def looks_like_t2(picture: NDArray[np.float32], flat: NDArray[np.uint8]) -> bool:
    """Whether the fluid of the canal is brighter than the vertebral bodies in a normalised section (R, C)."""
    labels = anatomy().sagittal
    canal, bodies = picture[flat == labels.value("canal")], picture[flat == labels.value("vertebra")]
    if not canal.size or not bodies.size:
        return False
    return bool(np.percentile(canal, 75) > _T2_RATIO * np.median(bodies))


def disc_features(
    picture: NDArray[np.float32], flat: NDArray[np.uint8], column: Column, number: int
) -> dict[str, float]:
    """Features of disc `number` (from the lowest, 0) on a normalised section (R, C) with its labels; nan = not measurable."""
    disc, pixel = column.discs[number], column.spacing_mm
    labels = anatomy().sagittal
    rows, columns = np.indices(flat.shape)
    rise = ((rows - disc.centre[0]) * disc.up[0] + (columns - disc.centre[1]) * disc.up[1]) * pixel
    along = ((rows - disc.centre[0]) * disc.back[0] + (columns - disc.centre[1]) * disc.back[1]) * pixel
    canal = column.canal & (along > -disc.ap_mm) & (along < disc.ap_mm / 2 + 40)
    surface = disc.height_mm / 2
    beside = (np.abs(rise) > surface + _NEAR_MM) & (np.abs(rise) < surface + _FAR_MM)
    at_disc = np.abs(rise) <= surface + 1
    inside = along[disc.mask]
    back_margin = float(np.percentile(inside, 99.5))
    bodies = (flat == labels.value("vertebra")) & (np.abs(along) < disc.ap_mm / 2 + 8) & ~_behind(canal, along, rise)
    wall = _wall(along, rise, bodies, beside)
    front_beside, front_at = _front(canal, along, rise, beside), _front(canal, along, rise, at_disc)
    depth_beside, depth_at = _depths(canal, rise, beside, pixel), _depths(canal, rise, at_disc, pixel)
    fluid = float(np.percentile(picture[column.canal], 80)) if column.canal.any() else float("nan")
    usual = float(np.median([other.height_mm for other in column.discs]))
    features = {
        "beyond_wall_mm": back_margin - wall,
        "canal_pushed_mm": (np.max(front_at) - np.median(front_beside))
        if len(front_at) and len(front_beside)
        else np.nan,
        "canal_ap_mm": float(np.min(depth_at)) if len(depth_at) else np.nan,
        "canal_ratio": float(np.min(depth_at) / np.median(depth_beside))
        if len(depth_at) and len(depth_beside)
        else np.nan,
        "height_mm": disc.height_mm,
        "height_ratio": disc.height_mm / usual,
        "ap_mm": disc.ap_mm,
        "posterior_height_mm": _height_at(disc, along, rise, 0.35, 0.5),
        "nucleus_to_fluid": _mean(picture, disc.mask & (np.abs(along) < disc.ap_mm * 0.25)) / fluid,
        "posterior_to_fluid": _mean(picture, disc.mask & (along > back_margin - 6)) / fluid,
        "spread_to_fluid": float(np.std(picture[disc.mask])) / fluid,
        "level": float(number),
        "lumbosacral": float(number == 0),
        "l4_l5": float(number == 1),
        "l3_l4": float(number == 2),
        "above": float(number >= 3),
    }
    return {name: float(value) for name, value in features.items()}


def of_usual_disc(features: Mapping[str, float]) -> dict[str, float]:
    """The features of a disc of that level of which nothing else is known (nan)."""
    return {name: value if name in _LEVEL else float("nan") for name, value in features.items()}


def _behind(canal: NDArray[np.bool_], along: NDArray[np.float64], rise: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels at or behind the front edge of the canal near this disc."""
    if not canal.any():
        return np.zeros(canal.shape, dtype=bool)
    near = canal & (np.abs(rise) < 25)
    edge = float(np.percentile(along[near], 2)) if near.any() else float(along[canal].min())
    return np.asarray(along > edge + 6)


def _wall(
    along: NDArray[np.float64], rise: NDArray[np.float64], bodies: NDArray[np.bool_], beside: NDArray[np.bool_]
) -> float:
    """Where the line through the posterior walls of both neighbours passes the disc (one neighbour: its wall); nan without."""
    walls = []
    for side in (rise > 0, rise < 0):
        part = bodies & beside & side
        if part.sum() > 30:
            walls.append(float(np.percentile(along[part], 97)))
    return float(np.mean(walls)) if walls else float("nan")


def _front(
    canal: NDArray[np.bool_], along: NDArray[np.float64], rise: NDArray[np.float64], where: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Front edge of the canal (mm along the disc) in 1 mm bins of height within `where`."""
    chosen = canal & where
    bins = np.rint(rise[chosen]).astype(int)
    values = along[chosen]
    return np.array([values[bins == number].min() for number in np.unique(bins)])


def _depths(
    canal: NDArray[np.bool_], rise: NDArray[np.float64], where: NDArray[np.bool_], pixel: float
) -> NDArray[np.float64]:
    """Front-to-back size of the canal (mm) in 2 mm bins of height within `where`."""
    chosen = canal & where
    bins = np.rint(rise[chosen] / 2).astype(int)
    _, counts = np.unique(bins, return_counts=True)
    return counts * pixel**2 / 2


def _height_at(disc: FlatDisc, along: NDArray[np.float64], rise: NDArray[np.float64], low: float, high: float) -> float:
    """Height (mm) of the part of a disc between two fractions of its length from the centre backward."""
    part = disc.mask & (along > low * disc.ap_mm) & (along < high * disc.ap_mm)
    return float(np.ptp(rise[part])) if part.any() else float("nan")


def _mean(picture: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float(picture[where].mean()) if where.any() else float("nan")
