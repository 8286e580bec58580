"""A whole study through the reader: nothing in between a finding and a reason, sides as in truth, refusals without findings."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_io import read_study
from dicom_io.errors import InputError, NoUsableSeries, UnreadableInput
from dicom_io.geometry import Volume
from inference.analyze import Engine, Reading, abstain, analyze
from inference.exam import Exam
from inference.localize import Localization, locate_discs
from inference.report import Report
from models.grader import Grader
from models.runtime import Segmenter
from training.phantom import StudyTruth

SITES = [("herniation", None), ("recess_stenosis", "left"), ("recess_stenosis", "right"), ("canal_stenosis", None)]
SADDLE = {"general": {"bb.saddle": True, "bb.retention": True, "time.onset_days": 1}}


@pytest.fixture(scope="module")
def reading(small_study: tuple[Path, StudyTruth], engine: Engine) -> Reading:
    return analyze(read_study(small_study[0]), engine=engine)


def _copy(source: Path, target: Path) -> list[Path]:
    shutil.copytree(source, target)
    return sorted(path for path in target.rglob("*.dcm"))


def _axial(paths: list[Path]) -> list[Path]:
    return [path for path in paths if abs(pydicom.dcmread(path).ImageOrientationPatient[0]) > 0.7]


def _sites(report: Report, level: str) -> list[tuple[str, str | None]]:
    """What was read or withheld at a level; a site with a side by its side, the others once."""
    both = [*report.findings, *report.withheld]
    kinds = {"recess_stenosis"}
    return sorted(
        ((item.kind, item.side if item.kind in kinds else None) for item in both if item.level == level), key=str
    )


def test_every_site_of_the_two_lowest_levels_is_read_or_withheld_and_never_both(reading: Reading) -> None:
    for level in ("L4-L5", "L5-S1"):
        assert _sites(reading.report, level) == sorted(SITES, key=str)


def test_discs_lie_where_they_are_and_bear_their_names(reading: Reading, small_study: tuple[Path, StudyTruth]) -> None:
    found = {level.name: level for level in reading.report.levels}
    for name in ("L3-L4", "L4-L5", "L5-S1"):
        truth = small_study[1].level(name)
        plane = found[name].mid_plane
        offset = np.array(truth.disc_centre_lps) - np.array(plane.point)
        assert abs(offset @ np.array(plane.normal)) < 5


def test_every_disc_on_sagittal_t2_is_graded_and_the_grades_sum_to_one(reading: Reading) -> None:
    assert reading.report.levels
    for level in reading.report.levels:
        assert level.pfirrmann is not None
        assert set(level.pfirrmann) == {"1", "2", "3", "4", "5"}
        assert sum(level.pfirrmann.values()) == pytest.approx(1, abs=0.01)
        assert level.grades is not None
        assert {"bulging", "narrowing", "spondylolisthesis", "modic"} <= set(level.grades)
    assert "disc_grades" in {model.name for model in reading.report.models}


def test_the_herniation_is_on_the_side_where_it_is(reading: Reading, small_study: tuple[Path, StudyTruth]) -> None:
    truth = small_study[1].level("L4-L5").herniation
    assert truth is not None
    (found,) = [f for f in reading.report.findings if f.level == "L4-L5" and f.kind == "herniation"]
    assert found.side == truth.side
    assert found.type in ("protrusion", "extrusion", "sequestration")


def test_every_measurement_says_where_it_was_taken(reading: Reading) -> None:
    known = {instance.sop_instance_uid for item in reading.label_maps for instance in item.source.instances}
    lengths = [m for f in reading.report.findings for m in f.measurements if m.unit == "mm"]
    assert lengths
    for measurement in lengths:
        assert measurement.source_instance in known
        assert measurement.points_lps is not None


def test_the_same_study_gives_the_same_key_and_findings(
    reading: Reading, small_study: tuple[Path, StudyTruth], engine: Engine
) -> None:
    again = analyze(read_study(small_study[0]), engine=engine).report
    assert again.result_key == reading.report.result_key
    assert again.findings == reading.report.findings


def test_without_axial_slices_the_recess_is_withheld_with_its_reason(
    small_study: tuple[Path, StudyTruth], engine: Engine, tmp_path: Path
) -> None:
    for path in _axial(_copy(small_study[0], tmp_path / "study")):
        path.unlink()
    report = analyze(read_study(tmp_path / "study"), engine=engine).report
    assert report.status == "done"
    assert not [f for f in report.findings if f.kind == "recess_stenosis"]
    codes = {w.code for w in report.withheld if w.kind == "recess_stenosis"}
    assert codes == {"NO_AXIAL_T2"}
    assert len([w for w in report.withheld if w.kind == "recess_stenosis"]) == 4


def test_a_lumbosacral_disc_missed_on_t2_is_read_from_t1(
    small_study: tuple[Path, StudyTruth], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(small_study[0])
    t2 = study.with_role("sagittal_t2")[0].volume
    assert study.with_role("sagittal_t1")

    def half_blind(volume: Volume, segmenter: Segmenter, grader: Grader | None = None) -> Localization:
        spine = replace(locate_discs(volume, segmenter, grader), middle_uncertain=False)
        if volume is not t2:
            return spine
        discs = tuple(disc for disc in spine.discs if disc.name != "L5-S1")
        return replace(spine, discs=discs, numbering="uncertain", ambiguous="a whole body lies below the lowest disc")

    module = import_module("inference.analyze")  # the package gives its function under the same name
    monkeypatch.setattr(module, "continuous", lambda given: given)
    monkeypatch.setattr(module, "locate_discs", half_blind)
    report = analyze(study, engine=engine).report
    assert report.study.numbering == "certain"
    assert "LEVEL_AMBIGUOUS" not in {item.code for item in report.withheld}
    assert any(item.level == "L5-S1" for item in report.findings)
    assert "SIDE_UNVERIFIED" not in {item.code for item in report.warnings}  # T2 is still held against the axial slices

    monkeypatch.setattr(module, "_SAGITTAL_ROLES", ("sagittal_t2",))
    alone = analyze(study, engine=engine).report
    assert {item.code for item in alone.withheld if item.level == "L4-L5"} == {"LEVEL_AMBIGUOUS"}


def test_missing_pixel_spacing_gives_no_millimetre(
    small_study: tuple[Path, StudyTruth], engine: Engine, tmp_path: Path
) -> None:
    for path in _axial(_copy(small_study[0], tmp_path / "study")):
        dataset = pydicom.dcmread(path)
        del dataset.PixelSpacing
        dataset.save_as(path)
    report = analyze(read_study(tmp_path / "study"), engine=engine).report
    assert not [m for f in report.findings for m in f.measurements if m.unit in ("mm", "mm2")]
    assert "NO_PIXEL_SPACING" in {warning.code for warning in report.warnings}


def test_axial_pixels_mirrored_under_an_intact_header_give_no_side(
    small_study: tuple[Path, StudyTruth], engine: Engine, tmp_path: Path
) -> None:
    for path in _axial(_copy(small_study[0], tmp_path / "study")):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[:, ::-1]).tobytes()
        dataset.save_as(path)
    report = analyze(read_study(tmp_path / "study"), engine=engine).report
    assert not [f for f in report.findings if f.side in ("left", "right")]
    sided = [w for w in report.withheld if w.kind == "recess_stenosis" and w.level in ("L4-L5", "L5-S1")]
    assert {(w.side, w.code) for w in sided} == {("left", "SIDE_CONFLICT"), ("right", "SIDE_CONFLICT")}


def test_a_study_without_a_spine_abstains_and_finds_nothing(
    small_study: tuple[Path, StudyTruth], engine: Engine, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    for path in _copy(small_study[0], tmp_path / "study"):
        dataset = pydicom.dcmread(path)
        noise = rng.normal(400, 60, dataset.pixel_array.shape)
        dataset.PixelData = np.clip(noise, 0, 4000).astype(np.uint16).tobytes()
        dataset.save_as(path)
    report = analyze(read_study(tmp_path / "study"), engine=engine).report
    assert report.status == "abstained"
    assert report.findings == ()
    assert report.abstained_reason


def test_an_abstention_still_triages_the_examination(small_study: tuple[Path, StudyTruth], tmp_path: Path) -> None:
    empty = tmp_path / "study"
    paths = _copy(small_study[0], empty)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.Modality = "CT"
        dataset.save_as(path)
    with pytest.raises(NoUsableSeries) as refused:
        read_study(empty)
    report = abstain(refused.value, exam=Exam.parse({"exam": SADDLE})).report
    assert report.status == "abstained"
    assert report.triage is not None
    assert report.triage.tier == "T1"


def test_everything_is_written_and_dicom_objects_are_valid(reading: Reading, tmp_path: Path) -> None:
    files = {path.name for path in reading.save(tmp_path, ("json", "html", "pdf", "seg", "sr", "sc"))}
    assert {"report.json", "report.html", "report.pdf", "seg.dcm", "sr.dcm", "capture-01.dcm"} <= files
    assert not list(tmp_path.glob(".recess-*"))
    report = Report.model_validate(json.loads((tmp_path / "report.json").read_text()))
    assert report == reading.report
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    for path in tmp_path.glob("*.dcm"):
        checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        complaints = [line for line in checked.stderr.splitlines() if line.startswith(("Error", "Warning"))]
        assert complaints == [], path.name


def test_an_interrupted_write_leaves_the_earlier_result_whole(
    reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading.save(tmp_path, ("json", "html"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def full_disk(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inference.render.pdf.render_pdf", full_disk)
    with pytest.raises(OSError, match="No space left"):
        reading.save(tmp_path, ("json", "html", "pdf"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_the_real_study_is_read_at_the_places_that_readers_marked(recess_data: Path, engine: Engine) -> None:
    folder = recess_data / "rsna" / "100206310"
    if not folder.is_dir():
        pytest.skip("the real study is not on this machine")
    study = read_study(folder)
    roles = {stack.series_instance_uid.rsplit(".", 1)[-1]: stack.role for stack in study.stacks}
    assert roles == {"1012284084": "axial_t2", "1792451510": "sagittal_t2_fs", "2092806862": "sagittal_t1"}
    report = analyze(study, engine=engine).report
    assert report.status == "done"
    planes = {level.name: level.mid_plane for level in report.levels}
    for level, point in _marked_points(recess_data / "rsna", folder):
        plane = planes[level]
        assert abs((point - np.array(plane.point)) @ np.array(plane.normal)) <= 8, level
    for level in ("L4-L5", "L5-S1"):
        assert _sites(report, level) == sorted(SITES, key=str)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def _marked_points(tables: Path, folder: Path) -> list[tuple[str, np.ndarray]]:
    points = []
    for row in _rows(tables / f"{folder.name}_label_coordinates.csv"):
        if "foraminal" in row["condition"]:
            continue
        header = pydicom.dcmread(folder / row["series_id"] / f"{row['instance_number']}.dcm", stop_before_pixels=True)
        orientation = np.array(header.ImageOrientationPatient, dtype=float)
        down, right = (float(value) for value in header.PixelSpacing)
        place = np.array(header.ImagePositionPatient, dtype=float)
        place = place + orientation[:3] * right * float(row["x"]) + orientation[3:] * down * float(row["y"])
        points.append((row["level"].upper().replace("_", "-"), place))
    return points


def _vendor_files(recess_data: Path) -> list[tuple[Path, str]]:
    root = recess_data / "dicom-vendors"
    return [(root / row["path"], row["expected_decision"]) for row in _rows(root / "manifest.csv")]


def _is_broken(path: Path) -> bool:
    return path.parent.name == "pydicom_broken_headers" or path.read_bytes()[128:132] != b"DICM"


@pytest.mark.slow
def test_nothing_that_is_no_lumbar_spine_is_accepted(recess_data: Path, engine: Engine) -> None:
    if not (recess_data / "dicom-vendors").is_dir():
        pytest.skip("the vendors' files are not on this machine")
    wrong = []
    for path, expected in _vendor_files(recess_data):
        try:
            report = analyze(read_study(path), engine=engine).report
            outcome = report.status
        except UnreadableInput:
            outcome = "unreadable"
        except InputError:
            outcome = "abstained"
        allowed = {"unreadable"} if expected == "unreadable" else {"abstained"}
        if expected == "not_mr" and _is_broken(path):
            allowed.add("unreadable")  # both are true of it: damaged, and no MR
        if outcome not in allowed:
            wrong.append((path.name, expected, outcome))
    assert wrong == []


@pytest.mark.slow
def test_no_folder_of_other_body_parts_is_accepted(recess_data: Path, engine: Engine) -> None:
    root = recess_data / "dicom-vendors"
    if not root.is_dir():
        pytest.skip("the vendors' files are not on this machine")
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            studies = [read_study(folder)]
        except InputError:
            continue
        for study in studies:
            assert analyze(study, engine=engine).report.status == "abstained", folder.name
