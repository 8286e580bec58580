"""What goes out: label maps, measurements, pictures and the report as DICOM that an archive takes and a validator accepts."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from configs.loader import anatomy
from dicom_io.captures import write_capture, write_encapsulated_pdf
from dicom_io.codes import notice
from dicom_io.derived import Written
from dicom_io.errors import ReadBackError, SourceNotReferable
from dicom_io.geometry import Volume
from dicom_io.ingest import read_study
from dicom_io.read_back import check_report, check_segmentation, measurement_groups, segment_centroids, segment_masks
from dicom_io.seg import IntArray, Segment, WrittenSegmentation, segments_by_level, write_seg
from dicom_io.sr import MeasuredValue, ReportedFinding, write_sr
from dicom_io.study import Study
from tests.corpus.geometry import enhanced
from tests.corpus.small_study import changed
from tests.dicom_io.conftest import Writer


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
    masks = segment_masks(dataset, volume)
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
    for segment, mask in zip(segments, segment_masks(dcmread(written.path), volume), strict=True):
        x = volume.grid.to_lps(np.argwhere(mask).astype(float))[:, 0].mean()
        if segment.laterality:
            assert (x > 0) == (segment.laterality == "left")


def _broken(dataset: Dataset, how: str) -> None:
    """Change an encoded SEG as a fault of a writer would."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if how == "columns negated":
        group = shared.PlaneOrientationSequence[0]
        turn = list(group.ImageOrientationPatient)
        group.ImageOrientationPatient = [-value for value in turn[:3]] + turn[3:]
    elif how == "one pixel to the left":
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0].ImagePositionPatient
            place[0] += float(shared.PixelMeasuresSequence[0].PixelSpacing[1])
    elif how == "one bit":
        dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]
    elif how == "frames of two segments exchanged":
        groups = dataset.PerFrameFunctionalGroupsSequence
        one, other = (groups[at].SegmentIdentificationSequence[0] for at in (0, -1))
        one.ReferencedSegmentNumber, other.ReferencedSegmentNumber = (
            other.ReferencedSegmentNumber,
            one.ReferencedSegmentNumber,
        )


@pytest.mark.parametrize(
    "how", ["columns negated", "one pixel to the left", "one bit", "frames of two segments exchanged"]
)
def test_segmentation_that_differs_from_the_label_map_would_not_be_kept(
    good_study: Study, tmp_path: Path, how: str
) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    dataset = dcmread(write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key").path)
    values = [segment.value for segment in segments]
    check_segmentation(dataset, volume, labels, values)
    _broken(dataset, how)
    with pytest.raises(ReadBackError):
        check_segmentation(dataset, volume, labels, values)


def test_nothing_is_left_on_disk_when_the_encoded_segmentation_is_wrong(
    good_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    packed = hd.seg.Segmentation.save_as

    def faulty(dataset: Dataset, *arguments: object, **options: object) -> None:
        _broken(dataset, "columns negated")
        packed(dataset, *arguments, **options)

    monkeypatch.setattr(hd.seg.Segmentation, "save_as", faulty)
    with pytest.raises(ReadBackError):
        write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key")
    assert list(tmp_path.iterdir()) == []


def test_another_reader_finds_the_segments_at_the_same_places(good_study: Study, tmp_path: Path) -> None:
    """highdicom places the frames by itself: every voxel of every segment at the LPS place that the label map gives it."""
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    written = write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key")
    read = hd.seg.segread(written.path)
    middles = segment_centroids(dcmread(written.path))
    for number, segment in enumerate(segments, start=1):
        seen = read.get_volume(segment_numbers=[number], combine_segments=True)
        voxels = np.argwhere(np.asarray(seen.array) == number)
        theirs = seen.map_indices_to_reference(voxels)
        ours = volume.grid.to_lps(np.argwhere(labels == segment.value).astype(float))
        assert len(theirs) == len(ours)
        assert np.allclose(_in_order(theirs), _in_order(ours), atol=0.01)
        assert np.linalg.norm(theirs.mean(axis=0) - middles[number]) < min(volume.grid.spacing[1:])


def _in_order(points: np.ndarray) -> np.ndarray:
    rounded = np.round(points, 2)
    return points[np.lexsort(rounded.T)]


def test_sagittal_segmentation_is_on_the_sagittal_grid(good_study: Study, tmp_path: Path) -> None:
    volume = good_study.with_role("sagittal_t2")[0].volume
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    labels[5:9, 30:40, 20:35] = anatomy().sagittal.value("vertebra")
    labels, segments = segments_by_level(labels, anatomy().sagittal, [None] * volume.grid.shape[0])
    written = write_seg(tmp_path / "seg.dcm", labels, segments, volume, good_study, "key", number=2)
    assert np.array_equal(segment_masks(dcmread(written.path), volume)[0], labels == 1)
    _validated(written)


def test_the_same_result_gives_the_same_object_and_another_result_another(good_study: Study, tmp_path: Path) -> None:
    volume = _axial(good_study)
    labels, segments = _labels(volume)
    one = write_seg(tmp_path / "a.dcm", labels, segments, volume, good_study, "key")
    two = write_seg(tmp_path / "b.dcm", labels, segments, volume, good_study, "key")
    other = write_seg(tmp_path / "c.dcm", labels, segments, volume, good_study, "another key")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert other.sop_instance_uid != one.sop_instance_uid


def _findings(volume: Volume, seg: WrittenSegmentation | None = None) -> list[ReportedFinding]:
    ends = volume.grid.to_lps(np.array([[2.0, 62, 60], [2.0, 62, 64]]))
    points = (tuple(ends[0].tolist()), tuple(ends[1].tolist()))
    image, frame = volume.instances[2], volume.frame_of_reference_uid
    depth = MeasuredValue("depth", 2.1, "mm", points, frame, image)
    area = MeasuredValue("area", 120.5, "mm2", source=image)
    names = [("recess_left", "L4-L5"), ("thecal_sac", "L5-S1"), ("disc", "L4-L5")]
    shown = [seg.reference(*name) if seg else None for name in names]
    return [
        ReportedFinding(
            *("L4-L5 left recess", "recess_stenosis", "L4-L5", "left", "severe", 0.83, (depth,), (image,)),
            segment=shown[0],
            place=(points[0], frame),
        ),
        ReportedFinding(
            *("L5-S1 canal", "canal_stenosis", "L5-S1", None, "normal_mild", 0.1, (area,)), segment=shown[1]
        ),
        ReportedFinding(
            *("L4-L5 herniation", "herniation", "L4-L5", "left", "moderate", 0.6, (), (image,)), segment=shown[2]
        ),
    ]


def _report(study: Study, folder: Path) -> tuple[Written, WrittenSegmentation, list[ReportedFinding]]:
    volume = _axial(study)
    labels, segments = _labels(volume)
    seg = write_seg(folder / "seg.dcm", labels, segments, volume, study, "key")
    findings = _findings(volume, seg)
    return write_sr(folder / "sr.dcm", findings, [volume], study, "key", segmentations=[seg]), seg, findings


def test_structured_report_holds_values_places_and_sides(good_study: Study, tmp_path: Path) -> None:
    written, _, findings = _report(good_study, tmp_path)
    _validated(written)
    recess, canal, herniation = measurement_groups(dcmread(written.path))
    assert (recess.identifier, recess.laterality, recess.severity) == ("L4-L5 left recess", "left", "24484000")
    assert (recess.site, canal.site) == ("84020006", "715056000")
    (depth,), (area,) = recess.values, canal.values
    image = _axial(good_study).instances[2].sop_instance_uid
    assert (depth.value, depth.unit, depth.image) == (2.1, "mm", (image, None))
    assert (area.value, area.unit, area.image) == (120.5, "mm2", (image, None))
    assert np.allclose(depth.points, findings[0].measurements[0].points_lps, atol=0.01)
    assert recess.probability is not None
    assert recess.probability.value == 0.83
    assert np.allclose(recess.probability.points, [findings[0].place[0]], atol=0.01)  # type: ignore[index]
    assert herniation.images == {image}
    assert canal.laterality is None


def test_every_finding_is_tied_to_its_segment(good_study: Study, tmp_path: Path) -> None:
    written, seg, _ = _report(good_study, tmp_path)
    described = dcmread(seg.path).SegmentSequence
    named = [group.segment for group in measurement_groups(dcmread(written.path))]
    assert all(segment is not None and segment[0] == seg.sop_instance_uid for segment in named)
    labels = [described[segment[1] - 1].SegmentLabel for segment in named if segment is not None]
    assert labels == ["L4-L5 recess left", "L5-S1 thecal sac", "L4-L5 disc"]


def _other_side(dataset: Dataset) -> None:
    (laterality,) = [item for item in _items(dataset) if _is(item, "272741003")][:1]
    laterality.ConceptCodeSequence[0].CodeValue = "24028007"


def _other_level(dataset: Dataset) -> None:
    next(item for item in _items(dataset) if _is(item, "363698007")).ConceptCodeSequence[0].CodeValue = "715056000"


def _other_value(dataset: Dataset) -> None:
    next(item for item in _items(dataset) if item.ValueType == "NUM" and _is(item, "131197000")).MeasuredValueSequence[
        0
    ].NumericValue = "2.2"


def _mirrored_point(dataset: Dataset) -> None:
    line = next(item for item in _items(dataset) if item.ValueType == "SCOORD3D")
    line.GraphicData = [-line.GraphicData[0], *line.GraphicData[1:]]


def _other_segment(dataset: Dataset) -> None:
    next(item for item in _items(dataset) if _is(item, "121191")).ReferencedSOPSequence[0].ReferencedSegmentNumber = 4


def _other_severity(dataset: Dataset) -> None:
    next(item for item in _items(dataset) if _is(item, "246112005")).ConceptCodeSequence[0].CodeValue = "6736007"


def _items(item: Dataset) -> list[Dataset]:
    children = list(item.get("ContentSequence", []))
    return children + [below for child in children for below in _items(child)]


def _is(item: Dataset, code: str) -> bool:
    return "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == code


@pytest.mark.parametrize(
    "change", [_other_side, _other_level, _other_value, _mirrored_point, _other_segment, _other_severity]
)
def test_structured_report_that_says_anything_else_would_not_be_kept(
    good_study: Study, tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    written, _, findings = _report(good_study, tmp_path)
    dataset = dcmread(written.path)
    check_report(dataset, findings)
    change(dataset)
    with pytest.raises(ReadBackError):
        check_report(dataset, findings)


def test_dcmtk_reads_the_structured_report(good_study: Study, tmp_path: Path) -> None:
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump (dcmtk) is not installed")
    written, _, _ = _report(good_study, tmp_path)
    result = subprocess.run(["dsrdump", str(written.path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    complaints = [line for line in result.stderr.splitlines() if line.startswith(("E:", "F:", "W:"))]
    assert [line for line in complaints if "VR checker does not support" not in line] == []  # it knows no UTF-8
    for said in ("Depth", "2.1", "Severe", "L4/L5 disc", "Left", "POLYLINE", "Referenced Segment"):
        assert said in result.stdout


def test_results_of_a_multi_frame_source_name_the_frames(tmp_path: Path, on_disk: Writer) -> None:
    study = read_study(on_disk([("axT2", enhanced(0, "axT2")), ("sagT2", enhanced(0, "sagT2"))]))
    volume = _axial(study)
    written, seg, _ = _report(study, tmp_path)
    _validated(written)
    _validated(seg)
    dataset = dcmread(seg.path)
    (series,) = dataset.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [
        volume.instances[0].sop_instance_uid
    ]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        index = round(float(volume.grid.to_index(place)[0]))
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedFrameNumber == volume.instances[index].frame
    (recess, *_) = measurement_groups(dcmread(written.path))
    assert recess.values[0].image == (volume.instances[2].sop_instance_uid, volume.instances[2].frame)


_NAMES = {
    "Müller^Jörg": "ISO_IR 192",
    "山田^太郎": "ISO_IR 192",
    "Владимиров^Пётр": "ISO_IR 144",
    "Wang^XiaoDong=王^小东": "GB18030",
}


@pytest.mark.parametrize("name", _NAMES)
def test_patient_and_study_are_copied_in_any_script(tmp_path: Path, on_disk: Writer, name: str) -> None:
    def named(_: str, dataset: Dataset) -> Dataset:
        dataset.SpecificCharacterSet = _NAMES[name]
        dataset.PatientName, dataset.IssuerOfPatientID = name, "Klinik"
        dataset.ReferringPhysicianName = name
        return dataset

    study = read_study(on_disk(changed(0, named)))
    written, seg, _ = _report(study, tmp_path)
    picture = np.zeros((40, 50, 3), dtype=np.uint8)
    image = write_capture(tmp_path / "sc.dcm", picture, study, "key", 1, "L4-L5")
    document = write_encapsulated_pdf(tmp_path / "pdf.dcm", b"%PDF-1.7\n%%EOF", study, "key")
    for one in (written, seg, image, document):
        _validated(one)
        dataset = dcmread(one.path)
        assert dataset.PatientName == name
        assert dataset.ReferringPhysicianName == name
        copied = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID")
        copied += ("StudyDate", "StudyTime", "AccessionNumber")
        expected = ("TEST0000", "Klinik", "19700101", "F", study.study_instance_uid, "1", "20240102", "101112", "A0")
        assert tuple(str(dataset.get(keyword)) for keyword in copied) == expected


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
    source = _axial(good_study).instances[2]
    image = write_capture(tmp_path / "sc.dcm", picture, good_study, "key", 1, "L4-L5", source)
    assert np.array_equal(dcmread(image.path).pixel_array, picture)
    assert dcmread(image.path).SourceImageSequence[0].ReferencedSOPInstanceUID == source.sop_instance_uid
    document = write_encapsulated_pdf(tmp_path / "pdf.dcm", b"%PDF-1.7\n%%EOF", good_study, "key")
    assert dcmread(document.path).EncapsulatedDocument.startswith(b"%PDF-1.7")
    _validated(image)
    _validated(document)


def test_every_object_written_twice_has_the_same_bytes(good_study: Study, tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, bytes]:
        folder.mkdir()
        _report(good_study, folder)
        write_capture(folder / "sc.dcm", np.zeros((40, 50, 3), dtype=np.uint8), good_study, "key", 1)
        write_encapsulated_pdf(folder / "pdf.dcm", b"%PDF-1.7\n%%EOF", good_study, "key")
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = write(tmp_path / "first")
    time.sleep(1.1)  # times in the headers have whole seconds
    assert write(tmp_path / "second") == first
