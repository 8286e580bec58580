"""The clinical half in one call: examination, images and first read in; concordance, triage, second read and sentences out.

`recess analyze` and `recess correlate` call the same function. No torch, no models, no numbers of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.clinical.site import site
from inference.clinical_case import Case
from inference.clinical_checks import contradictions, derived_values, severity_of_drop
from inference.clinical_input import ClinicalInputError, load_file
from inference.clinical_signs import MOTOR, Recorded, blanks, mrc
from inference.clinical_words import DISCLAIMER, label, say, word
from inference.correlate import build_case, concordance, judge_all
from inference.exam import SIDES, Exam
from inference.exam_versions import LOCK, ExamVersions, check_patient, load_exam
from inference.narrate import Told, narrate, narrate_without_exam
from inference.report import (
    Concordance,
    ExamRead,
    ExamVersionRead,
    Finding,
    Report,
    SecondRead,
    Section,
    Tier,
    Triage,
    Withheld,
)
from inference.roots import Imaging, imaging_from_report
from inference.second_read import FirstRead, compare_imaging
from inference.triage import TIERS, triage

__all__ = ["DISCLAIMER", "Assessment", "ClinicalInputError", "assess", "correlate_files", "imaging_from_report"]


@dataclass(frozen=True)
class Assessment:
    """All that the clinical half says about one case; parts that need an examination are None without one."""

    exam: ExamRead | None
    concordance: Concordance | None
    triage: Triage
    second_read: SecondRead | None
    narrative: tuple[Section, ...]
    disclaimer: str = DISCLAIMER
    exam_versions: tuple[ExamVersionRead, ...] = ()
    language: str = "en"

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready; keys as in report.json, absent parts left out."""
        out: dict[str, Any] = {}
        for name in ("exam", "concordance", "triage", "second_read"):
            part = getattr(self, name)
            if part is not None:
                out[name] = part.model_dump(mode="json", by_alias=True, exclude_none=True)
        if self.exam_versions:
            out["exam_versions"] = [item.model_dump(mode="json", exclude_none=True) for item in self.exam_versions]
        if (used := site()) is not None:
            out["site"] = used.model_dump(mode="json")
        out["narrative"] = [section.model_dump(mode="json") for section in self.narrative]
        return out | {"language": self.language, "disclaimer": self.disclaimer}


def assess(
    exam: Exam | ExamVersions | None,
    imaging: Imaging,
    first_read: FirstRead | None = None,
    findings: Sequence[Finding] = (),
    withheld: Sequence[Withheld] = (),
    earlier_tier: Tier | None = None,
    language: str = "en",
) -> Assessment:
    """Judge one case. `findings` and `withheld` are the report's, where there is one, for the sentences without an examination.

    Without an examination there is no concordance, and the tier is that of a blank one: safety items are open.
    Of several versions the one that was locked before findings were shown gives the verdict; a later one can only raise the tier.
    `earlier_tier` does the same for a caller that keeps versions itself.
    """
    if exam is None:
        urgency = triage(Exam(), imaging, language=language)
        second = compare_imaging(first_read, imaging, None, urgency, language) if first_read else None
        said = narrate_without_exam(findings, withheld, imaging, urgency, language)
        return Assessment(None, None, urgency, second, said, say("W-16", language).text, language=language)
    if isinstance(exam, ExamVersions):
        return _assess_versions(exam, imaging, first_read, language)
    case = build_case(exam, imaging)
    judged = concordance(case, judge_all(case), language)
    urgency = triage(exam, imaging, judged.per_finding, earlier_tier, language)
    return _assessment(case, judged, urgency, first_read, language)


def _assessment(
    case: Case,
    judged: Concordance,
    urgency: Triage,
    first_read: FirstRead | None,
    language: str,
    versions: tuple[ExamVersionRead, ...] = (),
) -> Assessment:
    assert case.imaging is not None
    clashes = contradictions(case.seen)
    told = Told(case.seen, case.imaging, judged, urgency, clashes, versions)
    read = ExamRead(
        summary=_summary(case.seen, language),
        derived=derived_values(case.seen),
        not_examined=blanks(case.seen),
        contradictions=clashes,
    )
    second = compare_imaging(first_read, case.imaging, judged, urgency, language) if first_read else None
    said = narrate(told, language)
    return Assessment(read, judged, urgency, second, said, say("W-16", language).text, versions, language)


def _assess_versions(series: ExamVersions, imaging: Imaging, first_read: FirstRead | None, language: str) -> Assessment:
    """The version of the study gives verdict and sentences; the tier is the most urgent of it and all later versions (TR-D3)."""
    cases = [build_case(exam, imaging) for exam in series.versions]
    judged = [concordance(case, judge_all(case), language) for case in cases]
    urgency: list[Triage] = []
    for index, exam in enumerate(series.versions):
        earlier = urgency[-1].tier if series.entered_after_findings(index) else None
        urgency.append(triage(exam, imaging, judged[index].per_finding, earlier, language))
    rows = tuple(
        ExamVersionRead(
            version=index + 1,
            locked_at=exam.general.get(LOCK),
            of_study=index == series.of_study,
            entered_after_findings=series.entered_after_findings(index),
            changed=series.changed(index),
            verdict=judged[index].verdict,
            tier=urgency[index].tier,
        )
        for index, exam in enumerate(series.versions)
    )
    place = series.of_study
    raised = min(urgency[place:], key=lambda item: TIERS.index(item.tier))
    shown = rows if len(rows) > 1 else ()
    return _assessment(cases[place], judged[place], raised, first_read, language, shown)


def _summary(seen: Recorded, language: str) -> str:
    """One line: weak muscles and foot drop per side, as recorded."""
    parts: list[str] = []
    for side in SIDES:
        values = seen.side(side)
        weak = [
            f"{label(muscle, language)} {values[muscle]}"
            for muscle in MOTOR
            if (grade := mrc(values, muscle)) is not None and grade < 5
        ]
        drop = severity_of_drop(values)
        notes = [word("foot_drop", language).format(grade=word(drop, language))] if drop else []
        notes += weak
        if notes:
            parts.append(f"{word(side, language)}: {', '.join(notes)}")
    return "; ".join(parts) or _no_weakness(seen, language)


def _no_weakness(seen: Recorded, language: str) -> str:
    """What the line says when no weakness is recorded: that, or that strength was not examined."""
    graded = any(mrc(seen.side(side), muscle) is not None for side in SIDES for muscle in MOTOR)
    return word("no_weakness" if graded else "strength_blank", language)


@contextmanager
def _in_file(path: str | Path) -> Iterator[None]:
    """Put the file's name in front of a refusal, so that the reader knows which of the files to mend."""
    name = Path(path).name
    try:
        yield
    except ClinicalInputError as error:
        where = error.path if error.path in {name, "file"} else f"{name}: {error.path}"
        raise ClinicalInputError(where, error.given, error.allowed) from error


def correlate_files(
    exam_path: str | Path,
    findings_path: str | Path,
    first_read_path: str | Path | None = None,
    language: str = "en",
) -> dict[str, Any]:
    """`recess correlate`: read the files, judge the case, give JSON-ready data. ClinicalInputError names file and field."""
    return assess_files(exam_path, findings_path, first_read_path, language).to_plain()


def assess_files(
    exam_path: str | Path,
    findings_path: str | Path,
    first_read_path: str | Path | None = None,
    language: str = "en",
) -> Assessment:
    """The same as typed parts, for writers of other formats."""
    with _in_file(exam_path):
        exam = load_exam(exam_path)
    with _in_file(findings_path):
        content = load_file(Path(findings_path))
        imaging = Imaging.parse(content)
    first = None
    if first_read_path is not None:
        with _in_file(first_read_path):
            first = FirstRead.load(first_read_path)
    findings: Sequence[Finding] = ()
    withheld: Sequence[Withheld] = ()
    if isinstance(content, dict) and "schema" in content:
        report = Report.model_validate(content)
        findings, withheld = report.findings, report.withheld
        if report.study is not None:
            with _in_file(exam_path):
                check_patient(exam, report.study.pseudonym)
    return assess(exam, imaging, first, findings, withheld, language=language)
