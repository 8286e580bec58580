"""Reads the axial slices that cross each disc: which slices, the patient-aligned window, the network, labels on the source grid.

Rows of a window run to the back and columns to the patient's left whatever the order of the source, so sides come from
geometry alone. Ranges and sizes: configs/reading.toml; label numbers: configs/anatomy.toml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from configs import anatomy, config_path, load_toml
from dicom_io.geometry import FloatArray, Grid, SourceInstance, Volume
from dicom_io.study import Stack
from inference.placement import offset_along_normal
from inference.recess_depth import Depth, read_depths
from inference.window_reading import read_windows
from models.intensity import normalise

if TYPE_CHECKING:
    from inference.localize import Disc
    from models.runtime import Segmenter

_PATIENT_LEFT = np.array([1.0, 0.0, 0.0])
_CRANIAL = np.array([0.0, 0.0, 1.0])
_SMALLEST_SAC_MM2 = 25.0
"""Less sac than this on a slice does not tell where the canal is."""
_PREFILTER_SHARE = 0.8
"""A source pixel smaller than this share of the window's pixel is smoothed first, so that nothing aliases."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WindowRange(_Part):
    rows_columns: int
    anterior_mm: float
    sac_behind_margin_mm: float
    recentre_beyond_mm: float
    largest_recentring_mm: float
    reread_beyond_mm: float


class TaughtLevels(_Part):
    taught: tuple[str, ...]


class SliceRange(_Part):
    recess_mm: tuple[float, float]
    herniation_mm: tuple[float, float]
    canal_mm: tuple[float, float]
    read_mm: tuple[float, float]
    nearest_mm: float
    largest_gap_mm: float
    largest_tilt_deg: float


class RecessRange(_Part):
    plausible_mm: tuple[float, float]
    largest_uncertainty_mm: float
    largest_disagreement_mm: float
    herniation_narrows_mm: float


class CanalRange(_Part):
    plausible_area_mm2: tuple[float, float]
    plausible_ap_mm: tuple[float, float]


class HerniationRange(_Part):
    smallest_area_mm2: float
    focal_share_of_circumference: float
    type_uncertain_mm: float
    central_share_of_sac_half_width: float
    subarticular_to_mm: float
    foraminal_to_mm: float
    sagittal_weight: float
    planes_disagree: tuple[float, float]
    sagittal_against: float


class QualityRange(_Part):
    largest_entropy: float
    smallest_disc_mm2: float


class Reading(_Part):
    """How axial slices are read; configs/reading.toml."""

    window: WindowRange
    levels: TaughtLevels
    slices: SliceRange
    recess: RecessRange
    canal: CanalRange
    herniation: HerniationRange
    quality: QualityRange


@cache
def reading() -> Reading:
    """Ranges, tolerances and sizes of the axial reading. ConfigError when the file does not fit."""
    return load_toml(config_path("reading.toml"), Reading)


@dataclass(frozen=True)
class LabelMap:
    """Class numbers (slice, row, column) uint8 on a grid; 0 is nothing, other numbers as in configs/anatomy.toml.

    `levels` names the disc level that each slice was read for (axial maps; None where it was read for none).
    """

    array: NDArray[np.uint8]
    grid: Grid
    plane: str
    source: Volume
    levels: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise ValueError(f"labels {self.array.shape} do not fit the grid {self.grid.shape}")


@dataclass(frozen=True)
class Window:
    """A patient-aligned patch of one slice: `origin` is the LPS mm of pixel (0, 0), `right` and `down` one pixel's step.

    `right` points to the patient's left, `down` to the back; both lie in the plane of the slice.
    """

    origin: FloatArray
    down: FloatArray
    right: FloatArray
    size: int

    def to_lps(self, row: FloatArray | float, column: FloatArray | float) -> FloatArray:
        """LPS mm (..., 3) of fractional rows and columns."""
        row, column = np.asarray(row, dtype=np.float64), np.asarray(column, dtype=np.float64)
        return self.origin + row[..., None] * self.down + column[..., None] * self.right

    def to_pixel(self, lps: FloatArray) -> FloatArray:
        """Fractional (row, column) (..., 2) of LPS mm points (..., 3), projected onto the slice."""
        shifted = np.asarray(lps, dtype=np.float64) - self.origin
        return np.stack(
            [shifted @ self.down / (self.down @ self.down), shifted @ self.right / (self.right @ self.right)], axis=-1
        )

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel."""
        return float(np.linalg.norm(self.right))


@dataclass(frozen=True)
class AxialSlice:
    """One slice as it was read for one disc.

    `offset_mm` is where the slice cuts the canal, along the disc normal from the mid-plane, towards the head positive;
    `tilt_deg` the angle between slice and disc; `probabilities` (K, H, W) in the order of the model's classes.
    """

    index: int
    instance: SourceInstance
    offset_mm: float
    tilt_deg: float
    window: Window
    image: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @property
    def canal_entropy(self) -> float:
        """Mean entropy (nats) of the class probabilities in the middle of the window, where the canal lies."""
        size = self.window.size
        part = self.probabilities[:, int(0.45 * size) : int(0.85 * size), int(0.25 * size) : int(0.75 * size)]
        part = np.clip(part, 1e-7, 1.0)
        return float(-(part * np.log(part)).sum(axis=0).mean())

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Most probable class of every pixel of the window."""
        classes: NDArray[np.uint8] = np.argmax(self.probabilities, axis=0).astype(np.uint8)
        return classes


@dataclass(frozen=True)
class AxialReading:
    """Every axial slice that was read for one disc, towards the feet first, and its labels on the source grid.

    `slices` is empty when no slice of the stack comes near the disc. `step_mm` is the largest distance between
    neighbouring slices that were read. `depths` holds "left" and "right" where the recess network took part.
    """

    disc: Disc
    stack: Stack
    classes: tuple[str, ...]
    slices: tuple[AxialSlice, ...]
    step_mm: float
    label_map: LabelMap | None
    depths: Mapping[str, Depth] = field(default_factory=dict)
    recentred_mm: float = 0.0
    """How far the sac lies from where the sagittal slices place it, where the windows were laid anew around it."""
    along_mm: float = 0.0
    """How far along its normal, + towards the head, these slices show the disc from where the sagittal ones place it."""

    def channel(self, name: str) -> int:
        """Index of a class in the probabilities."""
        return self.classes.index(name)


def slice_windows(
    volume: Volume, anchor: FloatArray, normal: FloatArray, pixel_mm: float
) -> list[tuple[int, float, Window]]:
    """For each slice that comes near `anchor`: its index, offset along `normal` in mm, and its patient-aligned window.

    `anchor` (3,) is the midline point of the posterior disc margin, `normal` (3,) the disc's unit normal towards the head.
    Ordered from the feet to the head.
    """
    settings = reading()
    low, high = settings.slices.read_mm
    grid = volume.grid
    plane = grid.normal if grid.normal @ _CRANIAL > 0 else -grid.normal
    steepness = float(plane @ normal)
    if steepness < np.cos(np.radians(75.0)):
        return []
    right = _PATIENT_LEFT - (_PATIENT_LEFT @ plane) * plane
    right = right / np.linalg.norm(right)
    down = np.cross(plane, right)
    half = (settings.window.rows_columns - 1) / 2
    found = []
    for index in range(grid.shape[0]):
        on_plane = grid.to_lps(np.array([index, 0.0, 0.0]))
        offset = float((on_plane - anchor) @ plane) / steepness
        if not low <= offset <= high:
            continue
        centre = anchor + offset * normal - settings.window.anterior_mm * down
        if not grid.contains(np.array([centre]), margin=0.5)[0]:
            continue
        origin = centre - half * pixel_mm * (down + right)
        found.append((index, offset, Window(origin, down * pixel_mm, right * pixel_mm, settings.window.rows_columns)))
    return sorted(found, key=lambda item: item[1])


def sample_window(volume: Volume, index: int, window: Window) -> NDArray[np.float32]:
    """Grey values (H, W) of slice `index` at the pixels of `window`, cubic; outside the picture the nearest value holds."""
    picture = np.asarray(volume.array[index], dtype=np.float32)
    rows, columns = np.mgrid[: window.size, : window.size]
    position = volume.grid.to_index(window.to_lps(rows, columns))
    ratio = window.pixel_mm / np.array(volume.grid.spacing[1:])
    if max(ratio) * _PREFILTER_SHARE > 1.0:
        picture = ndimage.gaussian_filter(picture, 0.4 * np.sqrt(np.maximum(ratio**2 - 1.0, 0.0)))
    return ndimage.map_coordinates(picture, [position[..., 1], position[..., 2]], order=3, mode="nearest").astype(
        np.float32
    )


def segment_axial(
    stacks: Sequence[Stack], discs: Sequence[Disc], segmenter: Segmenter, recess: Segmenter, *, alone: bool = False
) -> tuple[AxialReading, ...]:
    """Read every disc on the stack that covers it best; one result per disc that some stack comes near, in their order.

    `stacks` are axial stacks in order of preference (a later one is taken only where it covers the disc better). `recess` is the
    network that reads the depth of the recesses. `alone`: every slice is read without its neighbours.
    """
    readings = []
    for disc in discs:
        choice = _best_stack(stacks, disc, segmenter.spacing_mm)
        if choice is None:
            continue
        stack, windows = choice
        slices = _read_slices(stack.volume, disc, windows, segmenter, alone=alone)
        moved = recentred_margin(slices, disc, segmenter.card.classes)
        distance = 0.0 if moved is None else float(np.linalg.norm(moved - np.asarray(disc.posterior_margin_lps)))
        if moved is not None:
            again = slice_windows(stack.volume, moved, np.asarray(disc.normal), segmenter.spacing_mm)
            slices = _read_slices(stack.volume, disc, again, segmenter, alone=alone) if again else slices
        place = np.asarray(disc.posterior_margin_lps) if moved is None else moved
        slices, along = _along_normal(slices, place, disc, stack.volume, segmenter, alone=alone)
        offsets = np.array([item.offset_mm for item in slices])
        step = float(np.max(np.diff(offsets))) if len(offsets) > 1 else float("inf")
        labels = label_map(stack.volume, slices)
        depths = read_depths(slices, recess) if disc.name in reading().levels.taught else {}
        readings.append(
            AxialReading(disc, stack, segmenter.card.classes, slices, step, labels, depths, distance, along)
        )
    return tuple(readings)


def _along_normal(
    slices: tuple[AxialSlice, ...],
    place: FloatArray,
    disc: Disc,
    volume: Volume,
    segmenter: Segmenter,
    *,
    alone: bool,
) -> tuple[tuple[AxialSlice, ...], float]:
    """The slices counted from where they show the disc, read anew where others come into reach, and how far (mm) that is.

    `place` (3,): the posterior disc margin in LPS mm that the windows of `slices` were laid for.
    """
    settings = reading().window
    normal = np.asarray(disc.normal)
    channel, step = segmenter.card.classes.index("disc"), volume.grid.spacing[0]
    along = rest = offset_along_normal(slices, disc, place, channel, step, settings.anterior_mm)
    if abs(along) > settings.reread_beyond_mm:
        place = place + along * normal
        again = slice_windows(volume, place, normal, segmenter.spacing_mm)
        if again:
            slices = _read_slices(volume, disc, again, segmenter, alone=alone)
            rest = offset_along_normal(slices, disc, place, channel, step, settings.anterior_mm)
            along += rest
    # a window is laid where the disc's normal meets the slice, so it stays the same
    return tuple(replace(item, offset_mm=item.offset_mm - rest) for item in slices), along


def _read_slices(
    volume: Volume, disc: Disc, windows: Sequence[tuple[int, float, Window]], segmenter: Segmenter, *, alone: bool
) -> tuple[AxialSlice, ...]:
    images = np.stack(
        [normalise(sample_window(volume, index, window), segmenter.card.input) for index, _, window in windows]
    )
    probabilities = read_windows(images, segmenter, None if alone else volume.grid.spacing[0])
    cosine = np.clip(abs(volume.grid.normal @ np.asarray(disc.normal)), 0.0, 1.0)
    tilt = float(np.degrees(np.arccos(cosine)))
    return tuple(
        AxialSlice(index, volume.instances[index], offset, tilt, window, images[i], probabilities[i])
        for i, (index, offset, window) in enumerate(windows)
    )


def recentred_margin(slices: Sequence[AxialSlice], disc: Disc, classes: Sequence[str]) -> FloatArray | None:
    """The disc's margin (3,) moved within its plane to where the sac says it is; None where it lies well or no sac is seen."""
    settings = reading().window
    low, high = reading().slices.recess_mm
    anchor, normal = np.asarray(disc.posterior_margin_lps), np.asarray(disc.normal)
    found = []
    for item in slices:
        sac = item.probabilities[classes.index("thecal_sac")].astype(np.float64)
        if not low <= item.offset_mm <= high or sac.sum() * item.window.pixel_mm**2 < _SMALLEST_SAC_MM2:
            continue
        rows, columns = np.mgrid[: item.window.size, : item.window.size]
        middle = (item.window.size - 1) / 2
        right = (float((sac * columns).sum() / sac.sum()) - middle) * item.window.pixel_mm
        down = (float((sac * rows).sum() / sac.sum()) - middle) * item.window.pixel_mm - settings.anterior_mm
        found.append((right, down - settings.sac_behind_margin_mm))
    if not found:
        return None
    off = np.mean(found, axis=0)
    # each direction on its own: how far the sac lies behind the disc differs between people, how far to the side hardly
    left_mm, back_mm = np.where(np.abs(off) > settings.recentre_beyond_mm, off, 0.0)
    if left_mm == back_mm == 0.0:
        return None
    left = _PATIENT_LEFT - (_PATIENT_LEFT @ normal) * normal
    left = left / np.linalg.norm(left)
    moved: FloatArray = anchor + left_mm * left + back_mm * np.cross(normal, left)
    return moved


def _best_stack(
    stacks: Sequence[Stack], disc: Disc, pixel_mm: float
) -> tuple[Stack, list[tuple[int, float, Window]]] | None:
    """The stack whose slices reach the disc's recess range most completely; ties go to the earlier stack."""
    low, high = reading().slices.recess_mm
    best: tuple[tuple[int, float], Stack, list[tuple[int, float, Window]]] | None = None
    for stack in stacks:
        windows = slice_windows(stack.volume, np.asarray(disc.posterior_margin_lps), np.asarray(disc.normal), pixel_mm)
        if not windows:
            continue
        inside = sum(low <= offset <= high for _, offset, _ in windows)
        tilt = float(abs(stack.volume.grid.normal @ np.asarray(disc.normal)))
        score = (min(inside, 2), round(tilt, 1))
        if best is None or score > best[0]:
            best = (score, stack, windows)
    return None if best is None else (best[1], best[2])


def label_map(volume: Volume, slices: Sequence[AxialSlice]) -> LabelMap:
    """Most probable class at every source pixel inside the windows of `slices`; 0 elsewhere. Numbers of configs/anatomy.toml.

    The network's channels are the background and then the axial labels in the order of their numbers.
    """
    array = np.zeros(volume.grid.shape, dtype=np.uint8)
    for item in slices:
        array[item.index] = labels_on_slice(volume.grid, item)
    return LabelMap(array, volume.grid, "axial", volume)


def labels_on_slice(grid: Grid, item: AxialSlice) -> NDArray[np.uint8]:
    """Class numbers (rows, columns) of one slice of `grid`, from probabilities interpolated at its pixel centres."""
    result = np.zeros(grid.shape[1:], dtype=np.uint8)
    corners = item.window.to_lps(
        np.array([0, 0, item.window.size - 1, item.window.size - 1]), np.array([0, item.window.size - 1] * 2)
    )
    index = grid.to_index(corners)[:, 1:]
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, np.array(result.shape))
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, 0, np.array(result.shape))
    if np.any(high <= low):
        return result
    rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]]
    source = np.stack([np.full(rows.shape, item.index), rows, columns], axis=-1)
    pixel = item.window.to_pixel(grid.to_lps(source))
    position = [pixel[..., 0], pixel[..., 1]]
    sampled = np.stack(
        [ndimage.map_coordinates(channel, position, order=1, mode="constant") for channel in item.probabilities]
    )
    inside = sampled.sum(axis=0) > 0.5
    result[low[0] : high[0], low[1] : high[1]] = np.where(inside, np.argmax(sampled, axis=0), 0)
    return result


def class_names() -> tuple[str, ...]:
    """Classes of the axial network in the order of its channels: the background, then the labels by their number."""
    return ("background", *anatomy().axial.names)
