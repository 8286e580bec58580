"""FHIR R4B: a report as DiagnosticReport with Observations, an examination from Observations and back; refusals name the entry."""

from __future__ import annotations

import copy
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference.cli import app, run
from inference.clinical import assess
from inference.clinical_input import ClinicalInputError
from inference.exam import Exam
from inference.exam_versions import check_patient
from inference.fhir import FIELD_SYSTEM, assessment_bundle, exam_bundle, exam_from_bundle, report_bundle
from tests.inference.case_generator import random_exam, random_imaging
from tests.inference.sample_report import abstained_report, quiet_report, sample_report
from tests.inference.test_correlate import L5, WELL, finding

pytest.importorskip("fhir.resources", reason="the extra fhir is not installed")
NOW = dt.datetime(2026, 3, 1, 9, 30, tzinfo=dt.UTC)
EXAM = Exam.parse(
    {
        "left": WELL,
        "right": L5 | {"pain.distribution": ["L5", "S1"], "ten.slr_deg": "negative"},
        "general": {"bb.retention": False, "time.course": "stable", "time.exam_date": "2026-02-27", "bb.pvr_ml": 40},
    }
)


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [item["resource"] for item in bundle["entry"] if item["resource"]["resourceType"] == kind]


def changed(**change: Any) -> dict[str, Any]:
    """The bundle of EXAM with its first Observation of the right side changed."""
    bundle = copy.deepcopy(exam_bundle(EXAM, "P1"))
    entry = next(item for item in bundle["entry"] if "bodySite" in item["resource"])
    entry["resource"] |= change
    return bundle


def test_an_examination_comes_back_as_it_went_out() -> None:
    assert exam_from_bundle(exam_bundle(EXAM, "P1")) == EXAM
    assert exam_from_bundle(json.loads(json.dumps(exam_bundle(EXAM, "P1")))) == EXAM
    for seed in range(40):
        exam = random_exam(seed)
        assert exam_from_bundle(exam_bundle(exam, "P1")) == exam, seed


def test_what_was_not_examined_has_no_observation() -> None:
    codes = {item["code"]["coding"][0]["code"] for item in resources(exam_bundle(EXAM, "P1"), "Observation")}
    assert "bb.saddle" not in codes
    assert "bb.retention" in codes
    assert exam_from_bundle({"resourceType": "Bundle", "type": "collection"}) == Exam()


def test_an_observation_without_value_or_entered_in_error_is_a_blank_and_never_normal() -> None:
    whole = changed()
    field = next(i["resource"] for i in whole["entry"] if "bodySite" in i["resource"])["code"]["coding"][0]["code"]
    assert field in exam_from_bundle(whole).right
    assert field not in exam_from_bundle(changed(status="entered-in-error")).right
    absent = {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-performed"}]
    }
    bundle = changed(dataAbsentReason=absent)
    entry = next(item for item in bundle["entry"] if "bodySite" in item["resource"])["resource"]
    for name in [name for name in entry if name.startswith("value")]:
        del entry[name]
    assert field not in exam_from_bundle(bundle).right


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"code": {"coding": [{"system": FIELD_SYSTEM, "code": "mrc.nose"}]}},
            r"entry\[\d+\]\.code: given .*mrc\.nose",
        ),
        ({"code": {"text": "foot strength"}}, r"entry\[\d+\]\.code: given .*foot strength"),
        ({"bodySite": {"text": "right"}}, r"entry\[\d+\]\.bodySite"),
        ({"subject": {"identifier": {"value": "P2"}}}, r"entry\[\d+\]\.subject.*same patient"),
        ({"status": "done"}, r"entry\[\d+\]"),
        ({"valueCodeableConcept": {"text": "weak"}}, r"entry\[\d+\]\.value: given .* = no contraction"),
        ({"colour": "red"}, r"entry\[\d+\]\.colour"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_entry(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ClinicalInputError, match=named):
        exam_from_bundle(changed(**change))


def test_a_grade_off_its_scale_and_a_field_twice_are_refused() -> None:
    bundle = exam_bundle(EXAM, "P1")
    with pytest.raises(ClinicalInputError, match="twice"):
        exam_from_bundle(bundle | {"entry": bundle["entry"] + bundle["entry"][-1:]})
    achilles = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": FIELD_SYSTEM, "code": "ref.achilles"}]},
        "bodySite": {"coding": [{"system": "http://snomed.info/sct", "code": "24028007"}]},
        "valueInteger": 9,
    }
    with pytest.raises(ClinicalInputError, match=r"right\.ref\.achilles: given 9; .*0 = absent"):
        exam_from_bundle({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": achilles}]})
    with pytest.raises(ClinicalInputError, match="Bundle"):
        exam_from_bundle({"resourceType": "Patient"})


def test_the_report_holds_an_observation_for_every_finding_and_withheld_value() -> None:
    report = sample_report()
    bundle = report_bundle(report)
    observations = resources(bundle, "Observation")
    (made,) = resources(bundle, "DiagnosticReport")
    assert len(observations) == len(report.findings) + len(report.withheld) + 2
    assert [item["reference"] for item in made["result"]] == [item["fullUrl"] for item in bundle["entry"][1:]]
    held = [item for item in observations if "dataAbsentReason" in item]
    assert len(held) == len(report.withheld)
    assert not [item for item in held if "valueCodeableConcept" in item]
    assert report.disclaimer in made["conclusion"]
    assert made["status"] == "preliminary"
    assert report_bundle(report) == bundle


def test_sides_and_levels_are_coded_anatomy() -> None:
    report = sample_report()
    sided = next(item for item in report.findings if item.side in {"left", "right"})
    observation = resources(report_bundle(report), "Observation")[report.findings.index(sided)]
    codes = {item["code"] for item in observation["bodySite"]["coding"]}
    assert {"left": "7771000", "right": "24028007"}[str(sided.side)] in codes


def test_reports_without_findings_can_be_written_too() -> None:
    for report in (quiet_report(), abstained_report()):
        assert resources(report_bundle(report), "DiagnosticReport")


def test_drawn_answers_can_be_written() -> None:
    for seed in range(25):
        bundle = assessment_bundle(assess(random_exam(seed), random_imaging(seed)), NOW)
        assert len(resources(bundle, "DiagnosticReport")) == 1, seed


def test_import_export_and_correlate_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, bundle, back = tmp_path / "exam.yaml", tmp_path / "exam.fhir.json", tmp_path / "back.yaml"
    EXAM.save(source)
    assert run(app, ["exam", "export", str(source), str(bundle), "--pseudonym", "P7"]) == 0
    assert run(app, ["exam", "import", str(bundle), str(back)]) == 0
    assert Exam.load(back) == EXAM
    assert run(app, ["exam", "import", str(bundle), str(back)]) == 2
    findings, out = tmp_path / "f.yaml", tmp_path / "answer.json"
    findings.write_text(yaml.safe_dump({"assessed": ["L4-L5"], "findings": [finding()]}), encoding="utf-8")
    assert run(app, ["correlate", "--exam", str(back), "--findings", str(findings), "--fhir", str(out)]) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["resourceType"] == "Bundle"
    bundle.write_text('{"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {}}]}', encoding="utf-8")
    assert run(app, ["exam", "import", str(bundle), str(tmp_path / "none.yaml")]) == 2
    assert not (tmp_path / "none.yaml").exists()
    assert "entry[0].resource" in capsys.readouterr().err


def test_the_subject_names_the_patient_and_another_study_then_refuses_the_examination() -> None:
    taken = exam_from_bundle(exam_bundle(EXAM, "P-0123456789"))
    assert taken.general["meta.patient"] == "P-0123456789"
    with pytest.raises(ClinicalInputError, match=r"general\.meta\.patient"):
        check_patient(taken, "P-ffffffffff")
    twisted = exam_bundle(taken, "P-ffffffffff")
    with pytest.raises(ClinicalInputError, match="the subject of all entries"):
        exam_from_bundle(twisted)
