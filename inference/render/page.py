"""What the page says, in reading order and in words: one structure from which HTML, PDF and terminal text are laid out.

Every value comes from the report; here it is only named, ordered and put beside its uncertainty. Wording: configs/clinical.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from configs.clinical import words
from inference.clinical_words import join, name_root, reason_withheld, say, sided, told_input, word
from inference.disc_grades import most_likely_grade
from inference.render.pictures import SEVERITY_RANK
from inference.render.wording import (
    SILENT_TIER_RULE,
    basis_text,
    field_text,
    kind_text,
    measurement_text,
    place_text,
    probability_text,
    side_text,
    some,
    value_of_field,
    what_text,
)
from inference.report import Concordance, Finding, Report, SecondRead, Section, Triage, Withheld

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
    """A small table below a narrative section; `kind` is its name in the program, `title` what stands above it."""

    kind: str
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
            explain_answer(report.concordance, report.language, {f.id: _flag_name(f, report.language) for f in flags}),
            _flag_answer(report, flags),
            *_gap_answer(report),
        ),
        flags=tuple(_finding_row(report, finding) for finding in flags),
        no_flag=_no_flag(report, flags),
        read=tuple(_finding_row(report, finding) for finding in unflagged),
        withheld=tuple(_withheld_row(item, report.language) for item in sorted(report.withheld, key=_withheld_order)),
        parts=_parts(report),
        series=_series(report),
        levels=_levels(report),
        warnings=tuple((item.code, item.text) for item in report.warnings),
        provenance=_provenance(report),
        disclaimer=report.disclaimer,
        language=report.language,
        text=text,
    )


def wait_answer(triage: Triage | None, examined: bool = True, language: str = "en") -> Answer:
    """What must not wait: the tier with the fields it rests on; without an examination, that none was entered."""
    catalogue = words(language)
    text, question = catalogue.page, catalogue.section["urgent"]
    if triage is None:
        return Answer(question, text["not_triaged"], text["no_exam"], "unknown")
    deciding = [rule for rule in triage.rules if rule.tier in {None, triage.tier}]
    telling = [rule for rule in deciding if rule.id != SILENT_TIER_RULE]
    if not examined and not telling:
        said = text["nothing_entered"].format(tier=triage.tier)
        return Answer(question, said, f"{text['no_exam']} {text['no_exam_tier']}", "unknown")
    inputs = [told_input(key, value, language) for rule in telling for key, value in rule.inputs.items()]
    named = some((text for text in inputs if text), language)
    line = catalogue.tier[triage.tier].format(fields=named or catalogue.tier["safety_blank"])
    tone = {"T1": "alarm", "T2": "strong", "T3": "mild", "T4": "quiet"}[triage.tier]
    if not examined:
        line = f"{text['no_exam']} {text['from_images'].format(line=line)}"
    return Answer(question, triage.tier, line, tone)


def explain_answer(
    concordance: Concordance | None, language: str = "en", names: Mapping[str, str] | None = None
) -> Answer:
    """Whether the image explains the deficit: the study's verdict, and in a line why.

    The line says the roots that the deficits point to, the flagged findings by their verdict (`names` by finding id), and what
    stays unexplained, so that the reasons stand at the top however long the tables are.
    """
    text, question = words(language).page, words(language).section["verdict"]
    if concordance is None:
        return Answer(question, text["not_compared"], text["no_exam"], "unknown")
    roots = join(name_root(key, language) for key in concordance.roots_implicated)
    lines = [say("implicated", language, list=roots) if roots else say("none_implicated", language)]
    for verdict, phrase in words(language).judged.items():
        judged = [
            names[item.finding_id]
            for item in concordance.per_finding
            if names and item.verdict == verdict and item.finding_id in names
        ]
        if judged:
            lines.append(say("judged", language, verdict=phrase, list=some(judged, language, _NAMED_IN_ANSWER)))
    if concordance.unexplained_deficits:
        open_ = (field_text(key, language) for key in concordance.unexplained_deficits)
        lines.append(say("W-07", language, list=some(open_, language, _NAMED_IN_ANSWER)))
    return Answer(question, word(concordance.verdict, language), " ".join(line.text for line in lines), "plain")


_NAMED_IN_ANSWER = 3  # of one verdict; the others stand in the table of flags


def _gap_answer(report: Report) -> tuple[Answer, ...]:
    """With an examination: how much of it is blank, which entries would tell most, and how many values were withheld."""
    if report.exam is None or report.concordance is None:
        return ()
    language, text = report.language, words(report.language).page
    blank, held = len(report.exam.not_examined), len(report.withheld)
    most = some([field_text(item.field, language) for item in report.concordance.missing], language)
    lines = [text["tell_most"].format(list=most)] if most else []
    lines += [text["values_withheld"].format(n=held)] if held else []
    said, tone = text["blank_count"].format(n=blank), "unknown" if blank or held else "quiet"
    return (Answer(text["ask_gaps"], said, " ".join(lines), tone),)


def _no_flag(report: Report, flags: list[Finding]) -> str:
    """What stands in place of flags: that none was raised where something was read, or that nothing was read."""
    if flags or report.status == "abstained":
        return ""
    if not report.findings:
        return words(report.language).page["nothing_read_line"]
    return say("none_flagged", report.language).text


def _flag_answer(report: Report, flags: list[Finding]) -> Answer:
    language, text = report.language, words(report.language).page
    question = text["ask_flagged"]
    if report.status == "abstained":
        return Answer(question, text["abstained"].lower(), report.abstained_reason or "", "unknown")
    held = text["values_withheld"].format(n=len(report.withheld)) if report.withheld else ""
    if not flags:
        said, tone = (text["no_flag"], "quiet") if report.findings else (text["nothing_read"], "unknown")
        return Answer(question, said, f"{_no_flag(report, flags)} {held}".strip(), tone)
    worst = max(SEVERITY_RANK[f.severity] for f in flags)
    places = some((_flag_name(f, language) for f in flags), language)
    said = text["one_flag"] if len(flags) == 1 else text["flags_count"].format(n=len(flags))
    return Answer(question, said, f"{places}. {held}".strip(), "strong" if worst == 2 else "mild")


def _flag_name(finding: Finding, language: str) -> str:
    """A flag in a few words: place and kind."""
    return f"{place_text(finding.level, _raw_side(finding), language)} {kind_text(finding.kind, language)}"


def _raw_side(finding: Finding) -> str | None:
    return None if finding.kind == "canal_stenosis" else finding.side


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


def _table(kind: str, language: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]], note: str = "") -> Table:
    """A table whose title and column heads are named by their keys in the catalogue."""
    text = words(language).page
    return Table(kind, text[kind], tuple(text[name] for name in head), tuple(rows), note)


def _all_tables(report: Report) -> dict[str, Table]:
    language, tables = report.language, dict[str, Table]()
    if report.triage:
        rules = (
            (r.id, r.text, "; ".join(value_of_field(k, v, language) for k, v in r.inputs.items()), r.source)
            for r in report.triage.rules
        )
        tables["triage"] = _table("rules_fired", language, ("rule", "text", "recorded", "source"), rules)
        disagreements = (
            (d.subject, " ".join(f"{p.source}: “{p.says}”" for p in d.positions), d.shown)
            for d in report.triage.disagreements
        )
        tables["sources"] = _table("sources_disagree", language, ("subject", "positions", "shown"), disagreements)
    if report.concordance:
        tables |= _concordance_tables(report, report.concordance)
    if report.exam:
        blank = join(field_text(field, language) for field in report.exam.not_examined)
        tables["not_examined"] = _table("not_examined", language, ("blank_fields",), [(blank,)] if blank else [])
        clashes = ((c.id, join(field_text(f, language) for f in c.fields)) for c in report.exam.contradictions)
        note = words(language).page["clash_note"]
        tables["contradictions"] = _table("clashes", language, ("rule", "fields"), clashes, note)
    if report.second_read:
        tables["second_read"] = _second_read_table(report.second_read, language)
    return tables


def _concordance_tables(report: Report, concordance: Concordance) -> dict[str, Table]:
    language = report.language
    by_id = {finding.id: finding for finding in report.findings}
    verdicts = []
    for verdict in concordance.per_finding:
        finding = by_id.get(verdict.finding_id)
        if finding is None or not finding.flagged:
            continue
        name = f"{place_text(finding.level, _raw_side(finding), language)} {what_text(finding, language)}"
        said = words(language).judged[verdict.verdict]
        verdicts.append((name, said, "; ".join(verdict.reasons), ", ".join(verdict.rules)))
    causes = (
        (
            sided(a.side, a.label or a.name, language) if a.side else a.label or a.name,
            word(a.band, language) if a.band else "",
            "; ".join(field_text(field, language) for field in a.for_),
            "; ".join(field_text(field, language) for field in a.against),
        )
        for a in concordance.alternatives
        if a.for_ or a.against  # the others are named in a sentence, and there is no more to say of them
    )
    return {
        "verdicts": _table("by_finding", language, ("finding", "verdict", "reasons", "rules"), verdicts),
        "unexplained": _table(
            "unmatched",
            language,
            ("deficit",),
            ((field_text(field, language),) for field in concordance.unexplained_deficits),
        ),
        "alternatives": _table("other_causes", language, ("cause", "weight", "for", "against"), causes),
        "missing": _table(
            "missing", language, ("item",), ((field_text(item.field, language),) for item in concordance.missing)
        ),
        "next_tests": _table("tests", language, ("test",), ((test,) for test in concordance.next_tests)),
    }


def _second_read_table(second: SecondRead, language: str) -> Table:
    text = words(language).page
    rows = [
        (
            place_text(d.level, d.side, language),
            kind_text(d.kind, language),
            _graded(d.theirs, language),
            _graded(d.ours, language),
            f"{d.id}, {words(language).second_read.get(d.direction, d.direction)}",
        )
        for d in sorted(second.discrepancies, key=lambda d: -d.weight)
    ]
    note = text["agreement"].format(same=len(second.agreements), open=len(second.not_comparable))
    rows = rows or [(text["no_place"], "", "", "", text["no_difference"])]
    return _table("first_read", language, ("place", "what", "theirs", "ours", "difference"), rows, note)


def _graded(value: str | None, language: str) -> str:
    if value is None:
        return words(language).page["not_mentioned"]
    return words(language).word.get(value, value)


def _series(report: Report) -> Table:
    text, roles = words(report.language).page, words(report.language).role
    rows = []
    for item in report.study.series if report.study else ():
        spacing = " × ".join(f"{value:.2f}" for value in item.spacing_mm) if item.spacing_mm else text["not_known"]
        warned = ". " + text["series_warnings"].format(list=", ".join(item.warnings)) if item.warnings else ""
        rows.append((roles[item.role], str(item.slices), spacing, item.reason + warned))
    return _table("series", report.language, ("role", "slices", "spacing", "why_role"), rows)


def _levels(report: Report) -> Table:
    text = words(report.language).page
    rows = tuple(
        (
            text["or_level"].format(name=level.name, other=level.alternative_name)
            if level.alternative_name
            else level.name,
            f"{level.confidence:.2f}",
            _pfirrmann(level.pfirrmann),
            basis_text(level.basis, report.language),
        )
        for level in report.levels
    )
    uncertain = report.study is not None and report.study.numbering == "uncertain"
    note = say("W-13", report.language).text if uncertain else ""
    return _table("levels", report.language, ("disc", "name_confidence", "pfirrmann", "basis"), rows, note)


def _pfirrmann(grades: dict[str, float] | None) -> str:
    """The most likely grade with its probability; a dash where the disc was not graded."""
    if grades is None:
        return "–"
    grade = str(most_likely_grade(grades))
    return f"{grade} ({grades[grade]:.2f})"


def _provenance(report: Report) -> tuple[tuple[str, str], ...]:
    used, text = report.software, words(report.language).page
    rows = [("report", report.id), ("result_key", report.result_key), ("software", f"recess {used.version}")]
    rows += [("commit", used.commit)] if used.commit else []
    rows += [("configuration", used.configs_sha256)]
    if used.site:
        rows += [("site", f"{used.site.name} ({used.site.source}), {used.site.sha256}")]
    rows += [
        (
            "model",
            text["model_line"].format(
                name=f"{m.name} {m.version}", sha256=m.sha256, trained=m.trained_on, calibrated=m.calibrated_on
            ),
        )
        for m in report.models
    ]
    if report.study:
        rows += [("study", report.study.study_instance_uid), ("input", report.study.manifest_sha256)]
    if report.runtime:
        rows += [("runtime", f"{report.runtime.device}, {report.runtime.precision}, {report.runtime.engine}")]
        rows += [("fallback", fallback) for fallback in report.runtime.fallbacks]
    rows += [("libraries", ", ".join(f"{name} {version}" for name, version in used.libraries.items()))]
    return tuple((text[key], value) for key, value in rows)


def _flag_order(finding: Finding) -> tuple[int, int, int]:
    return (-SEVERITY_RANK[finding.severity], *_place_order(finding)[:2])


def _place_order(finding: Finding) -> tuple[int, int, str]:
    return -_index(_LEVEL_ORDER, finding.level), _index(_SIDE_ORDER, finding.side), finding.kind


def _withheld_order(item: Withheld) -> tuple[int, int, str]:
    return -_index(_LEVEL_ORDER, item.level), _index(_SIDE_ORDER, item.side), item.kind


def _index(order: Iterable[str | None], value: str | None) -> int:
    known = tuple(order)
    return known.index(value) if value in known else len(known)
