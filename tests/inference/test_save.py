"""What a reading leaves as DICOM: every finding tied to its segment, image and place, and the same bytes whenever it is made."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from configs import anatomy
from dicom_io import read_study
from dicom_io.geometry import Grid
from dicom_io.read_back import measurement_groups, segment_centroids
from inference.analyze import Engine, Reading, analyze
from inference.level_parts import sagittal_parts
from inference.report import LevelRead, Plane
from training.phantom import StudyTruth

_FORMATS = ("json", "seg", "sr", "sc")


@pytest.fixture(scope="module")
def reading(small_study: tuple[Path, StudyTruth], engine: Engine) -> Reading:
    return analyze(read_study(small_study[0]), engine=engine)


@pytest.fixture(scope="module")
def saved(reading: Reading, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    reading.save(folder, _FORMATS)
    return folder


def test_every_finding_is_tied_to_a_segment_of_its_level_and_side(reading: Reading, saved: Path) -> None:
    segmentations = {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, saved.glob("seg*.dcm"))}
    groups = measurement_groups(dcmread(saved / "sr.dcm"))
    assert len(groups) == len(reading.report.findings)
    for group, finding in zip(groups, reading.report.findings, strict=True):
        assert group.segment is not None
        described = segmentations[group.segment[0]].SegmentSequence[group.segment[1] - 1]
        assert described.SegmentLabel.startswith(finding.level)
        if finding.kind == "recess_stenosis":
            assert described.SegmentLabel == f"{finding.level} recess {finding.side}"


def test_every_value_is_tied_to_an_image_and_to_points_on_it(reading: Reading, saved: Path) -> None:
    volumes = [item.source for item in reading.label_maps]
    for group in measurement_groups(dcmread(saved / "sr.dcm")):
        for value in (*group.values, *([group.probability] if group.probability else [])):
            assert value.image is not None
            assert value.points is not None
            (volume,) = [v for v in volumes if value.image[0] in {i.sop_instance_uid for i in v.instances}]
            index = [instance.sop_instance_uid for instance in volume.instances].index(value.image[0])
            assert np.all(np.abs(volume.grid.to_index(value.points)[:, 0] - index) < 0.51)


def test_left_recess_lies_left_of_the_sac_and_the_right_one_right_of_it(saved: Path) -> None:
    looked_at = 0
    for path in saved.glob("seg*.dcm"):
        dataset = dcmread(path)
        middles = segment_centroids(dataset)
        x = {item.SegmentLabel: middles[number][0] for number, item in enumerate(dataset.SegmentSequence, start=1)}
        for level in anatomy().read_levels:
            names = [f"{level} recess right", f"{level} thecal sac", f"{level} recess left"]
            if all(name in x for name in names):
                looked_at += 1
                assert x[names[0]] < x[names[1]] < x[names[2]]
    assert looked_at == 2


def test_sagittal_discs_have_segments_of_their_own(saved: Path, reading: Reading) -> None:
    (dataset,) = [one for one in map(dcmread, saved.glob("seg*.dcm")) if _is_sagittal(one.SegmentSequence)]
    middles = segment_centroids(dataset)
    z = {item.SegmentLabel: middles[number][2] for number, item in enumerate(dataset.SegmentSequence, start=1)}
    order = ["L5-S1 disc", "L4-L5 disc", "L3-L4 disc", "L2-L3 disc"]
    assert [name for name in sorted(z, key=lambda name: z[name]) if name in order] == order
    for level in reading.report.levels:
        if level.name in anatomy().levels:
            number = [item.SegmentLabel for item in dataset.SegmentSequence].index(f"{level.name} disc") + 1
            assert np.linalg.norm(middles[number] - np.array(level.disc_centre_lps)) < 8


def _is_sagittal(segments: object) -> bool:
    return any("vertebra" in item.SegmentLabel for item in segments)  # type: ignore[attr-defined]


def test_the_same_result_made_again_gives_the_same_objects(reading: Reading, saved: Path, tmp_path: Path) -> None:
    time.sleep(1.1)
    later = Reading(
        reading.report.model_copy(update={"created_at": reading.report.created_at.replace(year=2030)}),
        reading.study,
        reading.pictures,
        reading.label_maps,
    )
    later.save(tmp_path, _FORMATS)
    first = {path.name: path.read_bytes() for path in saved.glob("*.dcm")}
    assert {"seg.dcm", "sr.dcm", "capture-01.dcm", "report-pdf.dcm"} <= first.keys()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.dcm")} == first


def _level(name: str, z: float) -> LevelRead:
    plane = Plane(point=(0.0, 0.0, z), normal=(0.0, 0.0, 1.0))
    return LevelRead(name=name, basis="", confidence=1.0, disc_centre_lps=(0.0, 0.0, z), mid_plane=plane)


def test_each_voxel_of_disc_goes_to_the_nearest_named_disc_and_the_rest_stays_whole() -> None:
    labels = np.zeros((1, 120, 4), dtype=np.uint8)
    value = anatomy().sagittal.value
    labels[0, :, 0] = value("vertebra")
    labels[0, 28:33, 1] = labels[0, 58:63, 1] = value("disc")
    labels[0, 100:103, 1] = value("disc")
    labels[0, :, 2] = value("canal")
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])  # rows run to the feet
    levels = (_level("L4-L5", -30.0), _level("L5-S1", -60.0))
    parts = sagittal_parts(labels, Grid(labels.shape, affine), levels)
    rows = {
        (name, structures[0]): np.flatnonzero((mask & (labels == value(structures[0])))[0].any(axis=1)).tolist()
        for name, structures, mask in parts
    }
    assert rows["L4-L5", "disc"] == list(range(28, 33))
    assert rows["L5-S1", "disc"] == list(range(58, 63))
    assert rows[None, "disc"] == list(range(100, 103))
    assert rows[None, "vertebra"] == list(range(120))
    times = sum(mask & np.isin(labels, [value(name) for name in structures]) for _, structures, mask in parts)
    assert np.array_equal(times, (labels > 0).astype(int))
