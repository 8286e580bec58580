"""What the page says, in reading order and in words: one structure from which HTML, PDF and terminal text are laid out.

Every value comes from the report; here it is only named, ordered and put beside its uncertainty. Wording: configs/clinical.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from configs.clinical import words
from inference.clinical_words import join, name_root, reason_withheld, word
from inference.render.answers import Answer, explain_answer, flag_answer, flag_name, gap_answer, no_flag, wait_answer
from inference.render.page_tables import Table, levels_table, provenance_rows, series_table, tables
from inference.render.pictures import SEVERITY_RANK
from inference.render.wording import (
    basis_text,
    measurement_text,
    probability_text,
    side_text,
    what_text,
)
from inference.report import Finding, Report, Section, Withheld

_LEVEL_ORDER = ("T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
_SIDE_ORDER = ("left", "right", "both", "midline", None)


@dataclass(frozen=True)
class FindingRow:
    level: str
    side: str
    what: str
    severity: str
    tone: str
    values: tuple[str, ...]
    probability: str
    basis: str
    roots: str
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class WithheldRow:
    level: str
    side: str
    what: str
    reason: str
    code: str


@dataclass(frozen=True)
class Part:
    """One narrative section: heading, sentences with their ids, and the tables that belong to it."""

    heading: str
    sentences: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    key: str = ""


@dataclass(frozen=True)
class Page:
    """Everything on the page, top to bottom."""

    title: str
    study: str
    made: str
    date_iso: str
    abstained: str
    answers: tuple[Answer, ...]
    flags: tuple[FindingRow, ...]
    no_flag: str
    read: tuple[FindingRow, ...]
    withheld: tuple[WithheldRow, ...]
    parts: tuple[Part, ...]
    series: Table
    levels: Table
    warnings: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    disclaimer: str
    language: str
    text: dict[str, str]
    """Headings and labels in the language of the report."""


def page_of(report: Report) -> Page:
    """The page of a report, in the report's language. Equal reports give equal pages."""
    text = words(report.language).page
    flags = sorted((f for f in report.findings if f.flagged), key=_flag_order)
    unflagged = sorted((f for f in report.findings if not f.flagged), key=_place_order)
    return Page(
        title=text["title"],
        study=report.study.pseudonym if report.study else text["no_study"],
        made=report.created_at.strftime("%Y-%m-%d %H:%M UTC"),
        date_iso=report.created_at.isoformat(),
        abstained=report.abstained_reason or "" if report.status == "abstained" else "",
        answers=(
            wait_answer(report.triage, report.exam is not None, report.language),
            explain_answer(report.concordance, report.language, {f.id: flag_name(f, report.language) for f in flags}),
            flag_answer(report, flags),
            *gap_answer(report),
        ),
        flags=tuple(_finding_row(report, finding) for finding in flags),
        no_flag=no_flag(report, flags),
        read=tuple(_finding_row(report, finding) for finding in unflagged),
        withheld=tuple(_withheld_row(item, report.language) for item in sorted(report.withheld, key=_withheld_order)),
        parts=_parts(report),
        series=series_table(report),
        levels=levels_table(report),
        warnings=tuple((item.code, item.text) for item in report.warnings),
        provenance=provenance_rows(report),
        disclaimer=report.disclaimer,
        language=report.language,
        text=text,
    )


def _finding_row(report: Report, finding: Finding) -> FindingRow:
    language = report.language
    verdicts = {v.finding_id: v for v in report.concordance.per_finding} if report.concordance else {}
    verdict = verdicts.get(finding.id)
    return FindingRow(
        level=finding.level,
        side=side_text(finding, language),
        what=what_text(finding, language),
        severity=word(finding.severity, language),
        tone=finding.severity,
        values=tuple(measurement_text(m, language) for m in finding.measurements),
        probability=probability_text(finding, language),
        basis=basis_text(finding.basis, language),
        roots=join(name_root(root, language) for root in finding.roots_at_risk) if finding.flagged else "",
        verdict=words(language).judged[verdict.verdict] if verdict else "",
        reasons=verdict.reasons if verdict else (),
    )


def _withheld_row(item: Withheld, language: str) -> WithheldRow:
    level = item.level or words(language).page["all_levels"]
    side = word(item.side, language) if item.side else ""
    return WithheldRow(level, side, word(item.kind, language), reason_withheld(item.reason, language), item.code)


def _parts(report: Report) -> tuple[Part, ...]:
    """Differences from a first read, then the narrative in the report's own order with its tables, then the other tables."""
    found = tables(report)
    first_read = found.pop("second_read", None)
    parts = [Part(first_read.title, (), (first_read,))] if first_read else []
    for section in report.narrative:
        mine = tuple(found.pop(subject) for subject in _subjects(section) if subject in found)
        # the disclaimer ends every page; it is not said twice
        sentences = tuple(
            (s.id if s.id.startswith("W-") else "", s.text) for s in section.sentences if s.text != report.disclaimer
        )
        parts.append(Part(section.section, sentences, mine, section.key or ""))
    return (*parts, *(Part(table.title, (), (table,)) for table in found.values()))


_SUBJECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("must not wait", ("triage",)),
    ("explain the deficit", ("verdicts",)),
    ("unexplained", ("unexplained", "alternatives", "missing", "next_tests")),
    ("not examined", ("not_examined",)),
    ("may be wrong", ("contradictions",)),
    ("why", ()),
)


def _subjects(section: Section) -> tuple[str, ...]:
    if section.key is not None:
        return ()  # the answers in sentences stay together on the first page; their tables follow
    name = section.section.replace("_", " ").lower()
    return next((subjects for words, subjects in _SUBJECTS if words in name), ())


def _flag_order(finding: Finding) -> tuple[int, int, int]:
    return (-SEVERITY_RANK[finding.severity], *_place_order(finding)[:2])


def _place_order(finding: Finding) -> tuple[int, int, str]:
    return -_index(_LEVEL_ORDER, finding.level), _index(_SIDE_ORDER, finding.side), finding.kind


def _withheld_order(item: Withheld) -> tuple[int, int, str]:
    return -_index(_LEVEL_ORDER, item.level), _index(_SIDE_ORDER, item.side), item.kind


def _index(order: Iterable[str | None], value: str | None) -> int:
    known = tuple(order)
    return known.index(value) if value in known else len(known)
