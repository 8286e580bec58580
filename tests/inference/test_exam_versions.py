"""Serial examinations: locked before findings are shown, later versions kept beside it, both verdicts said (M-04, TR-D3)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference.cli import app, run
from inference.clinical import assess, correlate_files
from inference.clinical_input import ClinicalInputError
from inference.exam import Exam
from inference.exam_versions import LOCK, ExamVersions, all_versions, check_patient, load_exam, parse_exam, series_of
from inference.roots import Imaging
from tests.inference.sample_report import sample_report
from tests.inference.test_correlate import L5, WELL, finding

NOW = dt.datetime(2026, 3, 1, 9, 30, tzinfo=dt.UTC)
CALM = {"attest.safety_negative": True, "time.course": "stable", "time.onset_days": 200}
IMAGES = Imaging.parse({"assessed": ["L4-L5", "L5-S1"], "findings": [finding()]})


def exam(**changes: Any) -> Exam:
    return Exam.parse({"left": WELL, "right": L5, "general": CALM | changes})


def series(*later: Exam, lock: bool = True) -> ExamVersions:
    out = all_versions(exam())
    out = out.locked(NOW) if lock else out
    for item in later:
        out = out.with_version(item)
    return out


WELL_AGAIN = Exam.parse({"left": WELL, "right": WELL, "general": CALM})


def test_the_locked_version_gives_the_verdict_and_the_later_one_is_stored_beside_it() -> None:
    """M-04."""
    result = assess(series(WELL_AGAIN), IMAGES)
    assert result.concordance is not None
    alone = assess(exam(), IMAGES).concordance
    assert alone is not None
    assert result.concordance.verdict == alone.verdict == "concordant"
    first, second = result.exam_versions
    assert (first.of_study, first.entered_after_findings, first.verdict) == (True, False, "concordant")
    assert (second.of_study, second.entered_after_findings) == (False, True)
    assert second.verdict != "concordant"
    assert "right:mrc.tibialis_anterior" in second.changed
    assert first.locked_at == "2026-03-01T09:30:00+00:00"


def test_the_answer_says_that_a_version_came_after_the_findings() -> None:
    said = {item.id: item.text for part in assess(series(WELL_AGAIN), IMAGES).narrative for item in part.sentences}
    assert said["version_used"] == "The verdict rests on version 1 of 2 of the examination."
    assert said["version_later"].startswith("Version 2 was entered after the findings were shown (changed: ")


def test_a_later_version_raises_the_tier_and_never_lowers_it() -> None:
    """TR-D3."""
    before = assess(exam(), IMAGES).triage.tier
    worse = assess(series(exam(**{"bb.retention": True})), IMAGES)
    assert (before, worse.triage.tier) == ("T2", "T1")
    assert "TR-01" in {rule.id for rule in worse.triage.rules}
    calmer = assess(series(exam(**{"bb.retention": True}), WELL_AGAIN), IMAGES)
    assert calmer.triage.tier == "T1"
    assert [item.tier for item in calmer.exam_versions] == ["T2", "T1", "T1"]


def test_without_a_lock_the_newest_version_counts() -> None:
    result = assess(series(WELL_AGAIN, lock=False), IMAGES)
    assert [item.of_study for item in result.exam_versions] == [False, True]
    assert not any(item.entered_after_findings for item in result.exam_versions)


def test_a_single_version_is_judged_like_a_plain_examination() -> None:
    plain, one = assess(exam(), IMAGES), assess(series(lock=False), IMAGES)
    assert one == plain


def test_what_cannot_be_a_version_is_refused() -> None:
    with pytest.raises(ClinicalInputError, match="locked examination"):
        series().locked(NOW)
    with pytest.raises(ClinicalInputError, match="newest version once more"):
        series(lock=False).with_version(exam())
    with pytest.raises(ClinicalInputError, match=r"versions\[2\]\.right\.ref\.achilles"):
        parse_exam({"versions": [{}, {"right": {"ref.achilles": 7}}]})
    for given in ({"versions": []}, {"versions": 3}, {"versions": [{}], "left": {}}):
        with pytest.raises(ClinicalInputError, match="versions"):
            parse_exam(given)


@pytest.mark.parametrize("name", ["exam.yaml", "exam.json"])
def test_versions_are_written_and_read_back(tmp_path: Path, name: str) -> None:
    for written in (series(), series(WELL_AGAIN), series(WELL_AGAIN, Exam())):
        written.save(tmp_path / name)
        assert all_versions(load_exam(tmp_path / name)) == written
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_lock_and_add_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, later, findings = tmp_path / "exam.yaml", tmp_path / "later.yaml", tmp_path / "f.yaml"
    all_versions(exam()).save(file)
    all_versions(WELL_AGAIN).save(later)
    findings.write_text(yaml.safe_dump({"assessed": ["L4-L5"], "findings": [finding()]}), encoding="utf-8")
    assert run(app, ["exam", "lock", str(file)]) == 0
    assert run(app, ["exam", "lock", str(file)]) == 2
    assert "locked" in capsys.readouterr().err
    assert run(app, ["exam", "add", str(file), str(later)]) == 0
    assert run(app, ["exam", "check", str(file)]) == 0
    assert "2 versions" in capsys.readouterr().out
    result = correlate_files(file, findings)
    assert result["exam_versions"][0]["verdict"] == result["concordance"]["verdict"] == "concordant"


def test_entries_become_one_examination_until_findings_were_asked_for() -> None:
    first, second, third = ({"right": {"mrc.quadriceps": grade}} for grade in ("5", "4", "3"))
    assert series_of(()) is None
    assert series_of((first, second)) == Exam.parse(second)
    assert series_of((first, second), (1, "2026-03-01T09:30:00+00:00")) == Exam.parse(second)
    later = series_of((first, second, third), (1, "2026-03-01T09:30:00+00:00"))
    assert isinstance(later, ExamVersions)
    assert [exam.right["mrc.quadriceps"] for exam in later.versions] == ["4", "3"]
    assert (later.of_study, later.versions[0].general[LOCK]) == (0, "2026-03-01T09:30:00+00:00")


def test_a_lock_set_by_hand_counts_when_it_came_before_the_first_analysis() -> None:
    locked = {"right": {"mrc.quadriceps": "5"}, "general": {LOCK: "2026-02-01T08:00"}}
    series = series_of((locked, {"right": {"mrc.quadriceps": "4"}}), (1, "2026-03-01T09:30:00+00:00"))
    assert isinstance(series, ExamVersions)
    assert series.versions[0].general[LOCK] == "2026-02-01T08:00:00"
    assert series.entered_after_findings(1)


def test_an_examination_of_another_patient_is_refused_with_its_field() -> None:
    named = exam(**{"meta.patient": "P-0123456789"})
    for fits in (named, exam(), None, series(named)):
        check_patient(fits, "P-0123456789")
    with pytest.raises(
        ClinicalInputError, match=r"general\.meta\.patient: given 'P-0123456789'; allowed: P-ffffffffff"
    ):
        check_patient(named, "P-ffffffffff")
    with pytest.raises(ClinicalInputError, match=r"versions\[2\]\.general\.meta\.patient"):
        check_patient(series(named), "P-ffffffffff")
    with pytest.raises(ClinicalInputError, match="the patient of the versions before"):
        series(named, exam(**{"meta.patient": "P-ffffffffff"}))


def test_findings_of_another_patient_are_refused(tmp_path: Path) -> None:
    report, entered = tmp_path / "report.json", tmp_path / "exam.json"
    report.write_text(sample_report().to_json(), encoding="utf-8")
    exam(**{"meta.patient": "P-0123456789"}).save(entered)
    with pytest.raises(ClinicalInputError, match=r"exam\.json: general\.meta\.patient: .*P-5f3a91c2"):
        correlate_files(entered, report)
