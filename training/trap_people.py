"""Simulated people as the trap tests of the phantom need them: as drawn, with exact truth and planned studies, and in small pictures.

What is kept of a person are numbers; training.evaluate_traps makes figures of them. Seeds are of these tests alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs.loader import anatomy as label_settings
from training.phantom.anatomy import Anatomy, DiscDraw, HerniationDraw, draw_anatomy
from training.phantom.render import SUB_PLANES, SUB_WEIGHTS, Plane, paint_plane, render_axial
from training.phantom.scanner import Acquisition, Scanner, draw_acquisition, draw_scanner
from training.phantom.scene import solve_scene
from training.phantom.study import PROTOCOLS, axial_planes, sagittal_planes
from training.phantom.truth import level_truth, sac_cover

FIRST_SEED = 9_600_000
"""People with truth; those that are only drawn and those that are pictured follow half a hundred thousand further on each."""
DRAWN_SEED, PICTURED_SEED = FIRST_SEED + 50_000, FIRST_SEED + 75_000
LEVELS = ("L4-L5", "L5-S1")
_STUDIES_EACH, _SPARED_EVERY = 8, 3
PIXEL_MM, CROP_MM = 0.6, 48.0
_BEHIND_MM = 8.0
"""The middle of a crop lies this far behind the posterior disc margin: no vessel in front of the spine is in it."""
_LITTLE_WEAR = (0.2, 1.0)
"""A disc with less drawn stenosis and bulge (mm), and no herniation, counts as healthy."""
_SMALL_MM = (0.3, 1.5)
NO_EXTENT_MM = 0.05
_ON_DISC_MM = 5.0
_BESIDE_MM = (-11.0, 6.5)
"""Where along the canal the sac is compared: where reading looks for herniated material."""
Row = TypeVar("Row")


@dataclass(frozen=True)
class Drawn:
    """One person as drawn: herniations by level, what might tell a side (+ left), cortex (mm), and what must not differ by split."""

    seed: int
    herniations: tuple[tuple[str, HerniationDraw], ...]
    signs: dict[str, float]
    cortex: float
    identity: tuple[float, ...]


@dataclass(frozen=True)
class Person:
    """One person with exact truth, the studies planned of them, and small pictures.

    `depths` by (level, side) and `areas` by level in mm and mm2; `nuisance` per planned study; `offsets` of a slice from the apex of
    a herniation in steps, and whether the apex lies in a gap; `places` (protocol, level, share of the way through the stack);
    `incomplete` whether a planned study lacks an axial slice;
    `kept_sac` overlap (Dice) of the sac with itself without its subarticular herniation; `tones` (level, herniated, contrast or nan, disc's
    grey against the sac's, Pfirrmann).
    """

    seed: int
    age: float
    male: bool
    muscle_fat: float
    hypertrophy: float
    signs: dict[str, float]
    depths: dict[tuple[str, str], float]
    areas: dict[str, float]
    herniated: frozenset[str]
    nuisance: tuple[dict[str, float], ...]
    offsets: tuple[tuple[float, bool], ...]
    places: tuple[tuple[str, str, float], ...]
    incomplete: tuple[bool, ...]
    kept_sac: float | None
    tones: tuple[tuple[str, bool, float, float, float], ...]


@dataclass(frozen=True)
class Pictured:
    """A healthy L4-L5 on one T2 slice: crop (N, N) rows to the back, columns to the left; recess left minus right (mm).

    `extent_mm` of the herniation that was added: NO_EXTENT_MM was drawn as all are and cannot be seen; 0 is none. `column` is its place
    in the crop (a like one in those without).
    """

    seed: int
    extent_mm: float
    crop: NDArray[np.float32]
    column: int
    difference_mm: float


def drawn_people(count: int, workers: int = 1) -> list[Drawn]:
    """People who are only drawn."""
    return _each(drawn, range(DRAWN_SEED, DRAWN_SEED + count), workers)


def people(count: int, workers: int = 1) -> list[Person]:
    """People with truth, plans and pictures."""
    return _each(person, range(FIRST_SEED, FIRST_SEED + count), workers)


def pictured_people(count: int, workers: int = 1) -> list[Pictured]:
    """`count` people with a healthy L4-L5: in turn none, a herniation without extent, and a small one added."""
    chosen: list[tuple[int, float]] = []
    seed = PICTURED_SEED
    while len(chosen) < count:
        anatomy = draw_anatomy(seed)
        if _healthy(anatomy.discs[anatomy.disc_index("L4-L5")]):
            small = float(np.random.default_rng([seed, 47]).uniform(*_SMALL_MM))
            chosen.append((seed, (0.0, NO_EXTENT_MM, small)[len(chosen) % 3]))
        seed += 1
    return _each(_pictured, chosen, workers)


def _each(make: Callable[..., Row], jobs: Sequence[object], workers: int) -> list[Row]:
    if workers == 1:
        return [make(job) for job in jobs]
    # spawned, because a forked child of a process that has used torch may hang
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(make, jobs, chunksize=4))


def drawn(seed: int) -> Drawn:
    """The person of one seed, with one planned study."""
    anatomy = draw_anatomy(seed)
    lumbar = anatomy.discs[4:9]
    plan = planned(anatomy, seed, ("block", "angled")[seed % 2])
    return Drawn(
        seed,
        tuple((disc.name, disc.herniation) for disc in lumbar if disc.herniation is not None),
        side_signs(anatomy) | plan.signs(),
        anatomy.cortex,
        (anatomy.age, anatomy.size, anatomy.bmi),
    )


def side_signs(anatomy: Anatomy) -> dict[str, float]:
    """What of a body might tell the side of a disease without causing it, + to the left."""
    point, axes = anatomy.curve.frame(anatomy.discs[anatomy.disc_index("L4-L5")].t)
    high, low = (anatomy.curve.frame(anatomy.discs[anatomy.disc_index(name)].t)[0] for name in ("L1-L2", "L5-S1"))
    return {
        "vessels": anatomy.vessel_shift[0],
        "larger muscles": anatomy.muscle_size[2],
        "rotation": float(np.arctan2(axes[0][1], axes[0][0])),
        "curve": float(point[0] - (high[0] + low[0]) / 2),
    }


@dataclass(frozen=True)
class Plan:
    """One study before it is rendered."""

    protocol: str
    scanner: Scanner
    sagittal: list[Plane]
    axial: list[Plane]
    acquisition: Acquisition

    def signs(self) -> dict[str, float]:
        """Directions of the picture that might tell a side; a shift of fat from front to back is none (nan)."""
        sideways = not self.acquisition.shift_along_rows
        return {
            "chemical shift": self.acquisition.fat_shift_px if sideways else float("nan"),
            "order of axial slices": float(self.axial[-1].origin[2] - self.axial[0].origin[2]),
            "order of sagittal slices": float(self.sagittal[-1].origin[0] - self.sagittal[0].origin[0]),
        }


def planned(anatomy: Anatomy, seed: int, protocol: str) -> Plan:
    """Scanner, planes and axial acquisition of one study, drawn as in training.phantom.study.render_study."""
    rng = np.random.default_rng([seed, anatomy.seed, 23])
    scanner = draw_scanner(rng, anatomy.settings.scanner)
    sagittal = sagittal_planes(anatomy, PROTOCOLS[protocol], rng)
    axial = axial_planes(anatomy, PROTOCOLS[protocol], rng)
    return Plan(protocol, scanner, sagittal, axial, draw_acquisition(rng, scanner, axial[0].pixel_mm))


def nuisance_of(plan: Plan) -> dict[str, float]:
    """What of a study must not tell how deep a recess is."""
    first, last = plan.axial[0], plan.axial[-1]
    taken = plan.acquisition
    return {
        "field strength": plan.scanner.tesla,
        "TR": plan.scanner.tr["t2"],
        "TE": plan.scanner.te["t2"],
        "noise": float(np.log(taken.noise)),
        "shading": taken.bias,
        "matrix": taken.keep_row * taken.keep_column,
        "taper": taken.taper,
        "chemical shift": abs(taken.fat_shift_px),
        "ghosts": taken.ghost,
        "axial field": first.pixel_mm * first.shape[0],
        "sagittal field": plan.sagittal[0].pixel_mm * plan.sagittal[0].shape[0],
        "slice thickness": first.thickness,
        "slices": float(len(plan.axial)),
        "tilt of the stack": float(first.normal[1]),
        "turn of the sagittal slices": float(plan.sagittal[0].normal[1]),
        "file order": float(np.sign(last.origin[2] - first.origin[2])),
        "protocol": float(plan.protocol == "block"),
    }


def person(seed: int) -> Person:
    """Truth, plans and pictures of the person of one seed."""
    anatomy = draw_anatomy(seed)
    truth = {level: level_truth(anatomy, level) for level in LEVELS}
    plans = [
        planned(anatomy, seed + number, ("block", "angled")[(seed + number) % 2]) for number in range(_STUDIES_EACH)
    ]
    offsets = []
    for item in truth.values():
        if item.herniation is not None:
            found = (apex_offset(plan, np.array(item.herniation.apex_lps)) for plan in plans[:2])
            offsets += [part for part in found if part is not None]
    discs = [anatomy.discs[anatomy.disc_index(level)] for level in LEVELS]
    return Person(
        seed=seed,
        age=anatomy.age,
        male=anatomy.male,
        muscle_fat=anatomy.muscle_fat[0],
        hypertrophy=float(np.mean([disc.facet(side).hypertrophy for disc in discs for side in (1, -1)])),
        signs=side_signs(anatomy),
        depths={
            (level, side): item.side(side).recess_depth_soft_mm
            for level, item in truth.items()
            for side in ("left", "right")
        },
        areas={level: item.sac_area_mm2 for level, item in truth.items()},
        herniated=frozenset(level for level, item in truth.items() if item.herniation is not None),
        nuisance=tuple(nuisance_of(plan) for plan in plans),
        offsets=tuple(offsets),
        places=tuple(place for plan in plans[:2] for place in stack_places(anatomy, plan)),
        incomplete=tuple(lacks_slice(plan) for plan in plans),
        kept_sac=_kept_sac(anatomy) if seed % _SPARED_EVERY == 0 else None,
        tones=tuple(tone for level in LEVELS if (tone := _tone(anatomy, level)) is not None),
    )


def apex_offset(plan: Plan, apex: NDArray[np.float64]) -> tuple[float, bool] | None:
    """Distance of the nearest axial slice from a point in steps of its stack, and whether no slice holds it; None beyond the stack."""
    away = np.array([float((apex - plane.origin) @ plane.normal) for plane in plan.axial])
    nearest = int(np.abs(away).argmin())
    normal = plan.axial[nearest].normal
    own = [
        float(offset) for offset, plane in zip(away, plan.axial, strict=True) if float(plane.normal @ normal) > 1 - 1e-6
    ]
    if len(own) < 2 or not min(own) <= 0 <= max(own):
        return None
    step = float(np.diff(np.sort(own)).min())
    return float(away[nearest]) / step, abs(float(away[nearest])) > plan.axial[nearest].thickness / 2


def stack_places(anatomy: Anatomy, plan: Plan) -> list[tuple[str, str, float]]:
    """(protocol, level, share of the files before it) of the axial slice nearest to each of the three lowest discs that has one on it."""
    found = []
    for level in ("L3-L4", *LEVELS):
        point, _ = anatomy.curve.frame(anatomy.discs[anatomy.disc_index(level)].t)
        away = [abs(float((point - plane.origin) @ plane.normal)) for plane in plan.axial]
        if min(away) <= _ON_DISC_MM:
            found.append((plan.protocol, level, int(np.argmin(away)) / max(len(away) - 1, 1)))
    return found


def lacks_slice(plan: Plan) -> bool:
    """Whether somewhere within a stack two neighbours are farther apart than the others."""
    steps: dict[tuple[float, ...], list[float]] = {}
    for above, below in pairwise(plan.axial):
        if float(above.normal @ below.normal) > 1 - 1e-6:
            steps.setdefault(tuple(above.normal), []).append(abs(float((below.origin - above.origin) @ above.normal)))
    return any(max(own) > 1.5 * min(own) for own in steps.values())


def _kept_sac(anatomy: Anatomy) -> float | None:
    """How much of the sac lies where it would without the first subarticular herniation of the two levels: Dice of the slice
    that is changed most.
    """
    for level in LEVELS:
        index = anatomy.disc_index(level)
        herniation = anatomy.discs[index].herniation
        if herniation is not None and herniation.zone == "subarticular":
            discs = list(anatomy.discs)
            discs[index] = replace(discs[index], herniation=None)
            planes = anatomy.discs[index].t + np.arange(*_BESIDE_MM, 2.0)
            with_it = sac_cover(solve_scene(anatomy), planes)
            without = sac_cover(solve_scene(replace(anatomy, discs=tuple(discs))), planes)
            common, both = np.minimum(with_it, without).sum((1, 2)), (with_it + without).sum((1, 2))
            return float((2 * common / np.maximum(both, 1)).min())
    return None


def _tone(anatomy: Anatomy, level: str) -> tuple[str, bool, float, float, float] | None:
    """Grey values on one T2 slice along the disc, through the herniation where there is one; partly filled pixels do not count."""
    rng = np.random.default_rng([anatomy.seed, 41])
    disc = anatomy.discs[anatomy.disc_index(level)]
    herniation = disc.herniation
    sample = render_axial(
        anatomy, level, pixel_mm=PIXEL_MM, size=80, seed=3, tilt="disc",
        offset_mm=herniation.apex_offset if herniation is not None else float(np.clip(rng.normal(0, 1.5), -3, 3)),
    )  # fmt: skip
    value = label_settings().axial.value

    def grey(name: str, least: int) -> float:
        inside = ndimage.binary_erosion(sample.labels == value(name), iterations=1)
        return float(np.median(sample.image[inside])) if inside.sum() >= least else float("nan")

    own, sac = grey("disc", 40), grey("thecal_sac", 15)
    if not np.isfinite([own, sac]).all():
        return None
    contrast = float("nan") if herniation is None else (grey("herniated_material", 5) - own) / sac
    return level, herniation is not None, contrast, own / sac, disc.pfirrmann


def _healthy(disc: DiscDraw) -> bool:
    return disc.herniation is None and disc.stenosis < _LITTLE_WEAR[0] and disc.bulge < _LITTLE_WEAR[1]


def _pictured(job: tuple[int, float]) -> Pictured:
    """A healthy L4-L5, or one to which a herniation was added by the operators of every other."""
    seed, extent = job
    anatomy, rng = draw_anatomy(seed), np.random.default_rng([seed, 43])
    truth = level_truth(anatomy, "L4-L5")
    u = float(rng.uniform(-12, 12))
    if extent:
        index = anatomy.disc_index("L4-L5")
        added = HerniationDraw(
            "protrusion", "subarticular", 1 if u > 0 else -1, u, extent, max(extent * float(rng.uniform(1.6, 2.8)), 6.0),
            1.6 * float(rng.uniform(3.0, 5.5)), 0.0, 0.0, 0.0, float(rng.uniform(0, 1)),
        )  # fmt: skip
        discs = list(anatomy.discs)
        discs[index] = replace(discs[index], herniation=added)
        anatomy = replace(anatomy, discs=tuple(discs))
    size = round(CROP_MM / PIXEL_MM)
    sample = render_axial(anatomy, "L4-L5", pixel_mm=PIXEL_MM, size=size + 32, seed=seed, centre_jitter_mm=0.0)
    place = np.linalg.inv(sample.affine) @ np.append(np.array(truth.posterior_margin_lps), 1.0)
    half = (size - 1) / 2
    top, left = round(place[1] + _BEHIND_MM / PIXEL_MM - half), round(place[2] - half)
    top, left = (int(np.clip(start, 0, 32)) for start in (top, left))
    crop = sample.image[top : top + size, left : left + size] / np.percentile(sample.image, 99.8)
    difference = truth.left.recess_depth_soft_mm - truth.right.recess_depth_soft_mm
    column = int(np.clip(round(place[2] + u / PIXEL_MM) - left, 0, size - 1))
    return Pictured(seed, extent, crop.astype(np.float32), column, difference)


def plane_steps(seed: int) -> float:
    """How far a slice of few sub-planes is from one of three times as many, in shares of the picture's noise (root mean square).

    Both are painted without noise, over the canal at L4-L5.
    """
    anatomy = draw_anatomy(seed)
    rng = np.random.default_rng([seed, 47])
    scanner = draw_scanner(rng, anatomy.settings.scanner)
    noise = draw_acquisition(rng, scanner, PIXEL_MM).noise
    point, axes = anatomy.curve.frame(anatomy.discs[anatomy.disc_index("L4-L5")].t)
    size, thickness = 64, float(rng.uniform(3.0, 4.5))
    u, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    origin = point + np.array([0.0, _BEHIND_MM, 0.0]) - (size - 1) / 2 * PIXEL_MM * (u + v)
    scene = solve_scene(anatomy)

    def painted(offset: float, share: float) -> NDArray[np.float32]:
        plane = Plane(origin + offset * axes[2], u, v, PIXEL_MM, (size, size), thickness * share)
        part = paint_plane(scene, plane, scanner, ("t2",), "axial")
        return np.asarray(part.water["t2"] + part.fat["t2"], dtype=np.float32)

    # every sub-plane in turn spread over its third
    fine = sum(
        weight * painted(offset * thickness, 1 / 3) for offset, weight in zip(SUB_PLANES, SUB_WEIGHTS, strict=True)
    )
    return float(np.sqrt(np.mean((painted(0.0, 1.0) - fine) ** 2)) / noise)
