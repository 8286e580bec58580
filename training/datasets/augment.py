"""Chance changes of a training slice: where it lies, how large it is, and what its intensities mean.

No mirroring: a sagittal slice has one head and one front, and sides are never to be confused. Ranges stand in the recipe.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

_COARSE_GRID = (8, 5)
"""Points, down and across, of the grid that bends a slice."""


class Strength(BaseModel):
    """How far a slice is changed: degrees, factors, and probabilities of the intensity changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation_deg: float = Field(default=12.0, ge=0, le=45)
    scale: tuple[float, float] = (0.82, 1.22)
    stretch: float = Field(default=0.06, ge=0, le=0.5)
    remap_probability: float = Field(default=0.35, ge=0, le=1)
    gamma: tuple[float, float] = (0.6, 1.6)
    bias: float = Field(default=0.35, ge=0, le=1)
    blur_mm_pixels: tuple[float, float] = (0.0, 1.2)
    noise: float = Field(default=0.06, ge=0, le=1)
    elastic: float = Field(default=0.0, ge=0, le=5)
    """Standard deviation, in pixels, of the shift of the points of a coarse grid."""
    gain: float = Field(default=0.0, ge=0, lt=1)
    offset: float = Field(default=0.0, ge=0, le=1)
    """How far contrast and brightness change where intensities stand in standard deviations."""


def place(
    image: NDArray[np.float32],
    target: NDArray[Any],
    size: tuple[int, int],
    strength: Strength,
    rng: np.random.Generator,
    *,
    whole: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Rotate, scale and cut a window of `size` (rows, columns) around a chance point of a slice (C, R, W) with its target (R, W).

    `whole` centres it near the middle of all that is labelled. Beyond the slice the image is zero, as beyond a field of view,
    and the target is background.
    """
    angle = np.deg2rad(rng.normal(0, strength.rotation_deg / 2))
    zoom = rng.uniform(*strength.scale)
    stretch = 1 + rng.uniform(-strength.stretch, strength.stretch)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([1 / (zoom * stretch), stretch / zoom])
    rows, columns = target.shape
    labelled = np.argwhere(target > 0)
    if whole and len(labelled):
        centre = labelled.mean(axis=0) + rng.uniform(-16, 16, 2)
    elif len(labelled) and rng.random() < 0.8:
        centre = labelled[rng.integers(len(labelled))] + rng.normal(0, 15, 2)
    else:
        centre = rng.uniform((0.2 * rows, 0.2 * columns), (0.8 * rows, 0.8 * columns))
    offset = centre - matrix @ (np.array(size) / 2)
    where = np.einsum("ij,jrc->irc", matrix, np.mgrid[: size[0], : size[1]]) + offset[:, None, None]
    if strength.elastic > 0:
        shift = rng.normal(0, strength.elastic, (2, *_COARSE_GRID))
        factors = np.array(size) / _COARSE_GRID
        where += np.stack([ndimage.zoom(part, factors, order=3, grid_mode=True, mode="nearest") for part in shift])
    picture = np.stack([ndimage.map_coordinates(plane, where, order=1, mode="constant", cval=0.0) for plane in image])
    labels = ndimage.map_coordinates(target.astype(np.int16), where, order=0, mode="constant", cval=0)
    return picture.astype(np.float32), labels


def change_brightness(image: NDArray[np.float32], strength: Strength, rng: np.random.Generator) -> NDArray[np.float32]:
    """A slice (C, R, W) in standard deviations with a little more or less contrast, brightness, shading and noise."""
    gain = 1 + rng.uniform(-strength.gain, strength.gain)
    picture = image * gain + rng.uniform(-strength.offset, strength.offset)
    picture *= np.exp(_shading(image.shape[1:], strength.bias / 2, rng))
    picture += rng.normal(0, rng.uniform(0, strength.noise), image.shape)
    return np.asarray(picture, dtype=np.float32)


def change_intensity(image: NDArray[np.float32], strength: Strength, rng: np.random.Generator) -> NDArray[np.float32]:
    """Another contrast of the same anatomy (C, R, W): tone curve, gamma, shading, blur along either axis, noise."""
    picture = np.clip(image, 0, 1.2).astype(np.float64)
    if rng.random() < strength.remap_probability:
        knots = np.linspace(0, 1.2, 6)
        tones = rng.uniform(0, 1, 6)
        share = rng.uniform(0.5, 1.0)
        picture = share * np.interp(picture, knots, tones) + (1 - share) * picture
    picture = np.power(np.clip(picture, 0, None), rng.uniform(*strength.gamma))
    if strength.bias > 0:
        picture = picture * np.exp(_shading(image.shape[1:], strength.bias / 2, rng))
    if rng.random() < 0.5:
        picture = ndimage.gaussian_filter(picture, (0.0, *rng.uniform(*strength.blur_mm_pixels, 2)))
    picture = picture + rng.normal(0, rng.uniform(0, strength.noise), image.shape)
    return np.asarray(picture, dtype=np.float32)


def _shading(shape: tuple[int, ...], sd: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth field (R, W) of logarithmic gain."""
    field: NDArray[np.float64] = ndimage.zoom(
        rng.normal(0, sd, (4, 4)), np.array(shape) / 4, order=1, grid_mode=True, mode="nearest"
    )
    return field[: shape[0], : shape[1]]


__all__ = ["Strength", "change_brightness", "change_intensity", "place"]
