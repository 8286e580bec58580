"""What the page says, in reading order and in words: one structure from which HTML, PDF and terminal text are laid out.

Every value comes from the report; here it is only named, ordered and put beside its uncertainty. Wording: configs/clinical.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inference.render.pictures import SEVERITY_RANK
from inference.render.wording import (
    IMAGING,
    KIND_WORDS,
    NO_EXAM,
    NO_EXAM_TIER,
    NO_FLAG,
    NOTHING_READ,
    ROLE_WORDS,
    SEVERITY_WORDS,
    TIER_WORDS,
    VERDICT_WORDS,
    field_text,
    measurement_text,
    place_text,
    probability_text,
    side_text,
    some,
    value_of_field,
    what_text,
)
from inference.report import Concordance, Finding, Report, Section, Triage, Withheld

_LEVEL_ORDER = ("T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
_SIDE_ORDER = ("left", "right", "both", "midline", None)


@dataclass(frozen=True)
class Answer:
    """One of the answers at the top: the question, the answer in a word or two, a line below, and how loud it is."""

    question: str
    word: str
    line: str
    tone: str


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
class Table:
    """A small table below a narrative section."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


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


def page_of(report: Report) -> Page:
    """The page of a report. Equal reports give equal pages."""
    flags = sorted((f for f in report.findings if f.flagged), key=_flag_order)
    unflagged = sorted((f for f in report.findings if not f.flagged), key=_place_order)
    return Page(
        title="Lumbar MRI: second read",
        study=report.study.pseudonym if report.study else "no study",
        made=report.created_at.strftime("%Y-%m-%d %H:%M UTC"),
        date_iso=report.created_at.isoformat(),
        abstained=report.abstained_reason or "" if report.status == "abstained" else "",
        answers=(
            wait_answer(report.triage, report.exam is not None),
            explain_answer(report.concordance),
            _flag_answer(report, flags),
            *_gap_answer(report),
        ),
        flags=tuple(_finding_row(report, finding) for finding in flags),
        no_flag=_no_flag(report, flags),
        read=tuple(_finding_row(report, finding) for finding in unflagged),
        withheld=tuple(_withheld_row(item) for item in sorted(report.withheld, key=_withheld_order)),
        parts=_parts(report),
        series=_series(report),
        levels=_levels(report),
        warnings=tuple((item.code, item.text) for item in report.warnings),
        provenance=_provenance(report),
        disclaimer=report.disclaimer,
        language=report.language,
    )


def wait_answer(triage: Triage | None, examined: bool = True) -> Answer:
    """What must not wait: the tier with the fields it rests on; without an examination, that none was entered."""
    question = "What must not wait"
    if triage is None:
        return Answer(question, "not triaged", NO_EXAM, "unknown")
    deciding = [rule for rule in triage.rules if rule.tier in {None, triage.tier} and (examined or rule.id != "TR-18")]
    if not deciding:
        return Answer(question, f"{triage.tier}, nothing entered", f"{NO_EXAM} {NO_EXAM_TIER}", "unknown")
    named = [field_text(f) for rule in deciding for f in rule.inputs if not f.startswith(IMAGING)]
    named += [str(v) for rule in deciding for f, v in rule.inputs.items() if f.startswith(IMAGING)]
    fields = some(named)
    tone = {"T1": "alarm", "T2": "strong", "T3": "mild", "T4": "quiet"}[triage.tier]
    line = _sentence(TIER_WORDS[triage.tier], fields)
    return Answer(question, triage.tier, line if examined else f"{NO_EXAM} From the images: {line}", tone)


def explain_answer(concordance: Concordance | None) -> Answer:
    """Whether the image explains the deficit: the study's verdict with the roots that the deficits point to."""
    question = "Does the image explain the deficit"
    if concordance is None:
        return Answer(question, "not compared", NO_EXAM, "unknown")
    roots = ", ".join(root.replace(":", " ") for root in concordance.roots_implicated)
    line = f"Roots that the recorded deficits point to: {roots}." if roots else "No single root stands out."
    return Answer(question, VERDICT_WORDS[concordance.verdict], line, "plain")


def _gap_answer(report: Report) -> tuple[Answer, ...]:
    """With an examination: how much of it is blank, which entries would tell most, and how many values were withheld."""
    if report.exam is None or report.concordance is None:
        return ()
    blank, held = len(report.exam.not_examined), len(report.withheld)
    most = some([field_text(item.field) for item in report.concordance.missing])
    line = (f"Would tell most: {most}. " if most else "") + (f"{held} image values withheld." if held else "")
    return (
        Answer("What is not known", f"{blank} not examined", line.strip(), "unknown" if blank or held else "quiet"),
    )


def _no_flag(report: Report, flags: list[Finding]) -> str:
    """What stands in place of flags: that none was raised where something was read, or that nothing was read."""
    if flags or report.status == "abstained":
        return ""
    return NO_FLAG if report.findings else NOTHING_READ


def _flag_answer(report: Report, flags: list[Finding]) -> Answer:
    question = "What was flagged"
    if report.status == "abstained":
        return Answer(question, "not read", report.abstained_reason or "", "unknown")
    held = (
        f"{len(report.withheld)} value{'s' if len(report.withheld) != 1 else ''} withheld." if report.withheld else ""
    )
    if not report.findings:
        return Answer(question, "nothing read", f"{NOTHING_READ} {held}".strip(), "unknown")
    if not flags:
        return Answer(question, "no flag", f"{NO_FLAG} {held}".strip(), "quiet")
    worst = max(SEVERITY_RANK[f.severity] for f in flags)
    places = some(place_text(f.level, side_text(f)) for f in flags)
    word = f"{len(flags)} flag{'s' if len(flags) != 1 else ''}"
    return Answer(question, word, f"{places}. {held}".strip(), "strong" if worst == 2 else "mild")


def _sentence(text: str, fields: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + (f": {fields}." if fields else ".")


def _finding_row(report: Report, finding: Finding) -> FindingRow:
    verdicts = {v.finding_id: v for v in report.concordance.per_finding} if report.concordance else {}
    verdict = verdicts.get(finding.id)
    return FindingRow(
        level=finding.level,
        side=side_text(finding),
        what=what_text(finding),
        severity=SEVERITY_WORDS[finding.severity],
        tone=finding.severity,
        values=tuple(measurement_text(m) for m in finding.measurements),
        probability=probability_text(finding),
        basis=finding.basis,
        roots=", ".join(root.replace(":", " ") for root in finding.roots_at_risk) if finding.flagged else "",
        verdict=VERDICT_WORDS[verdict.verdict] if verdict else "",
        reasons=verdict.reasons if verdict else (),
    )


def _withheld_row(item: Withheld) -> WithheldRow:
    return WithheldRow(item.level or "all levels", item.side or "", KIND_WORDS[item.kind], item.reason, item.code)


def _parts(report: Report) -> tuple[Part, ...]:
    """Differences from a first read, then the narrative in the report's own order with its tables, then the other tables."""
    tables = _tables(report)
    first_read = tables.pop("second_read", None)
    parts = [Part(first_read.title, (), (first_read,))] if first_read else []
    for section in report.narrative:
        mine = tuple(tables.pop(subject) for subject in _subjects(section) if subject in tables)
        # the disclaimer ends every page; it is not said twice
        sentences = tuple(
            (s.id if s.id.startswith("W-") else "", s.text) for s in section.sentences if s.text != report.disclaimer
        )
        parts.append(Part(section.section, sentences, mine, section.key or ""))
    return (*parts, *(Part(table.title, (), (table,)) for table in tables.values()))


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


_TOLD = {"not_examined": "W-09", "missing": "W-12", "unexplained": "W-07", "contradictions": "W-14"}
"""Tables that say no more than a sentence of the narrative; each is left out where its sentence stands."""


def _tables(report: Report) -> dict[str, Table]:
    told = {sentence.id for section in report.narrative for sentence in section.sentences}
    tables = _all_tables(report)
    return {name: table for name, table in tables.items() if table.rows and _TOLD.get(name) not in told}


def _all_tables(report: Report) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    if report.triage:
        rules = (
            (r.id, r.text, "; ".join(value_of_field(k, v) for k, v in r.inputs.items()), r.source)
            for r in report.triage.rules
        )
        tables["triage"] = Table("Rules that fired", ("Rule", "Text", "Recorded", "Source"), tuple(rules))
        if report.triage.disagreements:
            tables["sources"] = Table(
                "Sources disagree",
                ("Subject", "Positions", "Shown here"),
                tuple(
                    (d.subject, " ".join(f"{p.source}: “{p.says}”" for p in d.positions), d.shown)
                    for d in report.triage.disagreements
                ),
            )
    if report.concordance:
        tables |= _concordance_tables(report)
    if report.exam:
        if report.exam.not_examined:
            fields = ", ".join(field_text(field) for field in report.exam.not_examined)
            tables["not_examined"] = Table("Not examined", ("Fields left blank",), ((fields,),))
        if report.exam.contradictions:
            tables["contradictions"] = Table(
                "Recorded values that do not fit together",
                ("Rule", "Fields"),
                tuple((c.id, ", ".join(field_text(f) for f in c.fields)) for c in report.exam.contradictions),
                note="Neither value was changed.",
            )
    if report.second_read:
        tables["second_read"] = _second_read_table(report)
    return tables


def _concordance_tables(report: Report) -> dict[str, Table]:
    concordance = report.concordance
    if concordance is None:
        return {}
    by_id = {finding.id: finding for finding in report.findings}
    verdicts = []
    for verdict in concordance.per_finding:
        finding = by_id.get(verdict.finding_id)
        if finding is None or not finding.flagged:
            continue
        name = f"{place_text(finding.level, side_text(finding))} {what_text(finding)}"
        verdicts.append((name, VERDICT_WORDS[verdict.verdict], "; ".join(verdict.reasons), ", ".join(verdict.rules)))
    return {
        "verdicts": Table("Finding by finding", ("Finding", "Verdict", "Reasons", "Rules"), tuple(verdicts)),
        "unexplained": Table(
            "Deficits without a matching finding",
            ("Recorded deficit",),
            tuple((field_text(field),) for field in concordance.unexplained_deficits),
        ),
        "alternatives": Table(
            "Other causes that fit recorded signs",
            ("Cause", "Weight", "For", "Against"),
            tuple(
                (
                    " ".join(word for word in (a.side, a.label or a.name) if word),
                    (a.band or "").replace("_", " "),
                    "; ".join(field_text(field) for field in a.for_),
                    "; ".join(field_text(field) for field in a.against),
                )
                for a in concordance.alternatives
                if a.for_ or a.against  # the others are named in a sentence, and there is no more to say of them
            ),
        ),
        "missing": Table(
            "Items that would separate the causes most",
            ("Item",),
            tuple((field_text(item.field),) for item in concordance.missing),
        ),
        "next_tests": Table(
            "Tests that separate the causes", ("Test",), tuple((test,) for test in concordance.next_tests)
        ),
    }


def _second_read_table(report: Report) -> Table:
    second = report.second_read
    if second is None:
        return Table("Against the first read", (), ())
    rows = [
        (
            place_text(d.level, d.side),
            KIND_WORDS.get(d.kind, d.kind),
            _graded(d.theirs),
            _graded(d.ours),
            f"{d.id}, {d.direction}",
        )
        for d in sorted(second.discrepancies, key=lambda d: -d.weight)
    ]
    note = (
        f"Agreement in {len(second.agreements)} place{'s' if len(second.agreements) != 1 else ''}; "
        f"not comparable in {len(second.not_comparable)}. Agreement is not correctness."
    )
    rows = rows or [("none", "", "", "", "no place differs")]
    return Table("Against the first read", ("Place", "What", "First read", "Here", "Difference"), tuple(rows), note)


def _graded(value: str | None) -> str:
    return "not mentioned" if value is None else SEVERITY_WORDS.get(value, value)


def _series(report: Report) -> Table:
    rows = []
    for item in report.study.series if report.study else ():
        spacing = " × ".join(f"{value:.2f}" for value in item.spacing_mm) if item.spacing_mm else "not known"
        reason = item.reason + (f". Warnings: {', '.join(item.warnings)}." if item.warnings else "")
        rows.append((ROLE_WORDS[item.role], str(item.slices), spacing, reason))
    return Table("Series", ("Role", "Slices", "Spacing, mm", "Why this role"), tuple(rows))


def _levels(report: Report) -> Table:
    rows = tuple(
        (
            level.name + (f" (or {level.alternative_name})" if level.alternative_name else ""),
            f"{level.confidence:.2f}",
            level.basis,
        )
        for level in report.levels
    )
    numbering = report.study.numbering if report.study else ""
    note = "" if numbering != "uncertain" else "Level numbering is uncertain; names may shift by one."
    return Table("Levels", ("Disc", "Confidence in the name", "Basis"), rows, note)


def _provenance(report: Report) -> tuple[tuple[str, str], ...]:
    used = report.software
    rows = [("Report", report.id), ("Result key", report.result_key), ("Software", f"recess {used.version}")]
    rows += [("Commit", used.commit)] if used.commit else []
    rows += [("Configuration", used.configs_sha256)]
    if used.site:
        rows += [("Numbers of a site", f"{used.site.name} ({used.site.source}), {used.site.sha256}")]
    rows += [
        ("Model", f"{m.name} {m.version}, {m.sha256}; trained on {m.trained_on}; calibrated on {m.calibrated_on}")
        for m in report.models
    ]
    if report.study:
        rows += [("Study", report.study.study_instance_uid), ("Input", report.study.manifest_sha256)]
    if report.runtime:
        rows += [("Runtime", f"{report.runtime.device}, {report.runtime.precision}, {report.runtime.engine}")]
        rows += [("Fallback", text) for text in report.runtime.fallbacks]
    return (*rows, ("Libraries", ", ".join(f"{name} {version}" for name, version in used.libraries.items())))


def _flag_order(finding: Finding) -> tuple[int, int, int]:
    return (-SEVERITY_RANK[finding.severity], *_place_order(finding)[:2])


def _place_order(finding: Finding) -> tuple[int, int, str]:
    return -_index(_LEVEL_ORDER, finding.level), _index(_SIDE_ORDER, finding.side), finding.kind


def _withheld_order(item: Withheld) -> tuple[int, int, str]:
    return -_index(_LEVEL_ORDER, item.level), _index(_SIDE_ORDER, item.side), item.kind


def _index(order: Iterable[str | None], value: str | None) -> int:
    known = tuple(order)
    return known.index(value) if value in known else len(known)
