"""Pictures that contradict their headers, told by comparing both planes (classes G-18, G-26, P-13, P-15) or neighbours (G-19, G-30, P-17).

A simulated person is needed here, with the asymmetry that a body has; the small study is even from side to side.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from configs.loader import limits
from dicom_io import read_study
from dicom_io.geometry import Grid, Volume
from inference.continuity import check_continuity, seen_drift
from inference.side_check import check_sides
from tests.corpus.case import Case
from training.phantom import draw_anatomy, study_files
from training.phantom.demo import SEED

Planes = tuple[Volume, list[Volume]]


@cache
def person(seed: int) -> Planes:
    """Sagittal T2 and the axial T2 stacks of a simulated person."""
    with tempfile.TemporaryDirectory() as name:
        study_files(draw_anatomy(SEED + seed), Path(name), seed=SEED + seed)
        study = read_study(name)
    return study.with_role("sagittal_t2")[0].volume, [stack.volume for stack in study.with_role("axial_t2")]


def _told(change: Callable[[Volume, list[Volume]], Planes], expected: str) -> Callable[[int], str]:
    """What the comparison of both planes says when the pictures of one are changed and the headers are not."""

    def check(seed: int) -> str:
        found = check_sides(*change(*person(seed)))
        told = {"conflict": found.conflict, "turned": found.turned, "swapped": found.spacing_swapped}
        told["shifted"] = found.shift_mm is not None and abs(found.shift_mm) > limits().sides.withhold_shift_mm
        told["verified"] = found.verified
        return "" if told[expected] and (expected == "verified") == found.verified else found.reason

    return check


def _flipped(volume: Volume, axis: int) -> Volume:
    """The volume with its pictures reversed along an index axis, its places kept."""
    return replace(volume, array=np.ascontiguousarray(np.flip(volume.array, axis)))


def _oblong(volume: Volume, *, exchanged: bool) -> Volume:
    """Every second row left out: pixels twice as high as wide, told rightly or with the two spacings exchanged."""
    affine = volume.grid.affine.copy()
    affine[:3, 1] *= 2
    if exchanged:
        rows, columns = affine[:3, 1].copy(), affine[:3, 2].copy()
        affine[:3, 1] = rows / np.linalg.norm(rows) * np.linalg.norm(columns)
        affine[:3, 2] = columns / np.linalg.norm(columns) * np.linalg.norm(rows)
    array = np.ascontiguousarray(volume.array[:, ::2])
    return replace(volume, array=array, grid=Grid(array.shape, affine))


def _along_body(volume: Volume, millimetres: float) -> Volume:
    affine = volume.grid.affine.copy()
    affine[2, 3] += millimetres
    return replace(volume, grid=Grid(volume.grid.shape, affine))


def _continuity(change: Callable[[Planes, int], Volume], expected: str) -> Callable[[int], str]:
    """What the comparison of neighbouring slices says of one volume made from those of a person."""

    def check(seed: int) -> str:
        volume = change(person(seed), seed)
        found = check_continuity(volume)
        drift = seen_drift(volume)
        drifting = drift is not None and drift < limits().continuity.seen_drift
        said = "order" if found.contradicted else "slice" if found.outliers else "drift" if drifting else "nothing"
        return "" if said == expected else f"{said}: {found}, seen drift {drift}"

    return check


def _permuted(volume: Volume, seed: int) -> Volume:
    order = np.random.default_rng(seed).permutation(volume.grid.shape[0])
    return replace(volume, array=volume.array[order])


def with_slice_of(volume: Volume, other: Volume, at: int) -> Volume:
    """The volume with one picture of another person under its own header."""
    array = volume.array.copy()
    array[at] = other.array[at % other.grid.shape[0]]
    return replace(volume, array=array)


def _drifting(volume: Volume, millimetres: float, *, seen: bool) -> Volume:
    """Places that move back from slice to slice, with the pictures (the body stays where it is) or without."""
    affine = volume.grid.affine.copy()
    down = affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    affine[:3, 0] += millimetres * down
    rows = -millimetres / volume.grid.spacing[1]
    pictures = volume.array
    if seen:
        moved = [
            ndimage.shift(plane, (rows * number, 0), order=1, mode="nearest") for number, plane in enumerate(pictures)
        ]
        pictures = np.stack(moved)
    return replace(volume, array=pictures, grid=Grid(volume.grid.shape, affine))


CASES: tuple[Case, ...] = (
    *(
        Case("G-19", f"{name} as they came", check=_continuity(change, "nothing"), outcome="read", costly=True)
        for name, change in (("sagittal slices", lambda p, _: p[0]), ("axial slices", lambda p, _: p[1][0]))
    ),
    *(
        Case(
            "G-19",
            f"{name} drift in their plane, and the pictures {'with them' if seen else 'do not'}",
            check=_continuity(
                lambda p, _, pick=pick, seen=seen: _drifting(pick(p), 1.5, seen=seen), "nothing" if seen else "drift"
            ),  # type: ignore[misc]
            outcome="read" if seen else "POSITION_INVALID: the series is left out",
            costly=True,
        )
        for name, pick in (("sagittal slices", lambda p: p[0]), ("axial slices", lambda p: p[1][0]))
        for seen in (True, False)
    ),
    Case(
        "G-30",
        "pictures permuted among the places of a series",
        check=_continuity(lambda p, seed: _permuted(p[0], seed), "order"),
        outcome="POSITION_INVALID: the series is left out",
        costly=True,
    ),
    Case(
        "P-17",
        "a middle slice of another person under this header",
        check=_continuity(lambda p, seed: with_slice_of(p[0], person(seed + 1)[0], p[0].grid.shape[0] // 2), "slice"),
        outcome="CONTENT_OUTLIER: the slice is left out, the stack split there (recall: `python -m tests.corpus.outliers`)",
        costly=True,
    ),
    Case(
        "P-13",
        "pictures as they came",
        check=_told(lambda s, a: (s, a), "verified"),
        outcome="sides verified",
        costly=True,
    ),
    Case(
        "G-18",
        "spacings of oblong pixels exchanged",
        check=_told(lambda s, a: (s, [_oblong(v, exchanged=True) for v in a]), "swapped"),
        costly=True,
        outcome="PLANES_DISAGREE: no millimetre of the axial pictures is given",
    ),
    Case(
        "G-18",
        "oblong pixels told rightly",
        check=_told(lambda s, a: (s, [_oblong(v, exchanged=False) for v in a]), "verified"),
        costly=True,
        outcome="sides verified",
    ),
    *(
        Case(
            "G-26",
            f"axial slices told {shift} mm along the body",
            check=_told(lambda s, a, shift=shift: (s, [_along_body(v, shift) for v in a]), "shifted"),  # type: ignore[misc]
            costly=True,
            outcome="PLANES_DISAGREE: levels and values across the planes are withheld",
        )
        for shift in (20.0, -16.0)
    ),
    *(
        Case(
            "P-13",
            f"{name} mirrored",
            check=_told(change, "conflict"),
            costly=True,
            outcome="SIDE_CONFLICT: all sides are withheld",
        )
        for name, change in (
            ("axial pictures", lambda s, a: (s, [_flipped(v, 2) for v in a])),
            ("order of the sagittal slices", lambda s, a: (_flipped(s, 0), a)),
        )
    ),
    *(
        Case(
            "P-15",
            f"{name}",
            check=_told(change, "turned"),
            costly=True,
            outcome="ORIENTATION_CONFLICT: axial values are withheld",
        )
        for name, change in (
            ("axial pictures front to back", lambda s, a: (s, [_flipped(v, 1) for v in a])),
            ("sagittal pictures upside down", lambda s, a: (_flipped(s, 1), a)),
            ("sagittal pictures front to back", lambda s, a: (_flipped(s, 2), a)),
        )
    ),
)
