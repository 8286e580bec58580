"""Single objects: what is whole is read the same in every encoding, what is not gets a declared outcome."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from dicom_io import read_outcomes, read_studies, read_study
from dicom_io.errors import NoUsableSeries, SeveralStudies, UnreadableInput
from dicom_io.study import Study
from tests.corpus.small_study import File, changed, datasets, encode, good
from tests.dicom_io.conftest import Writer


def _codes(study: Study) -> set[str]:
    left = {notice.code for notice in (*study.excluded, *study.warnings)}
    return left | {notice.code for stack in study.stacks for notice in stack.warnings}


def _same_pixels(one: Study, other: Study) -> bool:
    pairs = zip(one.stacks, other.stacks, strict=True)
    return all(np.array_equal(a.volume.array, b.volume.array) for a, b in pairs)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_uncompressed_encoding_gives_the_same_pixels(on_disk: Writer, good_study: Study, syntax: str) -> None:
    def big(dataset: Dataset) -> Dataset:
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        return dataset

    study = read_study(on_disk([(name, encode(big(dataset), syntax)) for name, dataset in datasets(0)]))
    assert _same_pixels(study, good_study)


def test_run_length_encoding_gives_the_same_pixels(on_disk: Writer, good_study: Study) -> None:
    files = []
    for name, dataset in datasets(0):
        plain = copy.deepcopy(dataset)
        plain.file_meta = None
        packed = _compressed(plain)
        files.append((name, packed))
    assert _same_pixels(read_study(on_disk(files)), good_study)


def _compressed(dataset: Dataset) -> bytes:
    from io import BytesIO

    from pydicom import dcmread

    reread = dcmread(BytesIO(encode(dataset)))
    reread.compress(RLELossless, generate_instance_uid=False)
    buffer = BytesIO()
    reread.save_as(buffer)
    return buffer.getvalue()


def test_monochrome1_is_inverted(on_disk: Writer, good_study: Study) -> None:
    def invert(name: str, dataset: Dataset) -> Dataset:
        pixels = np.frombuffer(dataset.PixelData, "<u2")
        dataset.PixelData = (4095 - pixels).astype("<u2").tobytes()
        dataset.PhotometricInterpretation = "MONOCHROME1"
        return dataset

    study = read_study(on_disk(changed(0, invert)))
    for stack, plain in zip(study.stacks, good_study.stacks, strict=True):
        offset = plain.volume.array - stack.volume.array
        assert np.ptp(offset) == 0


def test_rescale_slope_and_intercept_are_applied_slice_by_slice(on_disk: Writer, good_study: Study) -> None:
    def scale(name: str, dataset: Dataset) -> Dataset:
        factor = 2 if int(name[-3:]) % 2 else 1
        pixels = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32)
        dataset.PixelData = ((pixels + 10 * factor) // factor * 1).astype("<i2").tobytes()
        dataset.PixelRepresentation = 1
        dataset.BitsStored, dataset.HighBit = 16, 15
        dataset.RescaleSlope, dataset.RescaleIntercept = factor, -10 * factor
        return dataset

    study = read_study(on_disk(changed(0, scale)))
    for stack, plain in zip(study.stacks, good_study.stacks, strict=True):
        assert np.abs(stack.volume.array - plain.volume.array).max() <= 12  # integer halves of the stored values


def test_overlay_bits_above_the_stored_ones_do_not_count(on_disk: Writer, good_study: Study) -> None:
    def overlay(name: str, dataset: Dataset) -> Dataset:
        pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
        pixels[::7] |= 0x8000
        dataset.PixelData = pixels.tobytes()
        return dataset

    assert _same_pixels(read_study(on_disk(changed(0, overlay))), good_study)


def test_enhanced_multi_frame_gives_the_volume_of_its_single_frame_twin(on_disk: Writer, good_study: Study) -> None:
    study = read_study(on_disk([("enhanced", _enhanced("sagT2")), *_without(good(0), "sagT2")]))
    (multi,), (single,) = study.with_role("sagittal_t2"), good_study.with_role("sagittal_t2")
    assert np.array_equal(multi.volume.array, single.volume.array)
    assert np.allclose(multi.volume.grid.affine, single.volume.grid.affine, atol=1e-6)
    assert [instance.frame for instance in multi.volume.instances] == list(range(1, 16))
    assert multi.echo_time_ms == 105.0


def _without(files: list[File], series: str) -> list[File]:
    return [file for file in files if not file[0].startswith(series)]


def _enhanced(series: str) -> bytes:
    """A series of the good study as one multi-frame object (PS3.3 A.36.2), frame by frame in the order of the files."""
    slices = [dataset for name, dataset in datasets(0) if name.startswith(series)]
    enhanced = copy.deepcopy(slices[0])
    enhanced.SOPClassUID = EnhancedMRImageStorage
    enhanced.NumberOfFrames = len(slices)
    enhanced.PixelData = b"".join(dataset.PixelData for dataset in slices)
    shared, measures, echo, timing = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, slices[0].SliceThickness
    echo.EffectiveEchoTime, timing.RepetitionTime = 105.0, 3500.0
    shared.PixelMeasuresSequence, shared.MREchoSequence = [measures], [echo]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    enhanced.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for dataset in slices:
        group, place, turn = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = dataset.ImagePositionPatient
        turn.ImageOrientationPatient = dataset.ImageOrientationPatient
        group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [turn]
        groups.append(group)
    enhanced.PerFrameFunctionalGroupsSequence = groups
    for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "EchoTime", "RepetitionTime"):
        delattr(enhanced, keyword)
    return encode(enhanced)


@pytest.mark.parametrize("slope", ["0", "1e30"])
def test_absurd_rescaling_is_refused(on_disk: Writer, slope: str) -> None:
    def absurd(name: str, dataset: Dataset) -> Dataset:
        if name.startswith("axT2"):
            dataset.RescaleSlope, dataset.RescaleIntercept = slope, "0"
        return dataset

    study = read_study(on_disk(changed(0, absurd)))
    assert "RESCALE_INVALID" in _codes(study)
    assert "axial_t2" not in study.roles


def test_half_the_pixels_of_a_slice_never_become_an_image(on_disk: Writer) -> None:
    def cut(name: str, dataset: Dataset) -> Dataset:
        if name == "sagT2/007":
            dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2 // 2 * 2]
        return dataset

    study = read_study(on_disk(changed(0, cut)))
    assert "PIXEL_LENGTH" in _codes(study)
    assert sorted(part.volume.grid.shape[0] for part in study.with_role("sagittal_t2")) == [7, 7]


@pytest.mark.parametrize("seed", range(2))
def test_files_cut_anywhere_are_told_and_the_rest_is_read(on_disk: Writer, seed: int) -> None:
    files = good(0)
    rng = np.random.default_rng(seed)
    for at in range(15, 30):  # all of the sagittal T2
        name, data = files[at]
        cut = int(rng.integers(1, len(data) if at % 2 else 1500))
        files[at] = (name, data[:cut])
    study = read_study(on_disk(files))
    told = [notice for notice in study.excluded if notice.code in ("TRUNCATED", "PIXEL_LENGTH", "NOT_DICOM")]
    assert len({notice.path for notice in told}) >= 1
    assert "sagittal_t2" not in study.roles
    assert study.objects == 30
    assert len(study.with_role("axial_t2")) == 3


def test_bytes_after_the_end_are_not_ignored(on_disk: Writer) -> None:
    files = good(0)
    study = read_study(on_disk([*files[:-1], (files[-1][0], files[-1][1] + b"\xff" * 1000)]))
    assert "TRAILING_BYTES" in _codes(study)


def test_blank_slice_leaves_a_gap(on_disk: Writer) -> None:
    def blank(name: str, dataset: Dataset) -> Dataset:
        if name == "sagT2/005":
            dataset.PixelData = bytes(len(dataset.PixelData))
        return dataset

    assert {"BLANK", "SLICE_MISSING"} <= _codes(read_study(on_disk(changed(0, blank))))


def test_two_patients_under_one_study_uid_are_not_read(on_disk: Writer) -> None:
    def other(name: str, dataset: Dataset) -> Dataset:
        if name == "axT2/003":
            dataset.PatientID = "SOMEONE"
        return dataset

    with pytest.raises(NoUsableSeries) as caught:
        read_study(on_disk(changed(0, other)))
    assert caught.value.code == "PATIENT_CONFLICT"
    assert "SOMEONE" not in str(caught.value)


def test_spelling_of_the_name_is_a_warning_and_not_a_conflict(on_disk: Writer) -> None:
    def spelt(name: str, dataset: Dataset) -> Dataset:
        if name == "axT2/003":
            dataset.PatientName = "PHANTOM^0 "
        return dataset

    assert "NAME_VARIANT" in _codes(read_study(on_disk(changed(0, spelt))))


def test_two_studies_in_one_folder_are_read_apart(on_disk: Writer, good_study: Study) -> None:
    folder = on_disk([*good(0), *good(1)])
    with pytest.raises(SeveralStudies):
        read_study(folder)
    first, second = read_studies(folder)
    assert first.patient.patient_id != second.patient.patient_id
    assert first.manifest_sha256 == good_study.manifest_sha256
    assert _same_pixels(first, good_study)


def test_an_unusable_study_does_not_hide_the_good_one(on_disk: Writer) -> None:
    bad = [(name, encode(_computed_tomography(dataset))) for name, dataset in datasets(1)[:5]]
    outcomes = read_outcomes(on_disk([*good(0), *bad]))
    assert [type(outcome) for outcome in outcomes] == [Study, NoUsableSeries]


def _computed_tomography(dataset: Dataset) -> Dataset:
    dataset.Modality = "CT"
    return dataset


def test_a_ct_is_refused_with_its_reason(on_disk: Writer) -> None:
    files = [(name, encode(_computed_tomography(dataset))) for name, dataset in datasets(0)]
    with pytest.raises(NoUsableSeries, match="MODALITY") as caught:
        read_study(on_disk(files))
    assert caught.value.code == "NO_MR"


def test_sop_uids_that_repeat_from_series_to_series_are_read_with_a_warning(on_disk: Writer) -> None:
    def renumber(name: str, dataset: Dataset) -> Dataset:
        dataset.SOPInstanceUID = f"{dataset.StudyInstanceUID}.1.{int(name[-3:]) + 1}"
        return dataset

    study = read_study(on_disk(changed(0, renumber)))
    assert "SOP_UID_REPEATED" in _codes(study)
    assert study.objects == 45
    assert len(study.with_role("axial_t2")) == 3


def test_one_sop_uid_for_all_images_is_an_incomplete_study(on_disk: Writer) -> None:
    def same(name: str, dataset: Dataset) -> Dataset:
        dataset.SOPInstanceUID = f"{dataset.StudyInstanceUID}.7"
        return dataset

    with pytest.raises(NoUsableSeries) as caught:
        read_study(on_disk(changed(0, same)))
    assert caught.value.code == "INCOMPLETE"


def test_absent_modality_is_a_warning(on_disk: Writer) -> None:
    def drop(name: str, dataset: Dataset) -> Dataset:
        del dataset.Modality
        return dataset

    study = read_study(on_disk(changed(0, drop)))
    assert "MODALITY_ABSENT" in _codes(study)
    assert len(study.roles) == 3


def test_the_pseudonym_tells_nothing_of_the_patient(good_study: Study) -> None:
    assert good_study.patient.patient_id not in good_study.patient.pseudonym
    assert "Phantom" not in good_study.patient.pseudonym


@pytest.mark.parametrize(
    "content", [b"", b"not a DICOM file at all", b"\x89PNG\r\n\x1a\n" + bytes(200), bytes(128) + b"DICM"]
)
def test_no_readable_dicom_is_unreadable_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    with pytest.raises(UnreadableInput) as caught:
        read_study(path)
    assert "\n" not in str(caught.value)
    assert "x.dcm" in str(caught.value)


def test_an_empty_folder_and_a_missing_path_are_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UnreadableInput):
            read_study(path)


def test_a_zip_is_the_same_study_as_its_folder(tmp_path: Path, good_study: Study) -> None:
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in good(0):
            archive.writestr(name, data)
    study = read_study(path)
    assert study.manifest_sha256 == good_study.manifest_sha256
    assert _same_pixels(study, good_study)


@pytest.mark.parametrize("name", ["../out.dcm", "/etc/out.dcm", "C:\\out.dcm", "a/../../out.dcm"])
def test_a_zip_that_reaches_outside_is_refused_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / "in" / "evil.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.dcm", good(0)[0][1])
        archive.writestr(name, b"x")
    with pytest.raises(UnreadableInput) as caught:
        read_study(path)
    assert caught.value.code == "ARCHIVE_UNSAFE"
    assert {item.name for item in tmp_path.rglob("*")} == {"in", "evil.zip"}


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.dcm", bytes(64 << 20))
    with pytest.raises(UnreadableInput) as caught:
        read_study(path)
    assert caught.value.code == "ARCHIVE_LIMIT"


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.dcm", good(0)[0][1])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadableInput) as caught:
        read_study(path)
    assert caught.value.code == "ARCHIVE_INVALID"


def test_links_are_not_followed(tmp_path: Path, on_disk: Writer) -> None:
    folder = on_disk(good(0))
    outside = tmp_path / "outside.dcm"
    outside.write_bytes(good(1)[0][1])
    (folder / "link.dcm").symlink_to(outside)
    assert "NOT_REGULAR" in _codes(read_study(folder))
