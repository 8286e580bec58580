"""Exports without identity: nothing planted comes out, UIDs are new and fit together, places and pixels stay."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io import lettering, read_study
from dicom_io.deidentify import KeyTooShort, deidentify
from dicom_io.errors import NoUsableSeries
from dicom_io.study import Study
from tests.corpus.mutation import canaries, with_canaries
from tests.corpus.small_study import File, changed, datasets, encode, good
from tests.dicom_io.conftest import Writer

_KEY = bytes(range(32))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The good study with a token in every text field, exported."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for number, (_, dataset) in enumerate(datasets(0)):
        (source / f"SURNAME{number}.dcm").write_bytes(encode(with_canaries(dataset, canaries())))
    export = deidentify(source, target, _KEY, "trial", text_detector=False)
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
        {
            path.name
            for path in deidentify(source, tmp_path / f"out{number}", _KEY, project, text_detector=False).written
        }
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

    export = deidentify(on_disk([good(0)[0], *changed(0, later)]), tmp_path / "out", _KEY, text_detector=False)
    first, second = sorted(dcmread(path).StudyDate for path in export.written)
    assert (np.datetime64(_iso(second)) - np.datetime64(_iso(first))).astype(int) == 60


def _iso(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def _smooth_body() -> np.ndarray:
    """A picture (256, 256) without any edge that could be taken for a letter."""
    rows, columns = np.mgrid[-1:1:256j, -1:1:256j]
    return np.round(100 + 500 * np.exp(-2 * (rows**2 + 2 * columns**2)))


def _three_slices(draw: Callable[[np.ndarray], np.ndarray] | None = None) -> list[File]:
    """Three sagittal slices, the second with letters in its pixels, whatever its header says."""

    def change(name: str, dataset: Dataset) -> Dataset | None:
        if name not in ("sagT2/002", "sagT2/003", "sagT2/004"):
            return None
        dataset.BurnedInAnnotation = "NO"
        dataset.PixelSpacing, dataset.Rows, dataset.Columns = [0.8, 0.8], 256, 256
        values = _smooth_body() + int(name[-1])
        if name == "sagT2/003" and draw is not None:
            values = draw(values)
        dataset.PixelData = values.astype("<u2").tobytes()
        return dataset

    return changed(0, change)


def _solid(values: np.ndarray) -> np.ndarray:
    for left in (10, 26, 42):
        values[8:24, left : left + 2] = values[8:24, left + 8 : left + 10] = 900
        values[15:17, left : left + 10] = 900
    return values


def _smooth(text: str, size: int, grey: int) -> Callable[[np.ndarray], np.ndarray]:
    """Text with soft edges, as consoles draw it."""

    def draw(values: np.ndarray) -> np.ndarray:
        mask = Image.new("L", values.shape[::-1], 0)
        ImageDraw.Draw(mask).text((6, 20), text, font=ImageFont.load_default(size), fill=255)
        share = np.asarray(mask, dtype=float) / 255
        return np.round(values * (1 - share) + grey * share)

    return draw


def test_letters_of_one_grey_hold_a_picture_back_without_the_detector(on_disk: Writer, tmp_path: Path) -> None:
    export = deidentify(on_disk(_three_slices(_solid)), tmp_path / "out", _KEY, text_detector=False)
    assert len(export.written) == 2
    assert [notice.code for notice in export.left_out] == ["BURNED_IN"]


@pytest.mark.parametrize(
    ("text", "size", "grey"), [("DOE JANE", 12, 1000), ("ID 839201", 10, 700), ("19700101", 14, 450)]
)
def test_letters_with_soft_edges_hold_a_picture_back_until_a_person_has_looked(
    on_disk: Writer, tmp_path: Path, text: str, size: int, grey: int
) -> None:
    pytest.importorskip("rapidocr", reason="the text detector is not installed (recess[deidentify])")
    source = on_disk(_three_slices(_smooth(text, size, grey)))
    export = deidentify(source, tmp_path / "out", _KEY)
    assert len(export.written) == 2
    (held,) = export.left_out
    assert held.code == "BURNED_IN"
    names = [dcmread(path).SOPInstanceUID.endswith(".2.4") for path in sorted(source.iterdir())]
    assert held.path == f"object {names.index(True) + 1}"
    again = deidentify(source, tmp_path / "again", _KEY, reviewed=[names.index(True) + 1])
    assert len(again.written) == 3
    assert again.left_out == ()


def test_without_the_detector_nothing_is_exported_unless_asked_for(
    on_disk: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    lettering._detector.cache_clear()
    source = on_disk(_three_slices())
    with pytest.raises(lettering.TextDetectorMissing, match="deidentify"):
        deidentify(source, tmp_path / "out", _KEY)
    assert not (tmp_path / "out").exists()
    assert len(deidentify(source, tmp_path / "out", _KEY, text_detector=False).written) == 3
    lettering._detector.cache_clear()


def test_numbers_and_words_that_may_be_anybodys_are_made_anew(on_disk: Writer, tmp_path: Path) -> None:
    def odd(name: str, dataset: Dataset) -> Dataset | None:
        dataset.SeriesNumber, dataset.PatientPosition = 839201, "DOE"
        return dataset if name.startswith("sagT2") else None

    export = deidentify(on_disk(changed(0, odd)), tmp_path / "out", _KEY, text_detector=False)
    headers = [dcmread(path) for path in export.written]
    assert {header.SeriesNumber for header in headers} == {1}
    assert {header.PatientPosition for header in headers} == {""}


def test_captures_and_reports_are_never_exported(on_disk: Writer, tmp_path: Path) -> None:
    def capture(name: str, dataset: Dataset) -> Dataset:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        return dataset

    with pytest.raises(NoUsableSeries) as caught:
        deidentify(on_disk(changed(0, capture)[:5]), tmp_path / "out", _KEY, text_detector=False)
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
