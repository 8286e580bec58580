"""The answers at the top of the page: what must not wait, whether the image explains the deficit, what is flagged, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from configs.clinical import words
from inference.clinical_words import join, name_root, say, told_input, word
from inference.render.pictures import SEVERITY_RANK
from inference.render.wording import SILENT_TIER_RULE, field_text, kind_text, place_text, some
from inference.report import Concordance, Finding, Report, Triage


@dataclass(frozen=True)
class Answer:
    """One of the answers at the top: the question, the answer in a word or two, a line below, and how loud it is."""

    question: str
    word: str
    line: str
    tone: str


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


def gap_answer(report: Report) -> tuple[Answer, ...]:
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


def no_flag(report: Report, flags: list[Finding]) -> str:
    """What stands in place of flags: that none was raised where something was read, or that nothing was read."""
    if flags or report.status == "abstained":
        return ""
    if not report.findings:
        return words(report.language).page["nothing_read_line"]
    return say("none_flagged", report.language).text


def flag_answer(report: Report, flags: list[Finding]) -> Answer:
    language, text = report.language, words(report.language).page
    question = text["ask_flagged"]
    if report.status == "abstained":
        return Answer(question, text["abstained"].lower(), report.abstained_reason or "", "unknown")
    held = text["values_withheld"].format(n=len(report.withheld)) if report.withheld else ""
    if not flags:
        said, tone = (text["no_flag"], "quiet") if report.findings else (text["nothing_read"], "unknown")
        return Answer(question, said, f"{no_flag(report, flags)} {held}".strip(), tone)
    worst = max(SEVERITY_RANK[f.severity] for f in flags)
    places = some((flag_name(f, language) for f in flags), language)
    said = text["one_flag"] if len(flags) == 1 else text["flags_count"].format(n=len(flags))
    return Answer(question, said, f"{places}. {held}".strip(), "strong" if worst == 2 else "mild")


def flag_name(finding: Finding, language: str) -> str:
    """A flag in a few words: place and kind."""
    return f"{place_text(finding.level, raw_side(finding), language)} {kind_text(finding.kind, language)}"


def raw_side(finding: Finding) -> str | None:
    """The side that stands beside the level; a canal has none."""
    return None if finding.kind == "canal_stenosis" else finding.side
