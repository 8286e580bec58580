"""The tables of the page: rules, verdicts and causes, the first read, series, levels, and where everything comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from configs.clinical import words
from inference.clinical_words import join, say, sided, word
from inference.disc_grades import most_likely_grade
from inference.render.answers import raw_side
from inference.render.wording import basis_text, field_text, kind_text, place_text, value_of_field, what_text
from inference.report import Concordance, Report, SecondRead


@dataclass(frozen=True)
class Table:
    """A small table below a narrative section; `kind` is its name in the program, `title` what stands above it."""

    kind: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


_TOLD = {"not_examined": "W-09", "missing": "W-12", "unexplained": "W-07", "contradictions": "W-14"}
"""Tables that say no more than a sentence of the narrative; each is left out where its sentence stands."""


def tables(report: Report) -> dict[str, Table]:
    """The tables of the report by subject, without the empty ones and those that a sentence of the narrative stands for."""
    told = {sentence.id for section in report.narrative for sentence in section.sentences}
    return {name: table for name, table in _all_tables(report).items() if table.rows and _TOLD.get(name) not in told}


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
        name = f"{place_text(finding.level, raw_side(finding), language)} {what_text(finding, language)}"
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


def series_table(report: Report) -> Table:
    """Every series with its role and why it has it."""
    text, roles = words(report.language).page, words(report.language).role
    rows = []
    for item in report.study.series if report.study else ():
        spacing = " × ".join(f"{value:.2f}" for value in item.spacing_mm) if item.spacing_mm else text["not_known"]
        warned = ". " + text["series_warnings"].format(list=", ".join(item.warnings)) if item.warnings else ""
        rows.append((roles[item.role], str(item.slices), spacing, item.reason + warned))
    return _table("series", report.language, ("role", "slices", "spacing", "why_role"), rows)


def levels_table(report: Report) -> Table:
    """Every disc with how sure its name is, and its grade."""
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


def provenance_rows(report: Report) -> tuple[tuple[str, str], ...]:
    """What the report rests on: software, configuration, networks, study and runtime, each named."""
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
