"""SPIDER (van der Graaf 2024, CC BY 4.0) as training samples: labelled T2 SPACE slabs, and whole mid-sagittal T1 and T2 slices.

Slices lie with the head up and the front to the left. The slabs have masks of vertebra, disc and canal but show only the spine;
whole slices have none and get them from a network taught on the slabs, where the column it finds is plausible.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from configs import anatomy
from models.intensity import normalise, with_context
from training.datasets import Sample
from training.datasets.augment import Strength, change_brightness, change_intensity, place
from training.recipes import Recipe

Split = Literal["train", "validation", "test"]

POSTERIOR_ELEMENTS = 50
"""Mask value of vertebra behind the canal; up to here everything is vertebra."""
CANAL = 100
FIRST_DISC = 201


class Settings(BaseModel):
    """The [data] part of a recipe over SPIDER."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[int, int] = (256, 192)
    """Rows and columns of a training crop in pixels of the recipe's spacing."""
    choice_patients: tuple[int, ...]
    """Training patients kept aside for choosing the best step."""
    whole_share: float = Field(default=0.0, ge=0, le=1)
    """Part of the samples that are whole mid-sagittal slices; needs `teacher`."""
    stir_share: float = Field(default=0.2, ge=0, le=1)
    """Part of the whole slices turned into a fat-suppressed look from the patient's T1 and T2."""
    thick_share: float = Field(default=0.5, ge=0, le=1)
    """Part of the slab samples averaged over neighbouring slices to the thickness of a routine sagittal slice."""
    surround_share: float = Field(default=0.6, ge=0, le=1)
    """Part of the slab samples set into front and back tissue of another patient's whole slice."""
    teacher: str | None = None
    """Run folder of the network that labels the whole slices, as given to `recess-train fit --runs`."""
    lone_share: float = Field(default=0.3, ge=0, le=1)
    """Part of the slab samples that are their own context, as a slice without neighbours is; needs context in the input."""
    neighbours_apart: tuple[int, int] = (1, 5)
    """Fewest and most slab slices (0.9 mm) between a slice and its context in training: from SPACE to routine spacing."""
    whole_column: bool = False
    """Windows lie around the middle of the column, instead of around a chance point of it."""
    light_share: float = Field(default=0.0, ge=0, le=1)
    """Part of the slab samples left nearly as they are: no new surroundings, one slice, `light` augmentation."""
    augmentation: Strength = Strength()
    light: Strength = Strength(
        rotation_deg=5.0,
        scale=(0.92, 1.1),
        stretch=0.03,
        remap_probability=0.0,
        gamma=(0.8, 1.25),
        bias=0.15,
        blur_mm_pixels=(0.0, 0.5),
        noise=0.03,
    )


@dataclass(frozen=True)
class Slab:
    """A labelled slab of one patient: (slice, row, column) uint8 image and class numbers, spacing in mm in that order."""

    patient: int
    image: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class _FlatSlab:
    """A slab at the recipe's spacing: (slice, row, column) normalised as one, and class numbers; mm between slices."""

    patient: int
    planes: NDArray[np.float32]
    classes: NDArray[np.int16]
    step_mm: float


@dataclass(frozen=True)
class WholeSlice:
    """One mid-sagittal slice: (row, column) uint8, square pixels of `spacing` mm; `sequence` is "t1" or "t2"."""

    patient: int
    sequence: str
    image: NDArray[np.uint8]
    spacing: float
    subset: str


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file. FileNotFoundError with the remedy when it is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; give the folder that holds spider/ with --data or RECESS_DATA")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def to_classes(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """The publisher's mask values as our sagittal class numbers (`configs/anatomy.toml`)."""
    labels = anatomy().sagittal
    classes = np.zeros(mask.shape, dtype=np.uint8)
    classes[(mask >= 1) & (mask <= POSTERIOR_ELEMENTS)] = labels.value("vertebra")
    classes[mask == CANAL] = labels.value("canal")
    classes[mask >= FIRST_DISC] = labels.value("disc")
    return classes


def read_slab(folder: Path, row: dict[str, str]) -> Slab:
    """One slab of `t2space_slabs/`, turned so that rows run from head to foot and columns from front to back."""
    stem = folder / f"{row['patient']}_t2_SPACE_0p94"
    image = np.asarray(nibabel.load(f"{stem}_img.nii.gz").dataobj)
    mask = np.asarray(nibabel.load(f"{stem}_mask.nii.gz").dataobj)
    upright = np.ascontiguousarray(image.transpose(0, 2, 1)[:, ::-1]).astype(np.uint8)
    instances = np.ascontiguousarray(mask.transpose(0, 2, 1)[:, ::-1]).astype(np.uint8)
    spacing = (float(row["spacing_slice"]), float(row["spacing_si"]), float(row["spacing_ap"]))
    return Slab(int(row["patient"]), upright, to_classes(instances), instances, spacing)


@lru_cache(maxsize=2)
def slabs(data: Path) -> tuple[tuple[Slab, str], ...]:
    """Every slab with its publisher's subset ("training" or "validation")."""
    folder = data / "spider" / "t2space_slabs"
    return tuple((read_slab(folder, row), row["subset"]) for row in read_table(folder / "index.csv"))


@lru_cache(maxsize=2)
def whole_slices(data: Path) -> tuple[WholeSlice, ...]:
    """Every mid-sagittal slice."""
    folder = data / "spider" / "midsag"
    found = []
    for row in read_table(folder / "index.csv"):
        with Image.open(folder / row["file"]) as image:
            pixels = np.asarray(image.convert("L"))
        spacing = float(row["pixel_spacing_stored"])
        found.append(WholeSlice(int(row["patient"]), row["sequence"], pixels, spacing, row["subset"]))
    return tuple(found)


def resample(
    image: NDArray[Any], spacing: tuple[float, float], target_mm: float, order: Literal[0, 1] = 1
) -> NDArray[Any]:
    """A (row, column) image on square pixels of `target_mm`; blurred first where it gets coarser and order > 0."""
    factors = [old / target_mm for old in spacing]
    source: NDArray[Any] = image.astype(np.float32) if order else image
    if order:
        source = ndimage.gaussian_filter(source, [max(0.0, 0.35 / factor - 0.35) for factor in factors])
    resampled: NDArray[Any] = ndimage.zoom(source, factors, order=order, grid_mode=True, mode="nearest")
    return resampled


def part_of(subset: str, patient: int, settings: Settings) -> Split:
    """Which split a patient belongs to; one patient is in one split with all images."""
    if subset == "validation":
        return "test"
    return "validation" if patient in settings.choice_patients else "train"


def build(recipe: Recipe, split: Split, rng: np.random.Generator, data: Path) -> Iterator[Sample]:
    """Samples of one split. "train" is endless and augmented; the others give every third slice of each slab once."""
    settings = Settings.model_validate(recipe.data)
    spacing = recipe.input.spacing_mm
    mine = [_flat(slab, recipe) for slab, subset in slabs(data) if part_of(subset, slab.patient, settings) == split]
    if split != "train":
        yield from _fixed_samples(recipe, mine)
        return
    wholes = [w for w in whole_slices(data) if part_of(w.subset, w.patient, settings) == "train"]
    surroundings = [normalise(resample(w.image, (w.spacing,) * 2, spacing), recipe.input) for w in wholes[::3]]
    labelled = _taught_slices(recipe, settings, wholes, data) if settings.whole_share > 0 else []
    while True:
        strength = settings.augmentation
        if labelled and rng.random() < settings.whole_share:
            image, target, patient = _whole_sample(labelled, recipe, settings, rng)
            strength = settings.light if settings.whole_column else strength
        elif settings.light_share > 0 and rng.random() < settings.light_share:
            image, target, patient = _slab_sample(mine, [], recipe, settings, rng)
            strength = settings.light
        else:
            image, target, patient = _slab_sample(mine, surroundings, recipe, settings, rng)
        image, target = place(image, target, settings.size, strength, rng, whole=settings.whole_column)
        if recipe.input.unit == "deviation":
            image = change_brightness(image, strength, rng)
        else:
            image = normalise(change_intensity(image, strength, rng), recipe.input)
        yield Sample(image, target.astype(np.int64), patient=str(patient))


def _flat(slab: Slab, recipe: Recipe) -> _FlatSlab:
    in_plane, spacing_mm = slab.spacing[1:], recipe.input.spacing_mm
    return _FlatSlab(
        slab.patient,
        normalise(np.stack([resample(plane, in_plane, spacing_mm) for plane in slab.image]), recipe.input),
        np.stack([resample(plane, in_plane, spacing_mm, order=0) for plane in slab.classes]).astype(np.int16),
        slab.spacing[0],
    )


def _fixed_samples(recipe: Recipe, mine: list[_FlatSlab]) -> Iterator[Sample]:
    for slab in mine:
        inputs = with_context(slab.planes, slab.step_mm, recipe.input)
        for index in range(1, len(inputs), 3):
            yield Sample(inputs[index], slab.classes[index].astype(np.int64), patient=str(slab.patient))


def _slab_sample(
    mine: list[_FlatSlab],
    surroundings: list[NDArray[np.float32]],
    recipe: Recipe,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int16], int]:
    """A chance slice of a chance slab (C, R, W) with its labels (R, W); without `surroundings` it stays thin, nothing beside it."""
    slab = mine[rng.integers(len(mine))]
    index = int(rng.integers(len(slab.planes)))
    half = int(rng.integers(1, 3)) if surroundings and rng.random() < settings.thick_share else 0
    image = np.stack([_thick_plane(slab, number, half) for number in _channels(slab, index, recipe, settings, rng)])
    target = slab.classes[index]
    if surroundings and rng.random() < settings.surround_share:
        image, target = _surround(image, target, surroundings[rng.integers(len(surroundings))], rng)
    return image, target, slab.patient


def _channels(
    slab: _FlatSlab, index: int, recipe: Recipe, settings: Settings, rng: np.random.Generator
) -> tuple[int, ...]:
    """Slices that make the channels of a sample around slice `index`."""
    if recipe.input.context_mm is None:
        return (index,)
    if rng.random() < settings.lone_share:
        return (index,) * 3
    low, high = settings.neighbours_apart
    apart = int(rng.integers(low, high + 1))
    return max(index - apart, 0), index, min(index + apart, len(slab.planes) - 1)


def _thick_plane(slab: _FlatSlab, index: int, half: int) -> NDArray[np.float32]:
    plane: NDArray[np.float32] = slab.planes[max(0, index - half) : index + half + 1].mean(axis=0)
    return plane


def _surround(
    image: NDArray[np.float32], target: NDArray[np.int16], other: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Put tissue from the front (abdomen) and back (skin) of another patient's slice beside a slab (C, R, W).

    Only the outer parts of the other slice are taken, which hold no spine. A short linear blend hides the seam.
    """
    channels, rows, columns = image.shape
    first = int(rng.integers(0, max(1, other.shape[0] - rows + 1)))
    strip = other[first : first + rows]
    if strip.shape[0] < rows:
        strip = np.pad(
            strip, ((0, rows - strip.shape[0]), (0, 0)), mode="reflect" if strip.shape[0] > rows // 2 else "edge"
        )
    front = strip[:, : int(strip.shape[1] * 0.28)]
    back = strip[:, int(strip.shape[1] * 0.9) :]
    beside = [np.repeat(part[None], channels, axis=0) for part in (front, back)]
    joined = np.concatenate([beside[0], image, beside[1]], axis=2)
    labels = np.pad(target, ((0, 0), (front.shape[1], back.shape[1])))
    for seam in (front.shape[1], front.shape[1] + columns):
        left, right = max(0, seam - 4), min(joined.shape[2], seam + 4)
        joined[..., left:right] = ndimage.uniform_filter1d(joined, 5, axis=2)[..., left:right]
    return joined, labels


@dataclass(frozen=True)
class _Taught:
    """A whole slice at the recipe's spacing with the labels a network gave it; `pair` is the other contrast, same grid."""

    patient: int
    sequence: str
    image: NDArray[np.float32]
    target: NDArray[np.int16]
    pair: NDArray[np.float32] | None


def disc_counts(data: Path) -> dict[tuple[int, str], int]:
    """Discs that the publisher counted in each series: (patient, sequence) -> number."""
    counts = {}
    for row in read_table(data / "spider" / "overview.csv"):
        patient, sequence = row["new_file_name"].split("_", 1)
        counts[(int(patient), sequence)] = int(row["num_discs"])
    return counts


def _taught_slices(recipe: Recipe, settings: Settings, wholes: list[WholeSlice], data: Path) -> list[_Taught]:
    from training.datasets.teacher import label_whole_slice, load_teacher

    if settings.teacher is None:
        raise ValueError("whole_share > 0 needs `teacher`: the run folder of a network taught on the slabs")
    teacher = load_teacher(Path(settings.teacher))
    by_key = {(w.patient, w.sequence): w for w in wholes}
    counts = disc_counts(data)
    taught = []
    for whole in wholes:
        if whole.sequence != "t2":
            continue
        image = normalise(resample(whole.image, (whole.spacing,) * 2, recipe.input.spacing_mm), recipe.input)
        target = label_whole_slice(teacher, image, counts[(whole.patient, "t2")])
        if target is None:
            continue
        other = by_key.get((whole.patient, "t1"))
        pair = None
        if other is not None and other.image.shape == whole.image.shape and other.spacing == whole.spacing:
            pair = normalise(resample(other.image, (other.spacing,) * 2, recipe.input.spacing_mm), recipe.input)
        taught.append(_Taught(whole.patient, "t2", image, target, pair))
        if pair is not None:
            taught.append(_Taught(whole.patient, "t1", pair, target, image))
    return taught


def _whole_sample(
    labelled: list[_Taught], recipe: Recipe, settings: Settings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int16], int]:
    taught = labelled[rng.integers(len(labelled))]
    image = taught.image
    if taught.pair is not None and rng.random() < settings.stir_share:
        t1, t2 = (taught.image, taught.pair) if taught.sequence == "t1" else (taught.pair, taught.image)
        image = fat_suppressed(t1, t2, float(rng.uniform(0.5, 1.0)))
    return with_context(image[None], 1.0, recipe.input)[0], taught.target, taught.patient


def fat_suppressed(t1: NDArray[np.float32], t2: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """A fat-suppressed look from normalised T1 and T2 of one slice: what is bright on T1 (fat, marrow) is darkened on T2."""
    return (t2 * np.clip(1.0 - strength * ndimage.gaussian_filter(t1, 1.0), 0.05, 1.0)).astype(np.float32)


__all__ = ["Settings", "Slab", "WholeSlice", "build", "fat_suppressed", "slabs", "whole_slices"]
