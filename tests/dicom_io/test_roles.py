"""Roles come from times and content with a reason, never from a description or the order of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_io import read_study
from dicom_io.contrast import axial_features, back_region, contrast_model, fat_brightness, logit, sagittal_features
from dicom_io.geometry import plane_of
from tests.corpus.small_study import changed
from tests.dicom_io.conftest import Writer


@pytest.mark.parametrize(
    ("echo", "repetition", "inversion", "role"),
    [
        (12, 600, None, "sagittal_t1"),
        (9, 2100, 900, "sagittal_t1"),
        (100, 3000, None, "sagittal_t2"),
        (60, 4500, 150, "sagittal_t2_fs"),
        (40, 4500, 220, "sagittal_t2_fs"),
        (20, 3000, None, "other"),
    ],
)
def test_times_decide_the_weighting(
    on_disk: Writer, echo: float, repetition: float, inversion: float | None, role: str
) -> None:
    def retime(name: str, dataset: Dataset) -> Dataset | None:
        dataset.EchoTime, dataset.RepetitionTime = echo, repetition
        if inversion is not None:
            dataset.InversionTime = inversion
        return dataset if name.startswith("sagT2") else None

    (stack,) = read_study(on_disk(changed(0, retime))).stacks
    assert stack.role == role
    assert f"TE {echo} ms" in stack.reason


def tilted(vector: list[float], degrees: float) -> list[float]:
    """A vector turned about the axis from right to left, so that a level slice comes to look forwards (+) or backwards."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    x, y, z = (float(value) for value in vector)
    return [x, cosine * y - sine * z, sine * y + cosine * z]


@pytest.mark.parametrize(
    ("degrees", "plane"),
    [
        (-30, "axial"),
        (0, "axial"),
        (40, "axial"),
        (50, "axial"),
        (58, "axial"),
        (62, "coronal"),
        (80, "coronal"),
        (-50, "coronal"),
    ],
)
def test_slices_along_a_steep_lumbosacral_disc_are_axial_and_those_along_the_sacrum_are_not(
    degrees: float, plane: str
) -> None:
    normal = np.array(tilted([0.0, 0.0, 1.0], degrees))
    assert plane_of(normal) == plane_of(-normal) == plane
    assert plane_of(np.array([1.0, 0.02, 0.05])) == "sagittal"


def test_axial_slices_along_a_steep_disc_keep_their_role(on_disk: Writer) -> None:
    def tilt(name: str, dataset: Dataset) -> Dataset:
        if name.startswith("axT2"):
            position, orientation = dataset.ImagePositionPatient, dataset.ImageOrientationPatient
            dataset.ImagePositionPatient = tilted(list(position), 40)
            dataset.ImageOrientationPatient = tilted(orientation[:3], 40) + tilted(orientation[3:], 40)
        return dataset

    study = read_study(on_disk(changed(0, tilt)))
    steepest = max(np.degrees(np.arccos(abs(stack.volume.grid.normal[2]))) for stack in study.with_role("axial_t2"))
    assert len(study.with_role("axial_t2")) == 3
    assert 45 < steepest < 60


def test_a_wrong_description_changes_nothing(on_disk: Writer) -> None:
    def mislead(name: str, dataset: Dataset) -> Dataset:
        dataset.SeriesDescription = "T1 SAG" if name.startswith("axT2") else "T2 AX"
        return dataset

    study = read_study(on_disk(changed(0, mislead)))
    assert {role: len(stacks) for role, stacks in study.roles.items()} == {
        "axial_t2": 3,
        "sagittal_t1": 1,
        "sagittal_t2": 1,
    }


def test_the_finer_of_two_candidates_comes_first_whatever_their_order(on_disk: Writer) -> None:
    def both_t2(name: str, dataset: Dataset) -> Dataset | None:
        if name.startswith("sag"):
            dataset.EchoTime, dataset.RepetitionTime = 100.0, 3000.0
            if name.startswith("sagT1") and int(name[-3:]) > 10:
                return None
        return dataset

    files = changed(0, both_t2)
    for order in (files, files[::-1]):
        best, second = read_study(on_disk(order)).with_role("sagittal_t2")
        assert (best.volume.grid.shape[0], second.volume.grid.shape[0]) == (15, 11)


def test_dark_fat_under_the_skin_means_fat_suppression() -> None:
    picture = np.full((200, 200), 90.0)
    picture[:, 170:190] = 70.0  # skin and the fat under it
    picture[:, 190:] = 0.0
    picture[:, 120:135] = 400.0  # fluid
    region = back_region(picture, sagittal=True)
    assert region is not None
    assert fat_brightness(region) < contrast_model().fat_dark_below
    picture[:, 170:188] = 400.0
    bright = back_region(picture, sagittal=True)
    assert bright is not None
    assert fat_brightness(bright) > contrast_model().fat_dark_below


def test_real_pictures_are_told_apart(recess_data: Path) -> None:
    from training.weighting import axial_pictures, sagittal_pictures

    if not (recess_data / "spider" / "midsag").is_dir() or not (recess_data / "axial" / "sudirman_t1").is_dir():
        pytest.skip("the pictures are not on this machine")
    model = contrast_model()
    for pictures, cut, features in (
        (sagittal_pictures(recess_data, every=12), model.sagittal, sagittal_features),
        (axial_pictures(recess_data, every=24), model.axial, axial_features),
    ):
        right = [(logit(cut, features(picture.region)) > 0) == picture.is_t2 for picture in pictures]
        assert np.mean(right) > 0.9
