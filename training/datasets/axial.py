"""Axial training data: real slices with outlines of disc and sac, and phantom crops on which every class is known.

Real: `axial/outlines.json` with its fixed split by patient (Sudirman et al., CC BY 4.0). Phantoms: shards made by
`training.datasets.axial_crops`. Mirroring swaps the sides of the labels; nothing else may mirror.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from inference.segment import class_names, reading
from models.intensity import InputSpec, normalise
from training.datasets import IGNORE, Sample
from training.datasets.axial_crops import TRUTH, TYPES, Crops, Split, load_crops
from training.recipes import Recipe

FloatImage = NDArray[np.float32]

_PERCENTILES = InputSpec(spacing_mm=1.0)
"""The scale that `degraded` works on, whatever the network's own."""
_VISIBLE_PIXELS = 20
"""Herniated material of fewer pixels (7 mm2) is hardly seen."""
_BESIDE_CANAL_MM = 14.0
_IN_PLANE = (-2, -1)
_BODY_LEVEL = "body level"
"""Words of an outline's note where the slice cuts bone: its outer outline is no disc there."""


class Augmentation(BaseModel):
    """How far a training sample may be from its source. Every range is drawn evenly; lengths in mm, angles in degrees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mirror: Literal["never", "swap_sides"] = "swap_sides"
    rotation_deg: float = 15.0
    scale: tuple[float, float] = (0.85, 1.18)
    stretch: float = 0.06
    shift_mm: float = 10.0
    bend_mm: float = 1.2
    gamma: tuple[float, float] = (0.65, 1.55)
    remap: float = 0.35
    bias: float = 0.45
    blur_mm: float = 0.75
    sharpen: float = 0.6
    noise: float = 0.05
    coarse: float = 0.25
    slip_mm: float = 0.0
    """How far (one standard deviation) neighbouring slices of one stack are moved against each other."""


class Settings(BaseModel):
    """The [data] part of a recipe for this dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crops: str | None = None
    """Folder of phantom shards; None trains on real outlines alone."""
    crops_split: Split = "train"
    """Three slices around the recess of each disc, or whole stacks."""
    real_share: float = Field(default=0.4, ge=0, le=1)
    t2_share_of_real: float = Field(default=0.3, ge=0, le=1)
    herniation_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the simulated samples that are picked because herniated material is seen on them."""
    hard_share: float = Field(default=0.0, ge=0, le=1)
    """Share of those on which the material lies beside the canal or has come loose from its disc."""
    alone_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the simulated samples that a network with context sees without their neighbours, as it sees all real ones."""
    t1_pixel_mm: float = 0.6875
    typical_disc_width_mm: float = 52.0
    validation_crops: int = 64
    flat_pictures: bool = False
    """Simulated pictures are painted anew with one grey per label: a simulator without tissues, texture and scanner."""
    unlabelled: str | None = None
    """File of real slices that a network labelled (`training.self_training`)."""
    unlabelled_share: float = Field(default=0.0, ge=0, le=1)
    augmentation: Augmentation = Augmentation()


@dataclass(frozen=True)
class Outlined:
    """One real slice: pixels, pixel size in mm, polygons in pixel coordinates (column, row), integers at pixel centres."""

    name: str
    patient: str
    split: str
    weighting: str
    quality: str
    body_level: bool
    pixels: FloatImage
    pixel_mm: float
    disc: NDArray[np.float64]
    sac: NDArray[np.float64]

    @property
    def anchor(self) -> NDArray[np.float64]:
        """(column, row) of the disc's posterior margin in front of the middle of the sac."""
        middle = float(self.sac[:, 0].mean())
        near = self.disc[np.abs(self.disc[:, 0] - middle) < 0.12 * np.ptp(self.disc[:, 0])]
        rows = near[:, 1] if len(near) else self.disc[:, 1]
        return np.array([middle, float(rows.max())])

    @property
    def grouping(self) -> str:
        """Which of the recipe's groupings tells what is outlined reliably here."""
        if self.body_level:
            return "sac_only"
        return "disc_only" if self.quality == "poor" else "outlines"


@dataclass(frozen=True)
class SelfTaught:
    """Real windows that nobody outlined: pictures (N, H, W), class numbers a network gave them (N, H, W) with IGNORE where it was
    unsure, (row, column) of the posterior disc margin in all of them, edge of a pixel in mm, whose they are (N,).
    """

    images: FloatImage
    labels: NDArray[np.int8]
    anchor: NDArray[np.float64]
    pixel_mm: float
    patients: NDArray[np.str_]


def load_self_taught(path: Path) -> SelfTaught:
    """What `training.self_training` wrote. FileNotFoundError when it is not there."""
    with np.load(path) as stored:
        return SelfTaught(
            images=stored["images"].astype(np.float32),
            labels=stored["labels"],
            anchor=stored["anchor"],
            pixel_mm=float(stored["pixel_mm"]),
            patients=stored["patients"],
        )


def painted_flat(crops: Crops) -> Crops:
    """The crops with every label, the background too, in its own mean grey of that picture."""
    images = np.empty_like(crops.images)
    for picture, labels, flat in zip(crops.images, crops.labels, images, strict=True):
        for value in np.unique(labels):
            inside = labels == value
            flat[inside] = round(float(picture[inside].mean()))
    return replace(crops, images=images)


def build(recipe: Recipe, split: str, rng: np.random.Generator, data: Path) -> Iterator[Sample]:
    """Samples of one split. "train" never ends; "validation" holds real slices and then crops; "test" real slices only.

    Raises FileNotFoundError where the outlines or the shards of crops are missing.
    """
    settings = Settings.model_validate(recipe.data)
    slices = [item for item in load_outlines(data, settings) if item.split == split]
    if split == "train":
        crops = load_crops(Path(settings.crops), settings.crops_split) if settings.crops else None
        crops = painted_flat(crops) if crops is not None and settings.flat_pictures else crops
        return _training(recipe, settings, slices, crops, rng)
    shown = settings.crops and split == "validation" and settings.validation_crops
    crops = load_crops(Path(settings.crops), "validation") if settings.crops and shown else None
    return _fixed(recipe, settings, slices, crops)


@lru_cache(maxsize=4)
def load_outlines(
    data: Path, settings: Settings, part: Literal["slices", "repeats"] = "slices"
) -> tuple[Outlined, ...]:
    """All outlined real slices, or those that a second outliner drew again (same names).

    The pixel of T1 is the publisher's; of T2 it is taken from 0.6875 or from the disc's width.
    """
    from PIL import Image

    folder = data / "axial"
    content = json.loads((folder / "outlines.json").read_text(encoding="utf-8"))[part]
    result = []
    for name, item in content.items():
        with Image.open(folder / item["file"]) as picture:
            pixels = np.asarray(picture.convert("L"), dtype=np.float32)
        weighting = "t2" if "t2" in item["file"].lower() else "t1"
        disc = np.array(item["disc"], dtype=np.float64)
        result.append(
            Outlined(
                name=name,
                patient=item["patient"],
                split=item["split"],
                weighting=weighting,
                quality=item["quality"],
                body_level=_BODY_LEVEL in (item.get("note") or "").lower(),
                pixels=pixels,
                pixel_mm=_pixel_mm(weighting, pixels.shape[1], disc, settings),
                disc=disc,
                sac=np.array(item["sac"], dtype=np.float64),
            )
        )
    return tuple(result)


def _pixel_mm(weighting: str, columns: int, disc: NDArray[np.float64], settings: Settings) -> float:
    """T2 pictures of the T1 matrix share its pixel; others are scaled so that the disc has its usual width."""
    if weighting == "t1" or columns == 320:
        return settings.t1_pixel_mm
    return settings.typical_disc_width_mm / float(np.ptp(disc[:, 0]))


def polygon_mask(polygon: NDArray[np.float64], rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Which points (rows, columns) of any shape lie inside a polygon of (column, row) vertices; integers are pixel centres."""
    from matplotlib.path import Path as Outline

    points = np.stack([np.ravel(columns), np.ravel(rows)], axis=1)
    return np.asarray(Outline(polygon, closed=False).contains_points(points)).reshape(np.shape(rows))


@dataclass(frozen=True)
class Placement:
    """Where a window's pixels lie in a source picture: (row, column) = centre + matrix @ (pixel - middle) + bend."""

    centre: NDArray[np.float64]
    matrix: NDArray[np.float64]
    bend: NDArray[np.float64] | None = None
    mirrored: bool = False

    def positions(self, size: int) -> NDArray[np.float64]:
        """Fractional (row, column) in the source of every window pixel, (2, size, size)."""
        grid = np.mgrid[:size, :size].astype(np.float64) - (size - 1) / 2
        if self.mirrored:
            grid[1] = -grid[1]
        position = np.einsum("ij,jrc->irc", self.matrix, grid) + self.centre[:, None, None]
        return position if self.bend is None else position + self.bend


def placed(source_mm: float, pixel_mm: float, anchor: NDArray[np.float64]) -> Placement:
    """The window as reading places it: centred in front of the posterior margin `anchor` (row, column) of the source."""
    ratio = pixel_mm / source_mm
    centre = anchor - np.array([reading().window.anterior_mm / source_mm, 0.0])
    return Placement(centre, np.eye(2) * ratio)


def jittered(
    source_mm: float, pixel_mm: float, anchor: NDArray[np.float64], recipe: Augmentation, rng: np.random.Generator
) -> Placement:
    """A window turned, scaled, stretched, shifted, bent and perhaps mirrored at random."""
    plain = placed(source_mm, pixel_mm, anchor)
    angle = np.radians(rng.uniform(-recipe.rotation_deg, recipe.rotation_deg) * rng.uniform(0, 1))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag(1.0 + rng.uniform(-recipe.stretch, recipe.stretch, 2))
    matrix = turn @ stretch @ plain.matrix / rng.uniform(*recipe.scale)
    centre = plain.centre + rng.uniform(-recipe.shift_mm, recipe.shift_mm, 2) / source_mm
    size = reading().window.rows_columns
    coarse = rng.normal(0.0, recipe.bend_mm * rng.uniform(0, 1) / source_mm, (2, 6, 6))
    bend = np.stack([ndimage.zoom(field, size / 6, order=3) for field in coarse])
    mirrored = recipe.mirror == "swap_sides" and bool(rng.random() < 0.5)
    return Placement(centre, matrix, bend, mirrored)


def swap_sides(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels with left and right recess exchanged: what a mirrored picture shows."""
    names = class_names()
    left, right = names.index("recess_left"), names.index("recess_right")
    result = labels.copy()
    result[labels == left], result[labels == right] = right, left
    return result


def real_sample(item: Outlined, placement: Placement, recipe: Recipe) -> Sample:
    """One real slice seen through a window: image not yet normalised, disc and sac as class numbers."""
    names = class_names()
    rows, columns = placement.positions(reading().window.rows_columns)
    image = ndimage.map_coordinates(_smoothed(item.pixels, placement), [rows, columns], order=3, mode="nearest")
    target = np.zeros(rows.shape, dtype=np.int64)
    target[polygon_mask(item.disc, rows, columns)] = names.index("disc")
    target[polygon_mask(item.sac, rows, columns)] = names.index("thecal_sac")
    return Sample(image[None].astype(np.float32), target, recipe.grouping_index(item.grouping), item.patient)


def crop_sample(crops: Crops, index: int, placement: Placement) -> Sample:
    """One phantom crop seen through a window; pixels beyond the crop are nobody's."""
    return labelled_sample(crops.images[index], crops.labels[index], placement, f"phantom-{crops.seeds[index]}")


def neighbours_of(crops: Crops) -> NDArray[np.int64]:
    """Numbers (N, 2) of the crops before and after each crop in its stack, from feet to head; at an end the crop itself."""
    order = np.lexsort((crops.offsets, crops.stacks))
    same = np.diff(crops.stacks[order]) == 0
    result = np.empty((len(order), 2), dtype=np.int64)
    result[order[1:], 0] = np.where(same, order[:-1], order[1:])
    result[order[:-1], 1] = np.where(same, order[1:], order[:-1])
    result[order[0], 0], result[order[-1], 1] = order[0], order[-1]
    return result


def with_neighbours(
    sample: Sample,
    crops: Crops,
    index: int,
    placement: Placement,
    beside: NDArray[np.int64],
    slips: NDArray[np.float64] | None = None,
) -> Sample:
    """The sample of a crop with the slices before and after it as channels (3, H, W), each in the window that reading would lay.

    `slips` (2, 2) moves them by so many (row, column) pixels of the crops.
    """
    planes = []
    for number, slip in zip(beside, np.zeros((2, 2)) if slips is None else slips, strict=True):
        moved = replace(placement, centre=placement.centre + crops.anchors[number] - crops.anchors[index] + slip)
        planes.append(_seen(crops.images[number], moved))
    return replace(sample, image=np.stack([planes[0], sample.image[0], planes[1]]))


def labelled_sample(picture: NDArray[Any], labels: NDArray[Any], placement: Placement, patient: str) -> Sample:
    """A picture (H, W) with a class number for every pixel seen through a window; pixels beyond it are nobody's."""
    rows, columns = placement.positions(reading().window.rows_columns)
    nearest = np.rint(rows).astype(int), np.rint(columns).astype(int)
    height, width = picture.shape
    inside = (nearest[0] >= 0) & (nearest[0] < height) & (nearest[1] >= 0) & (nearest[1] < width)
    seen = labels[np.clip(nearest[0], 0, height - 1), np.clip(nearest[1], 0, width - 1)]
    seen = swap_sides(seen) if placement.mirrored else seen
    target = np.where(inside, seen.astype(np.int64), IGNORE)
    return Sample(_seen(picture, placement)[None], target, 0, patient)


def _seen(picture: NDArray[Any], placement: Placement) -> FloatImage:
    """Grey values (H, W) of a picture through a window; outside it the nearest value holds."""
    smooth = _smoothed(picture.astype(np.float32), placement)
    position = placement.positions(reading().window.rows_columns)
    return np.asarray(ndimage.map_coordinates(smooth, position, order=1, mode="nearest"), dtype=np.float32)


def _smoothed(picture: FloatImage, placement: Placement) -> FloatImage:
    ratio = float(np.sqrt(abs(np.linalg.det(placement.matrix))))
    if ratio <= 1.25:
        return picture
    return np.asarray(ndimage.gaussian_filter(picture, 0.4 * np.sqrt(ratio**2 - 1)), dtype=np.float32)


def degraded(image: FloatImage, pixel_mm: float, recipe: Augmentation, rng: np.random.Generator) -> FloatImage:
    """A picture (H, W) scaled to 0..1 with other contrast, shading, sharpness and noise.

    Slices of one stack (C, H, W) are changed alike and get each its own noise.
    """
    result: NDArray[Any] = image
    across = (1,) * (image.ndim - 2)
    if rng.random() < 0.7:
        result = np.clip(result, 0, None) ** rng.uniform(*recipe.gamma)
    if rng.random() < 0.5:
        knots = np.linspace(0.0, 1.0, 6)
        curve = np.maximum.accumulate(np.clip(knots + rng.normal(0, recipe.remap / 5, 6), 0, None))
        result = np.interp(result, knots, curve, right=float(curve[-1]))
    if rng.random() < 0.7:
        rows, columns = np.mgrid[-1 : 1 : result.shape[-2] * 1j, -1 : 1 : result.shape[-1] * 1j]
        slope = rng.normal(0, recipe.bias / 2, 5)
        field = (
            slope[0] * rows
            + slope[1] * columns
            + slope[2] * rows * columns
            + slope[3] * rows**2
            + slope[4] * columns**2
        )
        result = result * np.exp(field - field.mean())
    if rng.random() < recipe.coarse:
        factor = rng.uniform(1.0, 1.9)
        small = ndimage.zoom(result, (*across, 1 / factor, 1 / factor), order=1)
        result = ndimage.zoom(small, np.array(result.shape) / np.array(small.shape), order=1)
    draw = rng.random()
    if draw < 0.3:
        result = ndimage.gaussian_filter(result, rng.uniform(0, recipe.blur_mm) / pixel_mm, axes=_IN_PLANE)
    elif draw < 0.45:
        result = result + rng.uniform(0, recipe.sharpen) * (
            result - ndimage.gaussian_filter(result, 1.2, axes=_IN_PLANE)
        )
    if rng.random() < 0.8:
        sigma = recipe.noise * rng.uniform(0, 1) ** 2
        noise = rng.normal(0, sigma, result.shape)
        grain = ndimage.gaussian_filter(noise, 0.6, axes=_IN_PLANE) * 1.8 if rng.random() < 0.6 else noise
        result = np.abs(result + grain)
    return np.asarray(result, dtype=np.float32)


def _training(
    recipe: Recipe, settings: Settings, slices: list[Outlined], crops: Crops | None, rng: np.random.Generator
) -> Iterator[Sample]:
    pixel = recipe.input.spacing_mm
    kinds = {kind: [item for item in slices if item.weighting == kind] for kind in ("t1", "t2")}
    augmentation = settings.augmentation
    showing = _showing_herniation(crops) if crops is not None else np.empty(0, dtype=np.int64)
    hard = _hard_to_see(crops, showing) if crops is not None else showing
    taught = load_self_taught(Path(settings.unlabelled)) if settings.unlabelled else None
    context = recipe.input.context_mm is not None
    beside = neighbours_of(crops) if crops is not None and context else None
    while True:
        if taught is not None and rng.random() < settings.unlabelled_share:
            index = int(rng.integers(len(taught.images)))
            placement = jittered(taught.pixel_mm, pixel, taught.anchor, augmentation, rng)
            sample = labelled_sample(taught.images[index], taught.labels[index], placement, str(taught.patients[index]))
        elif crops is None or rng.random() < settings.real_share:
            chosen = kinds["t2" if kinds["t2"] and rng.random() < settings.t2_share_of_real else "t1"]
            item = chosen[int(rng.integers(len(chosen)))]
            anchor = item.anchor[::-1]
            sample = real_sample(item, jittered(item.pixel_mm, pixel, anchor, augmentation, rng), recipe)
        else:
            picked = len(showing) > 0 and rng.random() < settings.herniation_share
            choice = (
                hard if picked and len(hard) and settings.hard_share and rng.random() < settings.hard_share else showing
            )
            index = int(rng.choice(choice)) if picked else int(rng.integers(len(crops.images)))
            placement = jittered(crops.pixel_mm, pixel, crops.anchors[index], augmentation, rng)
            sample = crop_sample(crops, index, placement)
            if beside is not None and rng.random() >= settings.alone_share:
                slips = rng.normal(0, augmentation.slip_mm / crops.pixel_mm, (2, 2))
                sample = with_neighbours(sample, crops, index, placement, beside[index], slips)
        planes = np.stack([normalise(plane, _PERCENTILES) for plane in sample.image])
        planes = degraded(planes, pixel, augmentation, rng)
        yield _as_input(replace(sample, image=planes), recipe)


def _as_input(sample: Sample, recipe: Recipe) -> Sample:
    """The sample as the network sees it: every slice on its own scale; with context, a slice alone is its own neighbour."""
    image = np.stack([normalise(plane, recipe.input) for plane in sample.image])
    alone = recipe.input.context_mm is not None and len(image) == 1
    return replace(sample, image=np.repeat(image, 3, axis=0) if alone else image)


def _showing_herniation(crops: Crops) -> NDArray[np.int64]:
    """Crops with at least _VISIBLE_PIXELS of herniated material."""
    value = class_names().index("herniated_material")
    return np.flatnonzero((crops.labels == value).sum(axis=(1, 2)) >= _VISIBLE_PIXELS)


def _hard_to_see(crops: Crops, showing: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the crops `showing` herniated material whose herniation lies beside the canal or is a sequestration."""
    lateral = np.abs(crops.truth[showing, TRUTH.index("hernia_u")]) > _BESIDE_CANAL_MM
    loose = crops.truth[showing, TRUTH.index("hernia_type")] == TYPES.index("sequestration")
    return showing[lateral | loose]


def _fixed(recipe: Recipe, settings: Settings, slices: list[Outlined], crops: Crops | None) -> Iterator[Sample]:
    pixel = recipe.input.spacing_mm
    samples = [real_sample(item, placed(item.pixel_mm, pixel, item.anchor[::-1]), recipe) for item in slices]
    if crops is not None:
        beside = neighbours_of(crops)
        for index in range(min(settings.validation_crops, len(crops.images))):
            placement = placed(crops.pixel_mm, pixel, crops.anchors[index])
            sample = crop_sample(crops, index, placement)
            if recipe.input.context_mm is not None:
                sample = with_neighbours(sample, crops, index, placement, beside[index])
            samples.append(sample)
    for sample in samples:
        yield _as_input(sample, recipe)
