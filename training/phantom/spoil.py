"""Spoils finished series the way scanners and patients do: motion, metal, noise, blur, wrap, spike, zipper, chemical shift.

Pictures are changed in k-space where that is how the fault arises (MONAI has spike and Rician noise). Strengths: estimates after
the artefact reviews AAPM/RSNA physics tutorial 2006 (PubMed 16009826) and Krupa 2015 (PMC4345661).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy import ndimage

from dicom_io.geometry import FloatArray
from training.phantom.anatomy import Anatomy

Pictures = NDArray[np.float32]
_HIGHEST = 4095
MOTION_MM = {"slight": 0.6, "moderate": 1.5, "strong": 4.0}
"""How far the body moves between shots (standard deviation), for the three strengths of ghosts."""


@dataclass(frozen=True)
class Series:
    """Pictures (S, R, C) of one series with the 4x4 (slice, row, column) -> LPS mm of each slice (S, 4, 4), and pixels in mm."""

    pictures: Pictures
    affines: FloatArray
    pixel_mm: float

    def lps(self, index: int) -> FloatArray:
        """LPS mm (R, C, 3) of the pixels of one slice."""
        _, rows, columns = self.pictures.shape
        row, column = np.mgrid[:rows, :columns]
        affine = self.affines[index]
        return affine[:3, 3] + row[..., None] * affine[:3, 1] + column[..., None] * affine[:3, 2]


Spoiler = Callable[[Series, np.random.Generator], Series]


def _each(series: Series, change: Callable[[Pictures], NDArray[np.floating]]) -> Series:
    pictures = np.stack([change(picture) for picture in series.pictures]).astype(np.float32)
    return replace(series, pictures=np.maximum(pictures, 0))


def motion(strength: str, *, along_rows: bool | None = None, shots: int = 20) -> Spoiler:
    """Ghosts along the phase axis: lines of k-space are taken in interleaved shots, between which the body breathes and twitches.

    `along_rows` None draws the phase axis. KeyError for an unknown strength (see MOTION_MM).
    """
    size = MOTION_MM[strength]

    def spoil(series: Series, rng: np.random.Generator) -> Series:
        axis = int(rng.random() < 0.5) if along_rows is None else int(not along_rows)

        def change(picture: Pictures) -> NDArray[np.floating]:
            lines = np.moveaxis(picture, axis, 0)
            n, m = lines.shape
            breath = np.sin(2 * np.pi * np.arange(shots) / rng.uniform(2.2, 5.5) + rng.uniform(0, 6.28))
            moved = size / series.pixel_mm * (breath + 0.5 * rng.standard_normal(shots))
            share = rng.uniform(0.3, 1.0)
            step = moved[np.arange(n) % shots]
            k = np.fft.fft2(lines)
            order = np.fft.fftfreq(n)[:, None], np.fft.fftfreq(m)[None, :]
            k = k * np.exp(-2j * np.pi * (order[0] + share * order[1]) * step[:, None])
            return np.moveaxis(np.abs(np.fft.ifft2(k)), 0, axis)

        return _each(series, change)

    return spoil


def noise(snr: float) -> Spoiler:
    """Rician noise until the brightest tissue (99th percentile) stands `snr` standard deviations above it."""

    def spoil(series: Series, rng: np.random.Generator) -> Series:
        from monai.transforms import RandRicianNoise

        level = float(np.percentile(series.pictures, 99)) / snr
        add = RandRicianNoise(prob=1.0, mean=0.0, std=level, sample_std=False)
        add.set_random_state(int(rng.integers(2**31)))
        return _each(series, lambda picture: np.asarray(add(picture[None]))[0])

    return spoil


def blur(millimetres: float) -> Spoiler:
    """Nothing finer than `millimetres` is resolved: the outer part of k-space is lost."""

    def spoil(series: Series, rng: np.random.Generator) -> Series:
        def change(picture: Pictures) -> NDArray[np.floating]:
            rows, columns = picture.shape
            radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :]) / series.pixel_mm
            cut = 1 / (2 * millimetres)
            keep = np.exp(-0.5 * (radius / (0.7 * cut)) ** 2) * (radius < 1.5 * cut)
            return np.abs(np.fft.ifft2(np.fft.fft2(picture) * keep))

        return _each(series, change)

    return spoil


def wrap(field: float, *, along_rows: bool | None = None) -> Spoiler:
    """The field of view is only `field` (0.5..1) of what shows signal along the phase axis: both ends fold onto the other side.

    The pictures become smaller; their places stay true. `along_rows` None draws the axis.
    """

    def spoil(series: Series, rng: np.random.Generator) -> Series:
        axis = 2 if (rng.random() < 0.5 if along_rows is None else not along_rows) else 1
        whole = np.moveaxis(series.pictures, axis, 0)
        n = len(whole)
        keep = 2 * round(field * n / 2)
        first = (n - keep) // 2
        out = whole[first : first + keep].copy()
        out[keep - first :] += whole[:first]
        out[: n - first - keep] += whole[first + keep :]
        affines = series.affines.copy()
        affines[:, :3, 3] += first * affines[:, :3, axis]
        return Series(np.ascontiguousarray(np.moveaxis(out, 0, axis)), affines, series.pixel_mm)

    return spoil


def spike(strength: float) -> Spoiler:
    """One sample of k-space is far too strong: stripes of `strength` times the brightest tissue over every picture."""

    def spoil(series: Series, rng: np.random.Generator) -> Series:
        from monai.transforms import KSpaceSpikeNoise

        _, rows, columns = series.pictures.shape
        radius, angle = rng.uniform(0.06, 0.22), rng.uniform(0, 2 * np.pi)
        place = (round(rows * (0.5 + radius * np.sin(angle))), round(columns * (0.5 + radius * np.cos(angle))))
        bright = float(np.percentile(series.pictures, 99))
        size = float(np.log(strength * bright * rows * columns))
        return _each(series, lambda picture: np.asarray(KSpaceSpikeNoise(place, size)(picture[None]))[0])

    return spoil


def zipper(strength: float) -> Spoiler:
    """Radio noise of one frequency from outside: a line of dashes across every picture, here through its middle part."""

    def spoil(series: Series, rng: np.random.Generator) -> Series:
        axis = int(rng.random() < 0.5)
        _, rows, columns = series.pictures.shape
        n = (rows, columns)[axis]
        place = int(n * rng.uniform(0.4, 0.6))
        bright = float(np.percentile(series.pictures, 99))

        def change(picture: Pictures) -> NDArray[np.floating]:
            lines = np.moveaxis(picture.copy(), axis, 0)
            dashes = np.abs(rng.standard_normal((3, lines.shape[1]))) * strength * bright
            lines[place - 1 : place + 2] += dashes * np.array([0.5, 1.0, 0.5])[:, None]
            return np.moveaxis(lines, 0, axis)

        return _each(series, change)

    return spoil


def chemical_shift(millimetres: float, *, fat_from: float = 0.5) -> Spoiler:
    """Fat lies `millimetres` off along the readout axis, as with a narrow bandwidth.

    A finished picture does not tell fat from water: what is brighter than `fat_from` of the brightest tissue and lies outside the
    central third (where the fluid of the canal is) is moved as fat.
    """

    def spoil(series: Series, rng: np.random.Generator) -> Series:
        axis = int(rng.random() < 0.5)
        pixels = float(rng.choice([-1, 1])) * millimetres / series.pixel_mm
        bright = float(np.percentile(series.pictures, 99))
        _, rows, columns = series.pictures.shape
        off = np.maximum(
            np.abs(np.arange(rows) / rows - 0.5)[:, None] - 1 / 6,
            np.abs(np.arange(columns) / columns - 0.5)[None] - 1 / 6,
        )

        def change(picture: Pictures) -> NDArray[np.floating]:
            smooth = ndimage.gaussian_filter(picture, 1.0)
            share = np.clip((smooth / bright - fat_from) / 0.15, 0, 1) * np.clip(off / 0.03, 0, 1)
            shift = [pixels, 0.0] if axis == 0 else [0.0, pixels]
            return picture * (1 - share) + ndimage.shift(picture * share, shift, order=1)

        return _each(series, change)

    return spoil


def metal(points: FloatArray, radius_mm: float, *, strength_mm: float = 6.0, readout_rows: bool = False) -> Spoiler:
    """Implants as balls of `radius_mm` about LPS `points` (n, 3): voids, and tissue shifted along the readout axis by their field.

    The field of a ball falls with the third power of the distance and has the dipole's sign along the body axis; `strength_mm` is
    the displacement at the surface. Displaced signal piles up where it lands.
    """

    def spoil(series: Series, rng: np.random.Generator) -> Series:
        return replace(
            series,
            pictures=np.stack(
                [
                    _with_metal(
                        picture, series.lps(index), points, radius_mm, strength_mm / series.pixel_mm, readout_rows
                    )
                    for index, picture in enumerate(series.pictures)
                ]
            ),
        )

    return spoil


def _with_metal(
    picture: Pictures, lps: FloatArray, points: FloatArray, radius: float, strength_px: float, readout_rows: bool
) -> Pictures:
    field = np.zeros(picture.shape)
    nearest = np.full(picture.shape, np.inf)
    for point in points:
        away = lps - point
        distance = np.maximum(np.linalg.norm(away, axis=-1), 0.5 * radius)
        field += (radius / distance) ** 3 * (3 * (away[..., 2] / distance) ** 2 - 1)
        nearest = np.minimum(nearest, distance)
    moved = np.clip(strength_px * field, -6 * strength_px, 6 * strength_px)
    slope = np.hypot(*np.gradient(moved))
    signal = picture * (nearest > radius) * np.exp(-((slope / 0.8) ** 2))
    axis = 0 if readout_rows else 1
    lines, shift = np.moveaxis(signal, axis, 1), np.moveaxis(moved, axis, 1)
    n = lines.shape[1]
    target = np.clip(np.arange(n)[None] + shift, 0, n - 1.001)
    low = target.astype(int)
    part = target - low
    out = np.zeros_like(lines, dtype=np.float64)
    row = np.broadcast_to(np.arange(len(lines))[:, None], lines.shape)
    np.add.at(out, (row, low), lines * (1 - part))
    np.add.at(out, (row, low + 1), lines * part)
    return np.moveaxis(out, 1, axis).astype(np.float32)


def screw_points(anatomy: Anatomy, names: Sequence[str]) -> FloatArray:
    """LPS points (n, 3) along pedicle screws of the vertebrae `names` and the rods between them."""
    points = []
    chosen = [vertebra for vertebra in anatomy.vertebrae if vertebra.name in names]
    for side in (1, -1):
        heads = []
        for vertebra in chosen:
            t = vertebra.top - 0.5 - vertebra.pedicle_height / 2
            u = vertebra.interpedicular / 2 + vertebra.pedicle_width / 2
            for along in np.linspace(0, 1, 14):
                inwards = u + 3.0 - 9.0 * along
                points.append((side * inwards, 24.0 - 46.0 * along, t))
            heads.append((side * (u + 3.0), 25.0, t))
        for (u0, v0, t0), (u1, v1, t1) in pairwise(heads):
            points += [(u0 + (u1 - u0) * a, v0 + (v1 - v0) * a, t0 + (t1 - t0) * a) for a in np.linspace(0, 1, 12)]
    return anatomy.curve.to_lps(np.array(points, dtype=np.float64))


def disc_replacement_points(anatomy: Anatomy, level: str) -> FloatArray:
    """LPS points (n, 3) of the two plates of a disc replacement. KeyError for an unknown level."""
    disc = anatomy.discs[anatomy.disc_index(level)]
    across = np.linspace(-0.3, 0.3, 7) * disc.width
    along = np.linspace(-0.8, -0.15, 6) * disc.depth
    points = [(u, v, disc.t + h) for u in across for v in along for h in (-3.0, 3.0)]
    return anatomy.curve.to_lps(np.array(points, dtype=np.float64))


def spoil_folder(folder: Path, spoiler: Spoiler, rng: np.random.Generator) -> None:
    """Spoil one series of a written study in place: pixels, and matrix and positions where the spoiler changes them."""
    paths = sorted(folder.glob("*.dcm"))
    datasets = [dcmread(path) for path in paths]
    after = spoiler(read_series(datasets), rng)
    for number, (path, dataset) in enumerate(zip(paths, datasets, strict=True)):
        picture = after.pictures[number]
        dataset.Rows, dataset.Columns = picture.shape
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in after.affines[number][:3, 3]]
        dataset.PixelData = np.clip(np.rint(picture), 0, _HIGHEST).astype("<u2").tobytes()
        dataset.save_as(path)


def read_series(datasets: Sequence[Dataset]) -> Series:
    """Pictures and places of data sets of one matrix, in their order."""
    pictures = np.stack([dataset.pixel_array for dataset in datasets]).astype(np.float32)
    affines = np.tile(np.eye(4), (len(datasets), 1, 1))
    for affine, dataset in zip(affines, datasets, strict=True):
        down, right = (float(value) for value in dataset.PixelSpacing)
        orientation = np.array(dataset.ImageOrientationPatient, dtype=np.float64)
        affine[:3, 1], affine[:3, 2] = orientation[3:] * down, orientation[:3] * right
        affine[:3, 0] = np.cross(orientation[:3], orientation[3:]) * float(dataset.SliceThickness)
        affine[:3, 3] = [float(value) for value in dataset.ImagePositionPatient]
    return Series(pictures, affines, float(datasets[0].PixelSpacing[0]))
