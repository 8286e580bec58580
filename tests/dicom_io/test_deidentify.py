"""Exports without identity: nothing planted comes out, UIDs are new and fit together, places and pixels stay."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io import read_study
from dicom_io.deidentify import KeyTooShort, deidentify
from dicom_io.errors import NoUsableSeries
from dicom_io.study import Study
from tests.corpus.mutation import canaries, with_canaries
from tests.corpus.small_study import changed, datasets, encode, good
from tests.dicom_io.conftest import Writer

_KEY = bytes(range(32))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The good study with a token in every text field, exported."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for number, (_, dataset) in enumerate(datasets(0)):
        (source / f"SURNAME{number}.dcm").write_bytes(encode(with_canaries(dataset, canaries())))
    export = deidentify(source, target, _KEY, "trial")
    assert len(export.written) == 45
    assert export.left_out == ()
    return target


def test_no_planted_text_name_date_or_uid_comes_out(exported: Path) -> None:
    planted = [*canaries().values(), "SURNAME", "1.2.826.0.1.3680043.10.1999", "20240102", "19700101", "054Y"]
    for path in exported.iterdir():
        content = path.read_bytes() + path.name.encode()
        for text in planted:
            assert text.encode() not in content
            assert text.encode("utf-16-le") not in content


def test_places_pixels_and_roles_stay(exported: Path, good_study: Study) -> None:
    study = read_study(exported)
    assert sorted(study.roles) == sorted(good_study.roles)
    for role, stacks in good_study.roles.items():
        for one, other in zip(_sorted(stacks), _sorted(study.roles[role]), strict=True):
            assert np.array_equal(one, other)


def _sorted(stacks: object) -> list[np.ndarray]:
    return sorted((stack.volume.array for stack in stacks), key=lambda array: float(array.sum()))  # type: ignore[attr-defined]


def test_series_and_frames_of_reference_stay_together(exported: Path) -> None:
    headers = [dcmread(path, stop_before_pixels=True) for path in exported.iterdir()]
    assert len({header.SOPInstanceUID for header in headers}) == 45
    assert len({header.SeriesInstanceUID for header in headers}) == 3
    assert len({header.FrameOfReferenceUID for header in headers}) == 1
    assert {header.PatientAge for header in headers} == {"050Y"}
    assert {header.PatientSex for header in headers} == {"F"}
    methods = {item.CodeValue for item in headers[0].DeidentificationMethodCodeSequence}
    assert methods == {"113100", "113101", "113103", "113105", "113107", "113108"}
    assert not any(element.tag.is_private for header in headers for element in header)


def test_one_key_gives_the_same_uids_and_another_project_others(on_disk: Writer, tmp_path: Path) -> None:
    source = on_disk(good(0)[:3])
    names = [
        {path.name for path in deidentify(source, tmp_path / f"out{number}", _KEY, project).written}
        for number, project in enumerate(("a", "a", "b"))
    ]
    assert names[0] == names[1]
    assert names[0].isdisjoint(names[2])


def test_intervals_between_studies_of_a_person_stay(on_disk: Writer, tmp_path: Path) -> None:
    def later(name: str, dataset: Dataset) -> Dataset | None:
        dataset.StudyInstanceUID += ".9"
        dataset.SOPInstanceUID += ".9"
        dataset.StudyDate = "20240302"
        return dataset if name == "sagT1/000" else None

    export = deidentify(on_disk([good(0)[0], *changed(0, later)]), tmp_path / "out", _KEY)
    first, second = sorted(dcmread(path).StudyDate for path in export.written)
    assert (np.datetime64(_iso(second)) - np.datetime64(_iso(first))).astype(int) == 60


def _iso(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def test_letters_in_a_picture_hold_it_back(on_disk: Writer, tmp_path: Path) -> None:
    def letters(name: str, dataset: Dataset) -> Dataset | None:
        if name == "sagT2/003":
            values = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns).copy()
            for left in (10, 26, 42):
                values[8:24, left : left + 2] = values[8:24, left + 8 : left + 10] = 900
                values[15:17, left : left + 10] = 900
            dataset.PixelData = values.tobytes()
        return dataset if name.startswith("sagT2") else None

    export = deidentify(on_disk(changed(0, letters)), tmp_path / "out", _KEY)
    assert len(export.written) == 14
    assert [notice.code for notice in export.left_out] == ["BURNED_IN"]


def test_captures_and_reports_are_never_exported(on_disk: Writer, tmp_path: Path) -> None:
    def capture(name: str, dataset: Dataset) -> Dataset:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        return dataset

    with pytest.raises(NoUsableSeries) as caught:
        deidentify(on_disk(changed(0, capture)[:5]), tmp_path / "out", _KEY)
    assert {notice.code for notice in caught.value.notices} == {"DERIVED"}
    assert not (tmp_path / "out").exists()


def test_a_short_key_is_refused(on_disk: Writer, tmp_path: Path) -> None:
    with pytest.raises(KeyTooShort):
        deidentify(on_disk(good(0)[:1]), tmp_path / "out", b"secret")


def test_exports_are_valid_objects(exported: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    result = subprocess.run(["dciodvfy", str(next(exported.iterdir()))], capture_output=True, text=True, check=False)
    assert [line for line in result.stderr.splitlines() if line.startswith("Error")] == []
