"""Pictures that contradict their headers, told by comparing both planes (classes G-18, G-26, P-13, P-15).

A simulated person is needed here, with the asymmetry that a body has; the small study is even from side to side.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from configs.loader import limits
from dicom_io import read_study
from dicom_io.geometry import Grid, Volume
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


CASES: tuple[Case, ...] = (
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
