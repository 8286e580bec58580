"""Pictures and label maps of one plane through a simulated spine.

All tissues are painted in order of priority as water and fat, several sub-planes are averaged over the slice profile,
and the scanner does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from configs.loader import anatomy as label_settings
from dicom_io.geometry import FloatArray
from training.phantom.anatomy import SIDES, Anatomy
from training.phantom.paint import Canvas, paint_spine, paint_surround
from training.phantom.scanner import Acquisition, Scanner, acquire, draw_acquisition, draw_scanner
from training.phantom.scene import Scene, solve_scene
from training.phantom.shapes import Field
from training.phantom.truth import LevelTruth, level_truth, recess_window

Weighting = Literal["t1", "t2"]
_MAP_STEP = 6  # pixels between solved points of the coordinate map; in between it is linear
_COARSE = 2  # pixels between points of the surroundings
_WINDOW_U = (
    54.0,
    62.0,
)  # lateral reach at the lumbar spine and the sacrum, and posterior range, of the fine tissues (mm)
_WINDOW_V = (-48.0, 58.0)
_FAR_MM = 1000.0
"""No slice lies farther below a disc: keeps the number that seeds its noise positive."""
SUB_PLANES = (-0.42, -0.21, 0.0, 0.21, 0.42)
"""Where a slice is sampled, in shares of its thickness, with these weights:"""
SUB_WEIGHTS = (0.17, 0.21, 0.24, 0.21, 0.17)


@dataclass(frozen=True)
class Plane:
    """One slice: LPS of the first pixel's centre, directions of growing column and row, mm per pixel, shape, thickness."""

    origin: FloatArray
    column: FloatArray
    row: FloatArray
    pixel_mm: float
    shape: tuple[int, int]
    thickness: float

    @property
    def normal(self) -> FloatArray:
        """Unit vector across the slice: column direction x row direction."""
        return np.cross(self.column, self.row)

    @property
    def affine(self) -> FloatArray:
        """4x4 (slice, row, column) -> LPS mm with the thickness as the slice step."""
        affine = np.eye(4)
        affine[:3, 0] = self.normal * self.thickness
        affine[:3, 1] = np.asarray(self.row) * self.pixel_mm
        affine[:3, 2] = np.asarray(self.column) * self.pixel_mm
        affine[:3, 3] = self.origin
        return affine


@dataclass(frozen=True)
class Painted:
    """Noise-free water and fat pictures of one slice by weighting, and its label map."""

    water: dict[str, Field]
    fat: dict[str, Field]
    labels: NDArray[np.uint8]
    shade: tuple[Field, Field]


@dataclass(frozen=True)
class AxialSample:
    """One axial picture for training: grey values, labels (numbers of configs/anatomy.toml), where it lies, what is true."""

    image: Field
    labels: NDArray[np.uint8]
    affine: FloatArray
    truth: LevelTruth


def coordinates(anatomy: Anatomy, plane: Plane, shift: float, step: int = 1) -> tuple[Field, Field, Field]:
    """Lateral, posterior and along-canal coordinate of every `step`-th pixel of the plane moved `shift` mm along its normal."""
    rows, columns = plane.shape
    r = np.arange(0, rows + 2 * _MAP_STEP, _MAP_STEP, dtype=np.float32)
    c = np.arange(0, columns + 2 * _MAP_STEP, _MAP_STEP, dtype=np.float32)
    points = (
        np.asarray(plane.origin)
        + plane.normal * shift
        + (r[:, None, None] * plane.pixel_mm) * np.asarray(plane.row)
        + (c[None, :, None] * plane.pixel_mm) * np.asarray(plane.column)
    )
    uvt = anatomy.curve.to_uvt(points)
    dense = _between(uvt, np.arange(0, rows, step) / _MAP_STEP, np.arange(0, columns, step) / _MAP_STEP)
    return dense[..., 0], dense[..., 1], dense[..., 2]


def _lps(plane: Plane, step: int) -> Field:
    """LPS of every `step`-th pixel (rows, columns, 3)."""
    rows, columns = plane.shape
    r = np.arange(0, rows, step, dtype=np.float32)[:, None, None] * np.float32(plane.pixel_mm)
    c = np.arange(0, columns, step, dtype=np.float32)[None, :, None] * np.float32(plane.pixel_mm)
    return np.asarray(plane.origin + r * plane.row + c * plane.column, dtype=np.float32)


def _between(coarse: Field, i: NDArray[np.float64], j: NDArray[np.float64]) -> Field:
    """Linear interpolation of a lattice (rows, columns, channels) at fractional rows `i` and columns `j`."""
    i0 = np.minimum(i.astype(np.int32), coarse.shape[0] - 2)
    j0 = np.minimum(j.astype(np.int32), coarse.shape[1] - 2)
    wi = (i - i0).astype(np.float32)[:, None, None]
    wj = (j - j0).astype(np.float32)[None, :, None]
    by_row = coarse[i0] * (1 - wi) + coarse[i0 + 1] * wi
    return np.asarray(by_row[:, j0] * (1 - wj) + by_row[:, j0 + 1] * wj, dtype=np.float32)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if len(rows) == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def paint_plane(scene: Scene, plane: Plane, scanner: Scanner, weightings: tuple[str, ...], kind: str) -> Painted:
    """Paint one slice and label it ("axial" or "sagittal" label set). Pictures (rows, columns)."""
    anatomy = scene.anatomy
    h = plane.pixel_mm
    uc, vc, tc = coordinates(anatomy, plane, 0.0, _COARSE)
    coarse = Canvas(uc.shape, scanner, weightings)
    paint_surround(coarse, anatomy, uc, vc, tc, _lps(plane, _COARSE), h * _COARSE)
    full = Canvas(plane.shape, scanner, weightings)
    i, j = np.arange(plane.shape[0]) / _COARSE, np.arange(plane.shape[1]) / _COARSE
    for w in weightings:
        full.water[w] = _between(coarse.water[w][..., None], i, j)[..., 0]
        full.fat[w] = _between(coarse.fat[w][..., None], i, j)[..., 0]
    labels = np.zeros(plane.shape, dtype=np.uint8)
    u, v, t = coordinates(anatomy, plane, 0.0)
    sacrum = anatomy.vertebrae[anatomy.settings.vertebrae.index("S1")].top
    inside = (np.abs(u) < np.where(t < sacrum, _WINDOW_U[1], _WINDOW_U[0])) & (v > _WINDOW_V[0]) & (v < _WINDOW_V[1])
    box = _box(inside)
    if box is not None:
        water = {w: np.zeros_like(full.water[w][box]) for w in weightings}
        fat = {w: np.zeros_like(full.fat[w][box]) for w in weightings}
        for offset, weight in zip(SUB_PLANES, SUB_WEIGHTS, strict=True):
            su, sv, st = coordinates(anatomy, plane, offset * plane.thickness) if offset else (u, v, t)
            canvas = full.copy_of(*box)
            fields = paint_spine(canvas, scene, su[box], sv[box], st[box], h)
            for w in weightings:
                water[w] += np.float32(weight) * canvas.water[w]
                fat[w] += np.float32(weight) * canvas.fat[w]
            if offset == 0:
                label = axial_labels if kind == "axial" else sagittal_labels
                labels[box] = label(scene, fields, u[box], v[box], t[box])
        for w in weightings:
            full.water[w][box], full.fat[w][box] = water[w], fat[w]
    shade = (np.asarray((v - 20) / 100, dtype=np.float32), np.asarray(u / 100, dtype=np.float32))
    return Painted(full.water, full.fat, labels, shade)


def axial_labels(scene: Scene, f: dict[str, Field], u: Field, v: Field, t: Field) -> NDArray[np.uint8]:
    """Label map (rows, columns) of an axial slice from the distances; rows grow backwards, columns to the patient's left."""
    value = label_settings().axial.value
    out = np.zeros(u.shape, dtype=np.uint8)
    out[f["flavum"] < 0] = value("flavum")
    out[np.minimum(np.minimum(f["sap"], f["iap"]), f["joint"]) < 0] = value("facets")
    solid = np.minimum(f["disc"], np.minimum(f["hernia"], f["body"]))
    back = np.minimum(f["bone"], f["flavum"])
    for side, name in zip(SIDES, ("recess_left", "recess_right"), strict=True):
        out[_recess_region(scene, solid, back, side, u, v, t)] = value(name)
    out[f["disc"] < 0] = value("disc")
    out[(f["hernia"] < 0) & (f["disc"] > 0) & (f["body"] > 0)] = value("herniated_material")
    out[f["sac"] < 0] = value("thecal_sac")
    return out


def _recess_region(
    scene: Scene, solid: Field, back: Field, side: int, u: Field, v: Field, t: Field
) -> NDArray[np.bool_]:
    """Free pixels between the front surface and the first bone or flavum behind it, in the columns of the depth's window."""
    region = np.zeros(u.shape, dtype=bool)
    anatomy = scene.anatomy
    for index in range(4, 9):
        low, high, top, bottom = recess_window(scene, index, side)
        lateral = np.asarray(u * side)
        columns = (lateral >= low) & (lateral <= high) & (t <= top + 2.0) & (t >= bottom - 2.0)
        if not columns.any():
            continue
        behind = (back < 0) & (v > -4)
        before_back = np.cumsum(behind, axis=0) == 0
        reached = np.any(behind, axis=0, keepdims=True)
        front = (solid < 0) & before_back
        last = np.cumsum(front[::-1], axis=0)[::-1] == 0
        region |= columns & before_back & last & reached & (v < anatomy.settings.recess.deepest)
    return region


def sagittal_labels(scene: Scene, f: dict[str, Field], u: Field, v: Field, t: Field) -> NDArray[np.uint8]:
    """Label map of a sagittal slice: vertebrae with their arches, discs with herniated material, the canal."""
    value = label_settings().sagittal.value
    out = np.zeros(u.shape, dtype=np.uint8)
    out[np.minimum(f["body"], f["bone"]) < 0] = value("vertebra")
    out[f["disc"] < 0] = value("disc")
    out[(f["hernia"] < 0) & (f["body"] > 0)] = value("disc")
    out[f["sac"] < 0] = value("canal")
    return out


def render_axial(
    anatomy: Anatomy,
    level: str,
    *,
    weighting: Weighting = "t2",
    pixel_mm: float = 0.6,
    size: int = 192,
    seed: int = 0,
    offset_mm: float = 0.0,
    thickness_mm: float = 4.0,
    tilt: Literal["disc", "scanner", "random"] = "random",
    centre_jitter_mm: float = 6.0,
    randomise: bool = True,
) -> AxialSample:
    """One axial picture (size, size) through the disc `level`, `offset_mm` above (+) its mid-height, with labels and truth.

    Columns grow to the patient's left, rows to the back. `tilt` lays the slice along the disc, along the scanner's axes, or at
    random near or between; the picture's centre lies a few mm behind the disc's posterior margin. `randomise` False leaves
    noise, shading and k-space at plain values. KeyError for an unknown level.
    """
    rng = np.random.default_rng([seed, anatomy.seed, 11])
    scene = solve_scene(anatomy)
    index = anatomy.disc_index(level)
    plane = _axial_plane(anatomy, index, rng, pixel_mm, size, offset_mm, thickness_mm, tilt, centre_jitter_mm)
    scanner = draw_scanner(rng, anatomy.settings.scanner)
    painted = paint_plane(scene, plane, scanner, (weighting,), "axial")
    plan = draw_acquisition(rng, scanner, pixel_mm, randomise=randomise)
    # slices of one stack share the scanner's settings, never the noise
    noise = np.random.default_rng([seed, anatomy.seed, 11, round(1000 * (offset_mm + _FAR_MM))])
    image = expose(painted, weighting, plan, noise)
    return AxialSample(image, painted.labels, plane.affine, level_truth(anatomy, level))


def expose(painted: Painted, weighting: str, plan: Acquisition, rng: np.random.Generator) -> Field:
    """Scanner chain on a painted slice; `rng` gives the noise."""
    return acquire(painted.water[weighting], painted.fat[weighting], plan, rng, shade=painted.shade)


def _axial_plane(
    anatomy: Anatomy,
    index: int,
    rng: np.random.Generator,
    pixel_mm: float,
    size: int,
    offset_mm: float,
    thickness_mm: float,
    tilt: str,
    jitter: float,
) -> Plane:
    point, axes = anatomy.curve.frame(anatomy.discs[index].t)
    if tilt == "scanner":
        u, v = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    else:
        extra = 0.0 if tilt == "disc" else rng.normal(0, 0.05)
        share = 0.0 if tilt == "disc" or rng.random() < 0.6 else rng.uniform(0, 1)
        u = axes[0]
        v = axes[1]
        angle = -np.arctan2(v[2], v[1]) * share + extra
        w = np.cross(u, v)
        v = np.cos(angle) * v + np.sin(angle) * w
        u = u / np.linalg.norm(u)
        if tilt == "random":
            roll = rng.normal(0, 0.03)
            u, v = np.cos(roll) * u + np.sin(roll) * v, np.cos(roll) * v - np.sin(roll) * u
    shift = rng.uniform(-jitter, jitter, 2) if jitter else np.zeros(2)
    target = point + axes[2] * offset_mm
    centre = target + axes[0] * shift[0] + v * (6.0 + shift[1])
    origin = centre - (size - 1) / 2 * pixel_mm * (u + v)
    return Plane(origin, u, v, pixel_mm, (size, size), thickness_mm)
