"""Series become stacks by position and direction alone, and nothing is measured across a gap."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_io import read_study
from dicom_io.errors import NoUsableSeries
from dicom_io.geometry import Volume
from dicom_io.study import Study
from tests.corpus.small_study import BODY_STEP_MM, TILTS_DEG, VESSEL_LPS, changed, datasets, encode, good
from tests.dicom_io.conftest import Writer


def _codes(study: Study) -> set[str]:
    left = {notice.code for notice in (*study.excluded, *study.warnings)}
    return left | {notice.code for stack in study.stacks for notice in stack.warnings}


def _at(volume: Volume, x: float, y: float) -> float:
    """Value on the vertical line (x, y) mm of the patient where it meets the middle of the stack."""
    heights = np.linspace(-100, 100, 801)
    index = volume.grid.to_index(np.stack([np.full(801, x), np.full(801, y), heights], axis=1))
    middle = (np.array(volume.grid.shape) - 1) / 2
    nearest = np.round(index[np.argmin((np.abs(index - middle) / middle).max(axis=1))]).astype(int)
    return float(volume.array[tuple(nearest)])


def test_good_study_gives_three_roles_and_no_remark(good_study: Study) -> None:
    assert {role: len(stacks) for role, stacks in good_study.roles.items()} == {
        "axial_t2": 3,
        "sagittal_t1": 1,
        "sagittal_t2": 1,
    }
    assert _codes(good_study) == set()
    assert good_study.objects == 45


@pytest.mark.parametrize("seed", [0, 1])
def test_file_order_and_instance_numbers_change_nothing(on_disk: Writer, seed: int) -> None:
    straight = read_study(on_disk(good(seed)))

    def scramble(name: str, dataset: Dataset) -> Dataset:
        dataset.InstanceNumber = (int(dataset.InstanceNumber) * 7) % 5
        dataset.SliceLocation = "0"
        return dataset

    scrambled = read_study(on_disk(list(reversed(changed(seed, scramble)))))
    for one, other in zip(straight.stacks, scrambled.stacks, strict=True):
        assert one.role == other.role
        assert np.array_equal(one.volume.array, other.volume.array)
        assert np.allclose(one.volume.grid.affine, other.volume.grid.affine, atol=1e-6)


def test_vessel_on_the_patients_left_is_on_the_left_in_every_stack(good_study: Study) -> None:
    for stack in good_study.with_role("sagittal_t2", "axial_t2"):
        left = _at(stack.volume, VESSEL_LPS[0], VESSEL_LPS[1])
        right = _at(stack.volume, -VESSEL_LPS[0], VESSEL_LPS[1])
        assert left < 100 < right


def test_tilted_blocks_of_one_series_are_separate_stacks_with_their_own_tilt(good_study: Study) -> None:
    tilts = [
        float(np.degrees(np.arccos(abs(stack.volume.grid.normal[2])))) for stack in good_study.with_role("axial_t2")
    ]
    assert sorted(tilts) == pytest.approx(sorted(TILTS_DEG), abs=0.01)


def test_slices_from_right_to_left_and_left_to_right_give_the_same_volume(on_disk: Writer) -> None:
    files = changed(0, lambda name, dataset: dataset if name.startswith("sag") else None)
    one, other = read_study(on_disk(files)), read_study(on_disk(files[::-1]))
    assert np.array_equal(one.stacks[0].volume.array, other.stacks[0].volume.array)


def test_a_missing_slice_splits_the_stack_and_says_so(on_disk: Writer) -> None:
    study = read_study(on_disk(changed(0, lambda name, d: None if name == "sagT2/006" else d)))
    parts = study.with_role("sagittal_t2")
    assert sorted(part.volume.grid.shape[0] for part in parts) == [6, 8]
    assert all("SLICE_MISSING" in {notice.code for notice in part.warnings} for part in parts)
    assert all(part.volume.grid.spacing[0] == pytest.approx(4.0) for part in parts)


def test_missing_second_slice_leaves_no_step_of_twice_the_width(on_disk: Writer) -> None:
    study = read_study(on_disk(changed(0, lambda name, d: None if name == "sagT2/001" else d)))
    (part,) = study.with_role("sagittal_t2")
    assert part.volume.grid.shape[0] == 13
    assert part.volume.grid.spacing[0] == pytest.approx(4.0)
    assert {"SLICE_MISSING", "TOO_FEW_SLICES"} <= _codes(study)


def test_two_images_at_one_position_are_both_left_out(on_disk: Writer) -> None:
    files = good(0)
    extra = copy.deepcopy(dict(datasets(0))["sagT2/007"])
    extra.SOPInstanceUID += ".77"
    extra.PixelData = bytes(len(extra.PixelData) - 2) + b"\x01\x00"
    study = read_study(on_disk([*files, ("double", encode(extra))]))
    assert "POSITION_DUPLICATE" in _codes(study)
    assert sorted(part.volume.grid.shape[0] for part in study.with_role("sagittal_t2")) == [7, 7]


def test_the_same_file_twice_is_one_object(on_disk: Writer, good_study: Study) -> None:
    files = good(0)
    study = read_study(on_disk([*files, *files[:9]]))
    assert study.manifest_sha256 == good_study.manifest_sha256
    assert study.objects == 45
    assert _codes(study) == set()


def test_localizer_in_the_folder_does_not_swap_sides(on_disk: Writer, good_study: Study) -> None:
    localizer = []
    for number, (name, dataset) in enumerate(datasets(0)):
        if name in ("sagT1/002", "sagT1/007", "axT2/001", "axT2/012"):
            dataset.SeriesInstanceUID += ".5"
            dataset.SOPInstanceUID += ".5"
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            localizer.append((f"loc{number}", encode(dataset)))
    study = read_study(on_disk([*localizer, *good(0)]))
    assert {"localizer"} == {stack.role for stack in study.stacks if stack.series_instance_uid.endswith(".5")}
    for role in ("sagittal_t1", "sagittal_t2", "axial_t2"):
        for with_it, without in zip(study.roles[role], good_study.roles[role], strict=True):
            assert np.array_equal(with_it.volume.array, without.volume.array)


@pytest.mark.parametrize("spacing", [None, "imager only"])
def test_without_pixel_spacing_there_are_no_millimetres(on_disk: Writer, spacing: str | None) -> None:
    def drop(name: str, dataset: Dataset) -> Dataset:
        if name.startswith("axT2"):
            del dataset.PixelSpacing
            if spacing:
                dataset.ImagerPixelSpacing = [1.5, 1.5]
        return dataset

    study = read_study(on_disk(changed(0, drop)))
    assert "axial_t2" not in study.roles
    assert "NO_PIXEL_SPACING" in _codes(study)
    assert "sagittal_t2" in study.roles


@pytest.mark.parametrize(
    ("keyword", "text"),
    [("PixelSpacing", "0,8\\0,8"), ("PixelSpacing", "nan\\1.5"), ("ImagePositionPatient", "1\\2\\3e999")],
)
def test_a_number_that_is_none_is_never_guessed(on_disk: Writer, keyword: str, text: str) -> None:
    files = []
    for name, dataset in datasets(0):
        if name.startswith("axT2"):
            plain = "\\".join(str(part) for part in dataset[keyword].value)
            padded = plain + " " * (len(plain) % 2)
            data = encode(dataset)
            assert data.count(padded.encode()) >= 1
            wrong = text.ljust(len(padded))[: len(padded)] if len(text) <= len(padded) else text
            data = _with_text(data, keyword, padded, wrong)
            files.append((name, data))
        else:
            files.append((name, encode(dataset)))
    study = read_study(on_disk(files))
    assert "NUMBER_INVALID" in _codes(study)
    assert "axial_t2" not in study.roles


def _with_text(data: bytes, keyword: str, before: str, after: str) -> bytes:
    """The file with the decimal string of one attribute replaced, its length put right."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None
    after += " " * (len(after) % 2)
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + b"DS"
    old = head + len(before).to_bytes(2, "little") + before.encode()
    assert data.count(old) == 1
    return data.replace(old, head + len(after).to_bytes(2, "little") + after.encode())


def test_parallel_stacks_with_a_wide_gap_stay_apart(on_disk: Writer) -> None:
    def block(name: str, dataset: Dataset) -> Dataset | None:
        number = int(name[-3:])
        return None if name.startswith("sagT2") and number in (5, 6, 7, 8, 9, 10) else dataset

    study = read_study(on_disk(changed(0, block)))
    assert sorted(part.volume.grid.shape[0] for part in study.with_role("sagittal_t2")) == [4, 5]
    assert "SLICE_MISSING" not in _codes(study)


def test_axial_and_sagittal_slices_under_one_series_uid_are_told_apart(on_disk: Writer) -> None:
    def merge(name: str, dataset: Dataset) -> Dataset:
        dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.10.1999.1.1"
        return dataset

    study = read_study(on_disk(changed(0, merge)))
    planes = sorted(stack.volume.plane for stack in study.stacks)
    assert planes == ["axial"] * 3 + ["sagittal"] * 2
    assert {role for role in study.roles if role != "other"} == {"sagittal_t1", "sagittal_t2", "axial_t2"}


def test_spacing_between_slices_that_lies_is_outvoted_by_positions(on_disk: Writer) -> None:
    def lie(name: str, dataset: Dataset) -> Dataset:
        dataset.SpacingBetweenSlices = 5.0
        return dataset

    study = read_study(on_disk(changed(0, lie)))
    assert all(stack.volume.grid.spacing[0] == pytest.approx(4.0, abs=1e-6) for stack in study.stacks)
    assert "SPACING_TAG" in _codes(study)


def test_sheared_series_keeps_every_slice_where_it_is(on_disk: Writer) -> None:
    def drift(name: str, dataset: Dataset) -> Dataset:
        if name.startswith("sagT2"):
            position = [float(value) for value in dataset.ImagePositionPatient]
            position[1] += 1.5 * int(name[-3:])
            dataset.ImagePositionPatient = position
        return dataset

    study = read_study(on_disk(changed(0, drift)))
    (stack,) = study.with_role("sagittal_t2")
    assert "SHEARED" in _codes(study)
    last = stack.volume.grid.to_lps(np.array([14.0, 0.0, 0.0]))
    assert last == pytest.approx([28.0, -95.0 + 1.5 * 14, 110.0], abs=1e-6)


def test_orientation_that_is_not_perpendicular_is_refused(on_disk: Writer) -> None:
    def skew(name: str, dataset: Dataset) -> Dataset:
        if name.startswith("axT2"):
            dataset.ImageOrientationPatient = [1, 0, 0, 0.2, 0.98, 0]
        return dataset

    study = read_study(on_disk(changed(0, skew)))
    assert "IOP_INVALID" in _codes(study)
    assert "axial_t2" not in study.roles


def test_rounded_orientation_is_accepted(on_disk: Writer) -> None:
    def rounded(name: str, dataset: Dataset) -> Dataset:
        dataset.ImageOrientationPatient = [round(float(v), 4) for v in dataset.ImageOrientationPatient]
        return dataset

    study = read_study(on_disk(changed(0, rounded)))
    assert len(study.with_role("axial_t2")) == 3


def test_no_series_left_names_the_reason(on_disk: Writer) -> None:
    def drop(name: str, dataset: Dataset) -> Dataset:
        del dataset.ImagePositionPatient
        return dataset

    with pytest.raises(NoUsableSeries, match="NO_POSITION") as caught:
        read_study(on_disk(changed(0, drop)))
    assert caught.value.code == "NO_USABLE_SERIES"


def test_neighbouring_discs_stand_their_known_distance_apart(good_study: Study) -> None:
    (stack,) = good_study.with_role("sagittal_t2")
    grid = stack.volume.grid
    lower, upper = grid.to_index(np.array([[0, -22.0, 0.0], [0, -22.0, BODY_STEP_MM]]))
    assert abs(lower[1] - upper[1]) * grid.spacing[1] == pytest.approx(BODY_STEP_MM)
