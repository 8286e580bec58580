"""Simulated studies as DICOM: valid objects, geometry that agrees with the truth beside them, the same bytes for the same seed."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest

from configs.loader import anatomy as label_settings
from dicom_io.geometry import Grid, slice_affine
from training.phantom import StudyTruth, draw_anatomy, render_axial, study_files
from training.phantom.study import PROTOCOLS, axial_planes, render_study
from training.phantom.synth import synthesise

ROLES = ("sagittal_t1", "sagittal_t2", "axial_t2")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyTruth]:
    folder = tmp_path_factory.mktemp("study")
    return folder, render_study(draw_anatomy(12), folder, seed=12, protocol="small", with_labels=True)


def headers(folder: Path, role: str) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((folder / role).glob("*.dcm"))]


def test_study_has_one_frame_of_reference_and_uids_of_its_own(written: tuple[Path, StudyTruth]) -> None:
    folder, truth = written
    objects = [ds for role in ROLES for ds in headers(folder, role)]
    assert {ds.FrameOfReferenceUID for ds in objects} == {truth.frame_of_reference_uid}
    assert {ds.StudyInstanceUID for ds in objects} == {truth.study_instance_uid}
    assert len({ds.SOPInstanceUID for ds in objects}) == len(objects)
    assert len({ds.SeriesInstanceUID for ds in objects}) == 3
    assert all("Laterality" not in ds for ds in objects)
    assert {(ds.file_meta.TransferSyntaxUID, ds.Modality, ds.PatientPosition) for ds in objects} == {
        ("1.2.840.10008.1.2.1", "MR", "HFS")
    }
    assert [series.role for series in truth.series] == ["sagittal_t2", "sagittal_t1", "axial_t2"]


def test_echo_and_repetition_times_tell_t1_from_t2(written: tuple[Path, StudyTruth]) -> None:
    folder, _ = written
    for role in ROLES:
        ds = headers(folder, role)[0]
        if role.endswith("t1"):
            assert ds.EchoTime < 20
            assert ds.RepetitionTime < 1000
        else:
            assert ds.EchoTime > 80
            assert ds.RepetitionTime > 2000


def test_objects_pass_the_standard_s_validator(written: tuple[Path, StudyTruth]) -> None:
    folder, _ = written
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    for role in ROLES:
        path = sorted((folder / role).glob("*.dcm"))[0]
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        text = said.stdout + said.stderr
        assert "Error" not in text
        assert "Warning" not in text


def test_true_disc_centres_lie_in_the_disc_label_of_the_written_sagittal_slices(
    written: tuple[Path, StudyTruth],
) -> None:
    folder, truth = written
    labels = np.load(folder / "labels.npz")["sagittal"]
    slices = headers(folder, "sagittal_t2")
    first, second = (np.array(ds.ImagePositionPatient, dtype=float) for ds in slices[:2])
    ds = slices[0]
    affine = slice_affine(first, np.array(ds.ImageOrientationPatient), np.array(ds.PixelSpacing), second - first)
    grid = Grid((len(slices), int(ds.Rows), int(ds.Columns)), affine)
    assert labels.shape == grid.shape
    for level in truth.levels:
        k, r, c = np.rint(grid.to_index(np.array(level.disc_centre_lps))).astype(int)
        assert labels[k, r, c] == label_settings().sagittal.value("disc"), level.name


def test_axial_slices_run_through_the_discs_they_are_planned_on(written: tuple[Path, StudyTruth]) -> None:
    folder, truth = written
    for name in ("L4-L5", "L5-S1"):
        centre = np.array(truth.level(name).disc_centre_lps)
        nearest = min(
            abs(float((centre - np.array(ds.ImagePositionPatient, dtype=float)) @ _normal(ds)))
            for ds in headers(folder, "axial_t2")
        )
        assert nearest < 3.0


def _normal(ds: pydicom.Dataset) -> np.ndarray:
    orientation = np.array(ds.ImageOrientationPatient, dtype=float)
    return np.cross(orientation[:3], orientation[3:])


def test_truth_file_says_what_was_returned(written: tuple[Path, StudyTruth]) -> None:
    folder, truth = written
    assert json.loads((folder / "truth.json").read_text()) == json.loads(json.dumps(truth.as_json()))


def test_same_seed_writes_the_same_bytes(written: tuple[Path, StudyTruth], tmp_path: Path) -> None:
    folder, truth = written
    again = study_files(draw_anatomy(12), tmp_path, seed=12)
    assert again == truth
    for role in ROLES:
        for path in sorted((folder / role).glob("*.dcm"))[::4]:
            assert (tmp_path / role / path.name).read_bytes() == path.read_bytes()


def test_finished_studies_are_not_made_again(tmp_path: Path) -> None:
    folder = next(synthesise(tmp_path, 1, 40, protocol="small"))
    before = (folder / "truth.json").stat().st_mtime_ns
    assert next(synthesise(tmp_path, 1, 40, protocol="small")) == folder
    assert (folder / "truth.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="unknown protocol"):
        next(synthesise(tmp_path, 1, 40, protocol="spiral"))


def test_training_picture_places_left_structures_on_the_patient_s_left() -> None:
    sample = render_axial(draw_anatomy(21), "L4-L5", seed=1, tilt="disc")
    value = label_settings().axial.value
    for name, sign in (("recess_left", 1), ("recess_right", -1)):
        rows, columns = np.nonzero(sample.labels == value(name))
        assert len(rows) > 20
        index = np.stack([np.zeros_like(rows), rows, columns, np.ones_like(rows)])
        x = (sample.affine @ index)[0] - sample.truth.posterior_margin_lps[0]
        assert np.all(np.sign(x) == sign)


def test_slices_of_one_stack_share_the_scanner_and_not_the_noise() -> None:
    person = draw_anatomy(21)
    here, again, beside = (
        render_axial(person, "L4-L5", seed=1, tilt="disc", size=96, offset_mm=offset, randomise=False).image
        for offset in (0.0, 0.0, 0.002)  # two micrometres change nothing but the noise
    )
    assert np.array_equal(here, again)
    assert (here - beside).std() > 0.01


def test_cerebrospinal_fluid_is_bright_on_t2_and_dark_on_t1() -> None:
    person = draw_anatomy(22)
    value = label_settings().axial.value
    for weighting, brighter in (("t2", True), ("t1", False)):
        sample = render_axial(person, "L3-L4", weighting=weighting, seed=2, tilt="disc", randomise=False)
        sac = np.median(sample.image[sample.labels == value("thecal_sac")])
        facets = np.median(sample.image[sample.labels == value("facets")])
        assert (sac > facets) == brighter


def test_axial_slices_are_planned_anew_for_every_study() -> None:
    person = draw_anatomy(12)
    for protocol in ("block", "angled"):
        plans = [axial_planes(person, PROTOCOLS[protocol], np.random.default_rng(seed)) for seed in range(60)]
        assert len({len(planes) for planes in plans}) > 8
        below = [min(float(plane.origin[2]) for plane in planes) for planes in plans]
        assert np.ptp(below) > (30 if protocol == "block" else 5)
    discs = [len({tuple(plane.normal) for plane in planes}) for planes in plans]
    assert set(discs) == {2, 3, 4, 5}
    whole = [axial_planes(person, PROTOCOLS["whole"], np.random.default_rng(seed)) for seed in range(4)]
    assert {len(planes) for planes in whole} == {60}


def test_a_slice_is_missing_now_and_then_within_the_stack() -> None:
    person = draw_anatomy(12)
    always = replace(PROTOCOLS["block"], incomplete=1.0)
    for seed in range(6):
        planes = axial_planes(person, always, np.random.default_rng(seed))
        steps = [float(abs((b.origin - a.origin) @ a.normal)) for a, b in pairwise(planes)]
        assert sum(step > 1.5 * min(steps) for step in steps) == 1
        never = axial_planes(person, replace(always, incomplete=0.0), np.random.default_rng(seed))
        assert len(never) == len(planes) + 1
