"""The report as FHIR R4B (a DiagnosticReport with Observations), and an examination from a Bundle of Observations and back.

Structure is checked by fhir.resources on the way out and in. Fields of the examination keep their own ids as codes; anatomy and
severity codes come from configs/anatomy.toml. Needs the extra `fhir`.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.clinical import ExamField, exam_table
from configs.loader import anatomy
from inference.clinical_input import ClinicalInputError, load_text, read_text
from inference.clinical_words import label, word
from inference.exam import Exam, allowed_text
from inference.exam_versions import PATIENT
from inference.report import Concordance, Finding, Report, Section, Triage, Withheld

if TYPE_CHECKING:
    from inference.clinical import Assessment

FIELD_SYSTEM = "urn:x-recess:exam-field"
VALUE_SYSTEM = "urn:x-recess:exam-value"
KIND_SYSTEM = "urn:x-recess:kind"
RESULT_SYSTEM = "urn:x-recess:result"
_SNOMED = "http://snomed.info/sct"
_UCUM = "http://unitsofmeasure.org"
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_SIDE_CODES = {"left": "7771000", "right": "24028007"}
_SIDE_OF = {code: side for side, code in _SIDE_CODES.items()} | {"left": "left", "right": "right"}
_UNITS = {"mm": "mm", "mm2": "mm2", "deg": "deg"}
_KEPT = {"registered", "preliminary", "final", "amended", "corrected"}
"""States of an Observation whose value stands."""
_DROPPED = {"cancelled", "entered-in-error", "unknown"}
"""States of an Observation whose value does not stand: the field is blank."""
_MAX_ENTRIES = 2000
"""Far above the number of fields of the form, both sides."""
_NAMESPACE = uuid.UUID("8f3c6f0e-4f0d-5d64-9c1c-6a4b4d5f7a21")


class FhirExtraMissingError(RuntimeError):
    """FHIR was asked for and the package that checks it is not installed; the text says how to get it."""


def report_bundle(report: Report) -> dict[str, Any]:
    """A report as a checked Bundle: one DiagnosticReport, an Observation for every finding, withheld value and answer."""
    subject = {"identifier": {"value": report.study.pseudonym if report.study else report.id}}
    verdicts = {item.finding_id: item.verdict for item in report.concordance.per_finding} if report.concordance else {}
    made = [_finding(item, verdicts.get(item.id)) for item in report.findings]
    made += [_withheld(item) for item in report.withheld]
    issued = report.created_at.astimezone(dt.UTC)
    return _bundle(report.result_key, subject, issued, made, report.concordance, report.triage, report)


def assessment_bundle(assessment: Assessment, issued: dt.datetime) -> dict[str, Any]:
    """An answer of the correlation alone as a checked Bundle; findings are named by the ids they were given."""
    judged = assessment.concordance.per_finding if assessment.concordance else ()
    made = [
        {
            "code": {"coding": [_coding(KIND_SYSTEM, "finding")], "text": f"finding {item.finding_id}"},
            "valueCodeableConcept": _concept(RESULT_SYSTEM, item.verdict),
            "note": [{"text": "; ".join(item.reasons)}] if item.reasons else None,
        }
        for item in judged
    ]
    plain = assessment.to_plain()
    key = json.dumps(plain, sort_keys=True)
    subject = {"display": "patient of the entered examination"}
    return _bundle(key, subject, issued, made, assessment.concordance, assessment.triage, assessment)


def _bundle(
    key: str,
    subject: dict[str, Any],
    issued: dt.datetime,
    made: Iterable[dict[str, Any]],
    concordance: Concordance | None,
    triage: Triage | None,
    told: Report | Assessment,
) -> dict[str, Any]:
    observations = [*made]
    if concordance is not None:
        observations.append(_concordance(concordance))
    if triage is not None:
        observations.append(_triage(triage, told.language))
    when = issued.replace(microsecond=0).isoformat()
    entries: list[dict[str, Any]] = []
    for number, content in enumerate(observations):
        identity = uuid.uuid5(_NAMESPACE, f"{key}:{number}")
        whole = {"resourceType": "Observation", "id": str(identity), "status": "preliminary", "subject": subject}
        whole |= {"effectiveDateTime": when} | {name: value for name, value in content.items() if value is not None}
        entries.append({"fullUrl": f"urn:uuid:{identity}", "resource": whole})
    identity = uuid.uuid5(_NAMESPACE, key)
    report = {
        "resourceType": "DiagnosticReport",
        "id": str(identity),
        "status": "preliminary",
        "language": told.language,
        "code": {"text": "Lumbar MRI: second read by research software, not a medical device"},
        "subject": subject,
        "effectiveDateTime": when,
        "issued": when,
        "result": [{"reference": entry["fullUrl"]} for entry in entries],
        "conclusion": _conclusion(told.narrative, told.disclaimer),
    }
    first = {"fullUrl": f"urn:uuid:{identity}", "resource": report}
    return _checked({"resourceType": "Bundle", "type": "collection", "timestamp": when, "entry": [first, *entries]})


def _conclusion(narrative: Sequence[Section], disclaimer: str) -> str:
    parts = [f"{part.section}: {' '.join(item.text for item in part.sentences)}" for part in narrative]
    text = "\n".join(parts)
    return text if disclaimer in text else f"{text}\n{disclaimer}".strip()


def _coding(system: str, code: str, display: str | None = None) -> dict[str, Any]:
    return {"system": system, "code": code} | ({"display": display} if display else {})


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [_coding(system, code)], "text": code.replace("_", " ")}


def _site(level: str | None, side: str | None) -> dict[str, Any] | None:
    """The disc as coded anatomy, the side beside it; None for what has no level."""
    if level is None:
        return None
    codings = []
    if level in anatomy().disc_codes:
        code, _, meaning = anatomy().disc_codes[level]
        codings.append(_coding(_SNOMED, code, meaning))
    if side in _SIDE_CODES:
        codings.append(_coding(_SNOMED, _SIDE_CODES[side], side.capitalize()))
    return {"coding": codings, "text": " ".join(part for part in (level, side) if part)}


def _kind(kind: str) -> dict[str, Any]:
    codings = [_coding(KIND_SYSTEM, kind)]
    if kind in anatomy().finding_codes:
        code, _, meaning = anatomy().finding_codes[kind]
        codings.append(_coding(_SNOMED, code, meaning))
    return {"coding": codings, "text": kind.replace("_", " ")}


def _finding(item: Finding, verdict: str | None) -> dict[str, Any]:
    code, _, meaning = anatomy().severity_codes[item.severity]
    severity = [_coding(VALUE_SYSTEM, item.severity), _coding(_SNOMED, code, meaning)]
    parts = [
        {"code": {"text": measure.name}, "valueQuantity": _quantity(measure.value, measure.unit)}
        for measure in item.measurements
    ]
    if item.type is not None:
        parts.append({"code": {"text": "type"}, "valueCodeableConcept": _concept(VALUE_SYSTEM, item.type)})
    if item.probability is not None:
        parts.append({"code": {"text": "probability"}, "valueQuantity": {"value": item.probability, "code": "1"}})
    if verdict is not None:
        parts.append({"code": {"text": "verdict"}, "valueCodeableConcept": _concept(RESULT_SYSTEM, verdict)})
    return {
        "code": _kind(item.kind),
        "bodySite": _site(item.level, item.side),
        "valueCodeableConcept": {"coding": severity, "text": item.severity.replace("_", " ")},
        "component": parts or None,
        "note": [{"text": f"basis: {item.basis}"}],
    }


def _quantity(value: float, unit: str) -> dict[str, Any]:
    code = _UNITS.get(unit)
    return {"value": value, "unit": unit} | ({"system": _UCUM, "code": code} if code else {})


def _withheld(item: Withheld) -> dict[str, Any]:
    return {
        "code": _kind(item.kind),
        "bodySite": _site(item.level, item.side),
        "dataAbsentReason": {"coding": [_coding(_ABSENT, "unknown", "Unknown")], "text": item.reason},
        "note": [{"text": f"withheld, {item.code}"}],
    }


def _concordance(concordance: Concordance) -> dict[str, Any]:
    roots = [{"code": {"text": "root"}, "valueString": key.replace(":", " ")} for key in concordance.roots_implicated]
    open_ = [
        {"code": {"text": "deficit not accounted for"}, "valueString": label(key)}
        for key in concordance.unexplained_deficits
    ]
    return {
        "code": {"coding": [_coding(RESULT_SYSTEM, "concordance")], "text": "imaging against examination"},
        "valueCodeableConcept": _concept(RESULT_SYSTEM, concordance.verdict),
        "component": (roots + open_) or None,
    }


def _triage(triage: Triage, language: str) -> dict[str, Any]:
    rules = [{"code": {"text": rule.id}, "valueString": rule.text} for rule in triage.rules]
    concept = {"coding": [_coding(RESULT_SYSTEM, triage.tier)], "text": triage.tier}
    code = {"coding": [_coding(RESULT_SYSTEM, "triage")], "text": "triage tier"}
    return {"code": code, "valueCodeableConcept": concept, "component": rules or None}


def exam_bundle(exam: Exam, pseudonym: str) -> dict[str, Any]:
    """An examination as a checked Bundle of Observations; what was not examined has none."""
    entries = []
    for block in ("general", "right", "left"):
        for key, value in getattr(exam, block).items():
            field = exam_table().find(key)
            whole: dict[str, Any] = {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [_coding(FIELD_SYSTEM, key, field.label)], "text": field.label},
                "subject": {"identifier": {"value": pseudonym}},
            }
            if block != "general":
                codings = [_coding(_SNOMED, _SIDE_CODES[block], block.capitalize())]
                whole["bodySite"] = {"coding": codings, "text": block}
            entries.append({"resource": whole | _fhir_value(field, value)})
    return _checked({"resourceType": "Bundle", "type": "collection"} | ({"entry": entries} if entries else {}))


def _fhir_value(field: ExamField, value: Any) -> dict[str, Any]:
    match field.type:
        case "bool":
            return {"valueBoolean": value}
        case "int":
            return {"valueInteger": value}
        case "int_or_negative" if isinstance(value, int):
            return {"valueInteger": value}
        case "date" | "datetime" | "text":
            return {"valueString": value}
        case "list":
            codings = [_coding(VALUE_SYSTEM, item) for item in value]
            return {"valueCodeableConcept": {"text": ", ".join(value) or word("nothing")} | _if(codings)}
        case _:
            return {"valueCodeableConcept": {"coding": [_coding(VALUE_SYSTEM, value)], "text": str(value)}}


def _if(codings: list[dict[str, Any]]) -> dict[str, Any]:
    return {"coding": codings} if codings else {}


def exam_from_bundle(data: object, today: dt.date | None = None) -> Exam:
    """Examination from a Bundle of Observations. ClinicalInputError names the entry, what was given and what is allowed.

    An Observation that is no field of the form is refused, never left out; one without value, or entered in error, is a blank.
    """
    if not isinstance(data, dict) or data.get("resourceType") != "Bundle":
        raise ClinicalInputError("resourceType", data, "a FHIR R4B Bundle")
    entries = data.get("entry") or []
    if not isinstance(entries, list) or len(entries) > _MAX_ENTRIES:
        raise ClinicalInputError("entry", f"{len(entries)} entries", f"at most {_MAX_ENTRIES} Observations")
    blocks: dict[str, dict[str, Any]] = {"general": {}, "right": {}, "left": {}}
    subjects: set[str] = set()
    for number, entry in enumerate(entries):
        path = f"entry[{number}]"
        found = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(found, dict) or found.get("resourceType") != "Observation":
            raise ClinicalInputError(f"{path}.resource", (found or {}).get("resourceType"), "an Observation")
        _checked(found, path)
        subjects.add(json.dumps(found.get("subject"), sort_keys=True))
        if len(subjects) > 1:
            raise ClinicalInputError(f"{path}.subject", found.get("subject"), "the same patient in every Observation")
        if found["status"] not in _KEPT | _DROPPED:
            raise ClinicalInputError(f"{path}.status", found["status"], ", ".join(sorted(_KEPT | _DROPPED)))
        block, field = _field_of(found, path)
        value = _plain_value(found, field, path) if found["status"] in _KEPT else None
        if value is None:
            continue
        if field.id in blocks[block]:
            raise ClinicalInputError(f"{path}.code", f"{block}.{field.id} twice", "each field once")
        blocks[block][field.id] = value
    named = _pseudonym(json.loads(subjects.pop()) if subjects else None)
    if named is not None and blocks["general"].setdefault(PATIENT, named) != named:
        raise ClinicalInputError(
            f"general.{PATIENT}", blocks["general"][PATIENT], f"{named}, the subject of all entries"
        )
    return Exam.parse(blocks, today=today)


_PSEUDONYM = re.compile(r"P-[0-9a-f]{10}")
"""How a study names its patient; an identifier of another shape belongs to another system and is not compared."""


def _pseudonym(subject: Any) -> str | None:
    value = str(((subject or {}).get("identifier") or {}).get("value", ""))
    return value if _PSEUDONYM.fullmatch(value) else None


def _field_of(found: dict[str, Any], path: str) -> tuple[str, ExamField]:
    codes = [item.get("code") for item in found["code"].get("coding", []) if item.get("system") == FIELD_SYSTEM]
    known = {field.id: field for field in exam_table().field}
    field = known.get(codes[0] or "") if len(codes) == 1 else None
    if field is None:
        given = codes or found["code"].get("text") or found["code"].get("coding")
        raise ClinicalInputError(f"{path}.code", given, f"one coding of {FIELD_SYSTEM} with a field id of the form")
    sides = [item.get("code") for item in found.get("bodySite", {}).get("coding", [])]
    named = {_SIDE_OF[code] for code in sides if code in _SIDE_OF}
    if field.block == "general":
        if named:
            raise ClinicalInputError(f"{path}.bodySite", sorted(named), f"no side for {field.id}")
        return "general", field
    if len(named) != 1:
        raise ClinicalInputError(f"{path}.bodySite", sides, "left (7771000) or right (24028007), the patient's")
    return named.pop(), field


def _plain_value(found: dict[str, Any], field: ExamField, path: str) -> Any:
    names = [name for name in found if name.startswith("value") and not name.endswith("_ext")]
    if not names:
        return None
    name, value = names[0], found[names[0]]
    if name == "valueQuantity":
        value = value.get("value")
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if name != "valueCodeableConcept":
        return value
    codes = [item.get("code") for item in value.get("coding", []) if item.get("system") == VALUE_SYSTEM]
    if field.type == "list":
        return codes
    if len(codes) != 1:
        raise ClinicalInputError(f"{path}.value", codes, f"{field.label}: {allowed_text(field)}")
    return int(codes[0]) if field.type == "int" and str(codes[0]).isdigit() else codes[0]


def load_exam_bundle(path: str | Path) -> Exam:
    """Examination from a file with a FHIR Bundle (JSON)."""
    path = Path(path)
    return exam_from_bundle(load_text(read_text(path), f"{path.name}.json"))


def bundle_text(bundle: dict[str, Any]) -> str:
    """A bundle as JSON text."""
    return json.dumps(bundle, indent=2, ensure_ascii=False) + "\n"


def require_extra() -> None:
    """FhirExtraMissingError when the package that checks FHIR is not installed."""
    if importlib.util.find_spec("fhir") is None or importlib.util.find_spec("fhir.resources") is None:
        raise FhirExtraMissingError("FHIR needs the extra of that name: pip install 'recess[fhir]'")


def _checked(content: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The content, when fhir.resources takes it as R4B. ClinicalInputError names the element that does not fit."""
    require_extra()
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import ValidationError

    try:
        get_fhir_model_class(content["resourceType"]).model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ClinicalInputError(f"{path}.{where}".lstrip("."), first.get("input"), first["msg"]) from error
    return content
