"""Lays the maps of one axial slice on the spine's own mirror axis, so that its left half can be compared with its right.

The axis is the one that best mirrors disc, facets and flavum onto themselves, drawn half way to the middle of the dural sac.
A mirrored slice gives the mirrored maps. Numbers: configs/canal_pose.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from configs import config_path, load_toml

MAPS = ("image", "disc", "herniated_material", "thecal_sac", "recesses", "facets", "flavum")
"""Channels of the posed maps. None has a side of its own: the two recesses are one map."""
_ENOUGH_PIXELS = 50.0
"""A structure of fewer pixels (18 mm2) does not tell where the middle is."""

FloatMap = NDArray[np.float64]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AxisSearch(_Part):
    largest_turn_deg: float
    turn_step_deg: float
    largest_shift_mm: float
    shift_step_mm: float
    sample_step_mm: float
    blur_mm: float
    weights: tuple[float, float, float]
    turn_penalty: float
    shift_penalty: float
    sac_share: float
    turn_share: float


class MapGrid(_Part):
    step_mm: float
    rows: int
    columns: int
    rows_in_front: int
    blur_mm: float
    brightest: float
    margin_width_mm: float


class SliceChoice(_Part):
    nearest_mm: float
    largest_tilt_deg: float
    smallest_disc_mm2: float


class CanalPose(_Part):
    """How maps are posed; configs/canal_pose.toml."""

    axis: AxisSearch
    maps: MapGrid
    slice: SliceChoice


@cache
def canal_pose() -> CanalPose:
    """Numbers of the pose. ConfigError when the file does not fit."""
    return load_toml(config_path("canal_pose.toml"), CanalPose)


@dataclass(frozen=True)
class Pose:
    """The mirror axis in a window: it passes through (row, column) at the posterior disc margin; `turn` in radians.

    Positive turns lead, walking to the back, towards smaller columns (the patient's right).
    """

    row: float
    column: float
    turn: float


def pose_of(probabilities: NDArray[np.float32], classes: Sequence[str], pixel_mm: float) -> Pose:
    """The mirror axis of one slice from class probabilities (K, H, W). Without a structure the window's middle stands in."""
    settings = canal_pose()
    names = list(classes)
    sac = probabilities[names.index("thecal_sac")].astype(np.float64)
    disc = probabilities[[names.index("disc"), names.index("herniated_material")]].sum(axis=0, dtype=np.float64)
    facets = probabilities[names.index("facets")].astype(np.float64)
    flavum = probabilities[names.index("flavum")].astype(np.float64)
    middle_row, middle_column = ((size - 1) / 2 for size in disc.shape)
    disc_column = _middle(disc, middle_column)
    sac_column = _middle(sac, middle_column)
    start = (disc_column + _middle(facets + flavum, disc_column)) / 2
    turn, shift = _mirror_axis((disc, facets, flavum), middle_row, start, pixel_mm)
    row = _posterior_margin(disc, sac_column, settings.maps.margin_width_mm / pixel_mm)
    through_row, through_column = middle_row + np.sin(turn) * shift, start + np.cos(turn) * shift
    axis_column = through_column - np.tan(turn) * (row - through_row)
    share = settings.axis.sac_share
    return Pose(row, float((1 - share) * axis_column + share * sac_column), settings.axis.turn_share * turn)


def posed_maps(
    image: NDArray[np.float32], probabilities: NDArray[np.float32], classes: Sequence[str], pixel_mm: float
) -> NDArray[np.float32]:
    """Maps (len(MAPS), rows, columns) of a normalised window (H, W) and its class probabilities (K, H, W) on their own axis."""
    settings = canal_pose().maps
    pose = pose_of(probabilities, classes, pixel_mm)
    names = list(classes)

    def channel(name: str) -> FloatMap:
        if name == "image":
            return np.clip(image, 0.0, settings.brightest).astype(np.float64)
        wanted = ("recess_left", "recess_right") if name == "recesses" else (name,)
        return np.asarray(probabilities[[names.index(part) for part in wanted]].sum(axis=0, dtype=np.float64))

    rows = (np.arange(settings.rows) - settings.rows_in_front) * settings.step_mm / pixel_mm
    columns = (np.arange(settings.columns) - (settings.columns - 1) / 2) * settings.step_mm / pixel_mm
    position = _turned(pose.row, pose.column, pose.turn, rows, columns)
    blur = settings.blur_mm / pixel_mm
    return np.stack(
        [
            ndimage.map_coordinates(ndimage.gaussian_filter(channel(name), blur), position, order=1, mode="nearest")
            for name in MAPS
        ]
    ).astype(np.float32)


def _middle(mask: FloatMap, otherwise: float) -> float:
    """Mean column of a probability map, or `otherwise` where there is too little of it."""
    total = float(mask.sum())
    return float((mask.sum(axis=0) * np.arange(mask.shape[1])).sum() / total) if total > _ENOUGH_PIXELS else otherwise


def _turned(row: float, column: float, turn: float, rows: NDArray[Any], columns: NDArray[Any]) -> list[FloatMap]:
    """Positions (row, column) in the window of a grid that is turned about (row, column)."""
    down, across = np.meshgrid(rows, columns, indexing="ij")
    cosine, sine = np.cos(turn), np.sin(turn)
    return [row + cosine * down + sine * across, column - sine * down + cosine * across]


def _mirror_axis(maps: Sequence[FloatMap], row: float, column: float, pixel_mm: float) -> tuple[float, float]:
    """Turn (radians) and shift (pixels, across the axis) about (row, column) with the least difference between the halves."""
    search = canal_pose().axis
    step = search.shift_step_mm / pixel_mm
    stride = round(search.sample_step_mm / search.shift_step_mm)
    most = round(search.largest_shift_mm / search.shift_step_mm)
    reach = stride * 14
    rows = (np.arange(26) - 10) * search.sample_step_mm / pixel_mm
    columns = np.arange(-(reach + most), reach + most + 1) * step
    smooth = [ndimage.gaussian_filter(part, search.blur_mm / pixel_mm) for part in maps]
    turns = round(search.largest_turn_deg / search.turn_step_deg)
    best = (np.inf, 0.0, 0.0)
    for turn_number in sorted(range(-turns, turns + 1), key=abs):
        turn = np.radians(turn_number * search.turn_step_deg)
        position = _turned(row, column, float(turn), rows, columns)
        sampled = [ndimage.map_coordinates(part, position, order=1, mode="nearest") for part in smooth]
        for shift in sorted(range(-most, most + 1), key=abs):
            centre = reach + most + shift
            apart = stride * np.arange(1, 15)
            difference = 2 * sum(
                weight * float(((part[:, centre + apart] - part[:, centre - apart]) ** 2).sum())
                for part, weight in zip(sampled, search.weights, strict=True)
            )
            cost = (
                difference
                + search.turn_penalty * (turn_number / turns) ** 2
                + search.shift_penalty * (shift / most) ** 2
            )
            if cost < best[0]:
                best = (cost, float(turn), shift * step)
    return best[1], best[2]


def _posterior_margin(disc: FloatMap, column: float, width: float) -> float:
    """Row (fractional) behind which the disc ends in the columns about `column`; without a disc the usual place."""
    weights = np.exp(-0.5 * ((np.arange(disc.shape[1]) - column) / width) ** 2)
    profile = disc @ weights / weights.sum()
    inside = np.flatnonzero(profile > 0.5)
    if not len(inside):
        return float((len(disc) - 1) / 2)
    last = int(inside.max())
    if last + 1 >= len(profile):
        return float(last)
    return last + float((profile[last] - 0.5) / (profile[last] - profile[last + 1]))
