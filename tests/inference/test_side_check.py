"""Pixels mirrored or turned in one plane are told from the other plane; a body without asymmetry stays unverified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_io import read_study
from dicom_io.geometry import Grid, Volume
from inference.side_check import check_sides
from training.phantom import StudyTruth

Planes = tuple[Volume, tuple[Volume, ...]]


@pytest.fixture(scope="module")
def planes(small_study: tuple[Path, StudyTruth]) -> Planes:
    study = read_study(small_study[0])
    return study.with_role("sagittal_t2")[0].volume, tuple(stack.volume for stack in study.with_role("axial_t2"))


def _flipped(volume: Volume, axis: int) -> Volume:
    return replace(volume, array=np.ascontiguousarray(np.flip(volume.array, axis)))


def _moved(volume: Volume, z: float) -> Volume:
    affine = volume.grid.affine.copy()
    affine[2, 3] += z
    return replace(volume, grid=Grid(volume.grid.shape, affine))


def test_planes_as_they_came_verify_the_sides(planes: Planes) -> None:
    check = check_sides(*planes)
    assert (check.verified, check.conflict, check.turned, check.shift_mm) == (True, False, False, 0.0)


def test_axial_pixels_mirrored_are_a_conflict_of_sides(planes: Planes) -> None:
    sagittal, axial = planes
    check = check_sides(sagittal, [_flipped(volume, 2) for volume in axial])
    assert check.conflict
    assert not check.verified


def test_sagittal_slices_in_reversed_order_are_a_conflict_of_sides(planes: Planes) -> None:
    sagittal, axial = planes
    assert check_sides(_flipped(sagittal, 0), axial).conflict


@pytest.mark.parametrize(("plane", "axis"), [("axial", 1), ("sagittal", 1), ("sagittal", 2)])
def test_pixels_upside_down_or_front_to_back_are_told(planes: Planes, plane: str, axis: int) -> None:
    sagittal, axial = planes
    if plane == "axial":
        check = check_sides(sagittal, [_flipped(volume, axis) for volume in axial])
    else:
        check = check_sides(_flipped(sagittal, axis), axial)
    assert check.turned
    assert not check.verified


@pytest.mark.parametrize("shift", [20.0, -12.0])
def test_axial_slices_set_elsewhere_along_the_body_are_told(planes: Planes, shift: float) -> None:
    sagittal, axial = planes
    check = check_sides(sagittal, [_moved(volume, shift) for volume in axial])
    assert check.shift_mm == pytest.approx(-shift, abs=4.0)


def test_a_body_alike_on_both_sides_leaves_the_sides_unverified(planes: Planes) -> None:
    """Made even by force: every plane is averaged with its own mirror image about the patient's middle."""
    sagittal, axial = planes
    even = replace(sagittal, array=(sagittal.array + sagittal.array[::-1]) / 2)
    same = [replace(volume, array=(volume.array + volume.array[:, :, ::-1]) / 2) for volume in axial]
    check = check_sides(even, same)
    assert not check.verified
    assert not check.conflict


def test_planes_that_do_not_meet_verify_nothing(planes: Planes) -> None:
    sagittal, axial = planes
    check = check_sides(sagittal, [_moved(volume, 900.0) for volume in axial])
    assert (check.verified, check.conflict) == (False, False)
    assert "too little" in check.reason
