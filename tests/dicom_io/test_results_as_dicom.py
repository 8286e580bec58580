"""What goes out: label maps, measurements, pictures and the report as DICOM that an archive takes and a validator accepts."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from configs.loader import anatomy
from dicom_io.captures import write_capture, write_encapsulated_pdf
from dicom_io.codes import notice
from dicom_io.derived import Written
from dicom_io.errors import ReadBackError, SourceNotReferable
from dicom_io.geometry import Volume
from dicom_io.seg import IntArray, Segment, read_back, segments_by_level, write_seg
from dicom_io.sr import MeasuredValue, ReportedFinding, write_sr
from dicom_io.study import Study


def _validated(written: Written) -> None:
    """No error and no warning from dciodvfy, where it is installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    result = subprocess.run(["dciodvfy", str(written.path)], capture_output=True, text=True, check=False)
    remarks = [line for line in result.stderr.splitlines() if line.startswith(("Error", "Warning"))]
    assert remarks == []


def _axial(study: Study) -> Volume:
    return study.with_role("axial_t2")[0].volume


def _labels(volume: Volume) -> tuple[IntArray, tuple[Segment, ...]]:
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    axial = anatomy().axial
    labels[1:4, 40:60, 50:77] = axial.value("disc")
    labels[1:4, 61:70, 58:69] = axial.value("thecal_sac")
    labels[2, 60:64, 70:74] = axial.value("recess_left")
    labels[2:4, 60:64, 52:56] = axial.value("recess_right")
    levels = ["L4-L5" if number < 3 else "L5-S1" for number in range(volume.grid.shape[0])]
    return segments_by_level(labels, axial, levels)


def test_segmentation_read_back_equals_the_label_map(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    written = write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key")
    dataset = dcmread(written.path)
    masks = read_back(dataset, volume)
    for segment, mask, described in zip(segments, masks, dataset.SegmentSequence, strict=True):
        assert np.array_equal(mask, labels == segment.value)
        assert described.SegmentLabel == segment.label
    _validated(written)


def test_there_is_one_segment_per_structure_level_and_side(good_study: Study) -> None:
    _, segments = _labels(_axial(good_study))
    assert [segment.label for segment in segments] == [
        "L4-L5 disc",
        "L4-L5 thecal sac",
        "L4-L5 recess left",
        "L4-L5 recess right",
        "L5-S1 disc",
        "L5-S1 thecal sac",
        "L5-S1 recess right",
    ]
    assert {segment.laterality for segment in segments if "recess" in segment.label} == {"left", "right"}


def test_left_segment_lies_on_the_patients_left(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    written = write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key")
    for segment, mask in zip(segments, read_back(dcmread(written.path), volume), strict=True):
        x = volume.grid.to_lps(np.argwhere(mask).astype(float))[:, 0].mean()
        if segment.laterality:
            assert (x > 0) == (segment.laterality == "left")


def test_mirrored_segmentation_would_not_be_kept(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    written = write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key")
    dataset = dcmread(written.path)
    group = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    group.ImageOrientationPatient = [-value for value in group.ImageOrientationPatient[:3]] + list(
        group.ImageOrientationPatient[3:]
    )
    with pytest.raises(ReadBackError):
        read_back(dataset, volume)


def test_sagittal_segmentation_is_on_the_sagittal_grid(good_study: Study, tmp_path: Path) -> None:
    volume = good_study.with_role("sagittal_t2")[0].volume
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    labels[5:9, 30:40, 20:35] = anatomy().sagittal.value("vertebra")
    labels, segments = segments_by_level(labels, anatomy().sagittal, [None] * volume.grid.shape[0])
    written = write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key", number=2)
    assert np.array_equal(read_back(dcmread(written.path), volume)[0], labels == 1)
    _validated(written)


def test_the_same_result_gives_the_same_object_and_another_result_another(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    one = write_seg(tmp_path / "a.dcm", labels, segments, volume, good_study, "key")
    two = write_seg(tmp_path / "b.dcm", labels, segments, volume, good_study, "key")
    other = write_seg(tmp_path / "c.dcm", labels, segments, volume, good_study, "another key")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert other.sop_instance_uid != one.sop_instance_uid


def _findings(volume: Volume) -> list[ReportedFinding]:
    ends = volume.grid.to_lps(np.array([[2.0, 62, 60], [2.0, 62, 64]]))
    points = (tuple(ends[0].tolist()), tuple(ends[1].tolist()))
    depth = MeasuredValue("depth", 2.1, "mm", points, volume.frame_of_reference_uid, volume.instances[2])
    area = MeasuredValue("area", 120.5, "mm2", source=volume.instances[2])
    return [
        ReportedFinding("L4-L5 left recess", "recess_stenosis", "L4-L5", "left", "severe", 0.83, (depth,)),
        ReportedFinding("L5-S1 canal", "canal_stenosis", "L5-S1", None, "normal_mild", 0.1, (area,)),
        ReportedFinding("L4-L5 herniation", "herniation", "L4-L5", "left", "moderate", 0.6, (), (volume.instances[2],)),
    ]


def test_structured_report_holds_values_places_and_sides(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    seg = write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key")
    written = write_sr(tmp_path / "sr.dcm", _findings(volume), [volume], good_study, "key", segmentations=[seg.path])
    _validated(written)
    text = str(dcmread(written.path))
    for expected in ("2.1", "120.5", "Severe", "L4/L5 disc", "Left", "POLYLINE", volume.instances[2].sop_instance_uid):
        assert expected in text
    assert seg.sop_instance_uid in text


def test_structured_report_belongs_to_the_patients_study(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    dataset = dcmread(write_sr(tmp_path / "sr.dcm", _findings(volume), [volume], good_study, "key").path)
    assert dataset.StudyInstanceUID == good_study.study_instance_uid
    assert dataset.PatientID == good_study.patient.patient_id
    assert dataset.PatientName == good_study.patient.patient_name
    assert dataset.AccessionNumber == good_study.patient.accession_number


def test_repeated_sop_uids_cannot_be_referred_to(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    repeated = replace(good_study, warnings=(notice("SOP_UID_REPEATED"),))
    with pytest.raises(SourceNotReferable, match="original UIDs"):
        write_seg(tmp_path / "seg.dcm", labels, segments, volume, repeated, "key")
    assert list(tmp_path.iterdir()) == []


def test_invalid_uids_cannot_be_referred_to(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    with pytest.raises(SourceNotReferable, match="not valid"):
        write_sr(
            tmp_path / "sr.dcm", _findings(volume), [volume], replace(good_study, study_instance_uid="100206"), "k"
        )


def test_key_image_and_report_are_valid_objects(good_study: Study, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    image = write_capture(tmp_path / "sc.dcm", picture, good_study, "key", 1, "L4-L5")
    assert np.array_equal(dcmread(image.path).pixel_array, picture)
    document = write_encapsulated_pdf(tmp_path / "pdf.dcm", b"%PDF-1.7\n%%EOF", good_study, "key")
    assert dcmread(document.path).EncapsulatedDocument.startswith(b"%PDF-1.7")
    _validated(image)
    _validated(document)
