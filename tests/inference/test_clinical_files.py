"""The clinical half from files to plain data, as the command line and the service call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inference.clinical import assess, correlate_files
from inference.clinical_input import ClinicalInputError
from inference.exam import Exam
from inference.first_read import FirstRead
from inference.report import Finding, Report, Software, Withheld
from inference.roots import Imaging, imaging_from_report
from inference.second_read import compare
from tests.inference.test_correlate import L5, WELL, finding

EXAM = {
    "general": {"attest.safety_negative": True, "time.course": "stable", "time.onset_days": 20},
    "right": L5,
    "left": WELL,
}


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read_report() -> Report:
    base = {"level": "L4-L5", "basis": "test", "severity": "normal_mild"}
    found = [
        base
        | {
            "id": "h",
            "side": "right",
            "kind": "herniation",
            "type": "extrusion",
            "zone": "subarticular",
            "severity": "severe",
        },
        base | {"id": "l", "side": "left", "kind": "recess_stenosis"},
    ]
    held = Withheld(level="L4-L5", side="right", kind="recess_stenosis", code="MOTION", reason="motion artefact")
    return Report(
        id="1",
        result_key="1",
        software=Software(version="0", configs_sha256="0", libraries={}),
        models=(),
        findings=tuple(Finding.model_validate(item) for item in found),
        withheld=(held,),
        disclaimer="-",
    )


def test_a_findings_file_and_a_report_give_the_same_verdict(tmp_path: Path) -> None:
    exam = write(tmp_path, "exam.json", EXAM)
    by_hand = correlate_files(exam, write(tmp_path, "f.json", {"findings": [finding()]}))
    by_report = correlate_files(exam, write(tmp_path, "report.json", read_report().to_json()))
    assert by_hand["concordance"]["per_finding"][0]["verdict"] == "explains"
    verdicts = {item["finding_id"]: item["verdict"] for item in by_report["concordance"]["per_finding"]}
    assert verdicts["h"] == "explains"
    assert verdicts["l"] == "does_not_explain"
    assert len(verdicts) == 3
    assert set(by_report) == {"exam", "concordance", "triage", "narrative", "language", "disclaimer"}


def test_the_result_is_json_with_published_names(tmp_path: Path) -> None:
    result = correlate_files(
        write(tmp_path, "e.json", EXAM), write(tmp_path, "f.json", {"findings": [finding(root_grade=1)]})
    )
    assert json.loads(json.dumps(result)) == result
    alternatives = result["concordance"]["alternatives"]
    assert all({"name", "p", "for", "against"} <= set(item) for item in alternatives)


def test_a_first_read_is_compared(tmp_path: Path) -> None:
    first = write(
        tmp_path, "first.csv", "level,condition,side,severity,type\nL4-L5,herniation,right,severe,extrusion\n"
    )
    result = correlate_files(
        write(tmp_path, "e.json", EXAM), write(tmp_path, "f.json", {"findings": [finding()]}), first
    )
    assert result["second_read"]["agreements"][0]["kind"] == "herniation"


def test_a_refusal_names_the_file_and_the_field(tmp_path: Path) -> None:
    good, findings = write(tmp_path, "e.json", EXAM), write(tmp_path, "f.json", {"findings": []})
    bad = write(tmp_path, "bad.yaml", "right:\n  ref.achilles: 9\n")
    with pytest.raises(ClinicalInputError, match=r"bad\.yaml: right\.ref\.achilles: given 9; allowed: .*0 = absent"):
        correlate_files(bad, findings)
    with pytest.raises(ClinicalInputError, match=r"bad\.yaml: imaging\.right"):
        correlate_files(good, bad)
    with pytest.raises(ClinicalInputError, match="gone"):
        correlate_files(good, tmp_path / "gone.yaml")


def test_a_finding_at_a_level_the_report_did_not_name_is_refused() -> None:
    report = read_report()
    level: dict[str, Any] = {"name": "L5-S1", "basis": "test", "confidence": 1.0, "disc_centre_lps": (0, 0, 0)}
    level["mid_plane"] = {"point": (0, 0, 0), "normal": (0, 0, 1)}
    data = report.model_dump(mode="json", by_alias=True) | {"levels": [level]}
    with pytest.raises(ClinicalInputError, match=r"findings\.h\.level"):
        Imaging.parse(data)


def test_a_first_read_is_compared_without_an_examination() -> None:
    report = read_report()
    imaging = imaging_from_report(report.findings, report.withheld)
    first = FirstRead.parse([{"level": "L4-L5", "condition": "recess_stenosis", "side": "right", "severity": "severe"}])
    result = assess(None, imaging, first, report.findings, report.withheld)
    assert result.second_read is not None
    assert [row["id"] for row in result.second_read.not_comparable] == ["DC-09"]
    assert [item.id for item in result.second_read.discrepancies] == ["DC-05"]
    assert compare(first, report.findings, report.withheld) == result.second_read


def test_bilateral_rules_are_not_evaluated_with_a_blank_side() -> None:
    """M-06."""
    result = assess(Exam.parse({"right": L5}), imaging_from_report((), ()))
    said = [item.text for section in result.narrative for item in section.sentences]
    assert "The left side was not examined; rules that need both sides were not evaluated." in said
    assert not {"TR-02", "TR-02b", "TR-27"} & {rule.id for rule in result.triage.rules}
