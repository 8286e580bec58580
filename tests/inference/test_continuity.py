"""Slices that do not continue their neighbours: pictures of somebody else, a wrong order, places that drift on paper alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from dicom_io.geometry import Grid, SourceInstance, Volume
from dicom_io.roles import rank
from dicom_io.study import PatientContext, Stack, Study
from inference.continuity import Continuity, check_continuity, continuous, seen_drift

_SLICES, _SIZE, _PIXEL_MM, _STEP_MM = 9, 120, 1.0, 4.0


def _body(seed: int) -> NDArray[np.float32]:
    """A smooth body (slices, rows, columns) in which near slices look alike, on 4 mm slices of 1 mm pixels."""
    noise = np.random.default_rng(seed).normal(size=(_SLICES, _SIZE, _SIZE))
    return np.asarray(1000 + 4000 * ndimage.gaussian_filter(noise, (1.0, 4.0, 4.0)), dtype=np.float32)


def _axial(array: NDArray[np.float32], drift_mm: float = 0.0) -> Volume:
    """Axial slices whose places move back by so much from one to the next."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0, drift_mm, _STEP_MM), (0, _PIXEL_MM, 0), (_PIXEL_MM, 0, 0)
    instances = tuple(SourceInstance(f"1.2.{number}") for number in range(len(array)))
    return Volume(array, Grid(array.shape, affine), instances, "1.2")


def _study(*volumes: Volume) -> Study:
    stacks = tuple(
        Stack(replace(volume, series_instance_uid=f"1.{n}"), "axial_t2", "", f"1.{n}", n, "", 100.0, 4000.0)
        for n, volume in enumerate(volumes)
    )
    return Study("1", PatientContext("P"), stacks, (), (), "", roles=rank(stacks))


def test_slices_that_continue_each_other_are_left_alone() -> None:
    study = _study(_axial(_body(0)), _axial(_body(1)))
    assert continuous(study) is study


@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_picture_of_another_body_is_found(at: int) -> None:
    array = _body(0)
    array[at] = _body(1)[at]
    assert check_continuity(_axial(array)).outliers == (at,)


def test_pictures_in_a_wrong_order_contradict_the_places() -> None:
    for order in ([3, 7, 1, 5, 0, 8, 2, 6, 4], [0, 1, 2, 3, 8, 7, 6, 5, 4], [0, 2, 1, 3, 4, 5, 6, 7, 8]):
        found = check_continuity(_axial(_body(0)[order]))
        assert found.contradicted or found.outliers, order
    assert check_continuity(_axial(_body(0)[::-1].copy())) == Continuity()


def test_a_patient_who_moved_once_is_no_other_patient() -> None:
    array = _body(0)
    array[4] = np.roll(array[4], 2, axis=0)
    assert check_continuity(_axial(array)) == Continuity()


@pytest.mark.parametrize("drift_mm", [1.5, -1.5, 3.0])
def test_drift_that_the_pictures_share_is_true_and_drift_on_paper_alone_is_not(drift_mm: float) -> None:
    array = _body(0)
    assert seen_drift(_axial(array)) is None
    moved = np.stack(
        [ndimage.shift(plane, (-drift_mm * n, 0), order=1, mode="nearest") for n, plane in enumerate(array)]
    )
    shares = seen_drift(_axial(moved, drift_mm)), seen_drift(_axial(array, drift_mm))
    assert shares == (pytest.approx(1.0, abs=0.2), pytest.approx(0.0, abs=0.2))


def test_a_stack_is_split_at_the_strange_slice_and_told() -> None:
    array = _body(0)
    array[4] = _body(1)[4]
    study = continuous(_study(_axial(array)))
    assert [stack.volume.grid.shape[0] for stack in study.stacks] == [4, 4]
    assert [stack.volume.grid.affine[2, 3] for stack in study.stacks] == [0.0, 5 * _STEP_MM]
    assert "1.2.4" not in {one.sop_instance_uid for stack in study.stacks for one in stack.volume.instances}
    assert [notice.code for stack in study.stacks for notice in stack.warnings] == ["SLICE_MISSING"] * 2
    assert [notice.code for notice in study.excluded] == ["CONTENT_OUTLIER"]
    assert study.with_role("axial_t2") == study.stacks


def test_stacks_whose_places_are_contradicted_are_left_out_and_the_others_kept() -> None:
    permuted = _axial(_body(0)[[3, 7, 1, 5, 0, 8, 2, 6, 4]])
    study = continuous(_study(permuted, _axial(_body(1), 1.5), _axial(_body(2))))
    assert [stack.series_instance_uid for stack in study.with_role("axial_t2")] == ["1.2"]
    assert [(notice.code, notice.series_instance_uid) for notice in study.excluded] == [
        ("POSITION_INVALID", "1.0"),
        ("POSITION_INVALID", "1.1"),
    ]
