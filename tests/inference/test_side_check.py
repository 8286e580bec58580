"""Pixels mirrored or turned in one plane are told from the other plane; a body without asymmetry stays unverified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_io import read_study
from dicom_io.codes import notice
from dicom_io.geometry import Grid, Volume
from inference.report import Evidence, Finding, Level, Measurement, Side
from inference.segment import AxialReading
from inference.side_check import check_sides, withhold_at_gaps, withhold_unsafe
from tests.inference.axial_scene import painted_reading, stack
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


@pytest.mark.parametrize("axis", [2, 1])
def test_one_stack_turned_over_is_told_though_the_others_are_right(planes: Planes, axis: int) -> None:
    sagittal, axial = planes
    check = check_sides(sagittal, [_flipped(axial[0], axis), *axial[1:]])
    (told,) = check.stacks
    assert (told.check.conflict, told.check.turned) == (axis == 2, axis == 1)
    assert {sop for _, sop, _ in told.images} == {instance.sop_instance_uid for instance in axial[0].instances}


def test_one_stack_set_elsewhere_along_the_body_is_told(planes: Planes) -> None:
    sagittal, axial = planes
    check = check_sides(sagittal, [_moved(axial[0], 16.0), *axial[1:]])
    assert [told.check.shift_mm for told in check.stacks] == [-16.0]


def test_only_what_was_seen_on_the_turned_stack_is_withheld(planes: Planes) -> None:
    sagittal, axial = planes
    check = check_sides(sagittal, [_flipped(axial[0], 2), *axial[1:]])
    findings = [_recess(stack, side) for stack in axial for side in ("left", "right")]
    kept, withheld, notices = withhold_unsafe(findings, (), check)
    assert list(kept) == findings[2:]
    assert [(item.side, item.code) for item in withheld] == [("left", "SIDE_CONFLICT"), ("right", "SIDE_CONFLICT")]
    assert "SIDE_CONFLICT" in {notice.code for notice in notices}


def _read_between(low_mm: float, high_mm: float, *, split: bool) -> AxialReading:
    """L4-L5 read on slices 4 mm apart as far as they lie between two offsets, from a stack that was split at a gap or was not."""
    source = stack()
    if split:
        source = replace(source, warnings=(notice("SLICE_MISSING", source.series_instance_uid),))
    whole = painted_reading(source, sub=1)
    return replace(whole, slices=tuple(item for item in whole.slices if low_mm <= item.offset_mm <= high_mm))


def _measured(level: Level, side: Side | None, name: str) -> Finding:
    size = Measurement(name=name, value=3.0, unit="mm")
    kind = "recess_stenosis" if side else "herniation"
    return Finding(
        id="F",
        level=level,
        side=side or "midline",
        kind=kind,
        severity="moderate",
        measurements=(size,),
        basis="painted",
    )


@pytest.mark.parametrize(("low_mm", "high_mm"), [(-3.0, 7.0), (-12.0, -3.0)])
def test_values_of_a_level_are_withheld_where_its_stack_was_split_within_the_recess(
    low_mm: float, high_mm: float
) -> None:
    axial = _read_between(low_mm, high_mm, split=True)
    here = _measured("L4-L5", "left", "recess_mm")
    elsewhere, sagittal = _measured("L5-S1", "left", "recess_mm"), _measured("L4-L5", None, "sagittal_probability")
    kept, withheld = withhold_at_gaps([here, elsewhere, sagittal], (), [axial])
    assert kept == (elsewhere, sagittal)
    assert [(item.level, item.side, item.kind, item.code) for item in withheld] == [
        ("L4-L5", "left", "recess_stenosis", "SLICE_MISSING")
    ]


@pytest.mark.parametrize(("low_mm", "high_mm", "split"), [(-12.0, 7.0, True), (-9.0, 1.0, True), (-3.0, 7.0, False)])
def test_values_stay_where_the_slices_reach_over_the_recess_or_no_slice_is_missing(
    low_mm: float, high_mm: float, split: bool
) -> None:
    findings = (_measured("L4-L5", "left", "recess_mm"),)
    assert withhold_at_gaps(findings, (), [_read_between(low_mm, high_mm, split=split)]) == (findings, ())


def _recess(volume: Volume, side: Side) -> Finding:
    image = volume.instances[2]
    seen = Evidence(
        sop_instance_uid=image.sop_instance_uid,
        frame=image.frame,
        point_lps=(0, 0, 0),
        series_instance_uid=volume.series_instance_uid,
    )
    return Finding(
        id="F",
        level="L4-L5",
        side=side,
        kind="recess_stenosis",
        severity="severe",
        evidence=(seen,),
        basis="simulated images only",
    )
