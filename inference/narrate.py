"""The report in sentences, in the order a surgeon asks: what must not wait; does the image explain the deficit; why; what stays open.

Sentences and their ids come from configs/clinical/words.<language>.toml; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from configs.clinical import exam_table, words
from configs.clinical.site import site
from inference.clinical_missing import first_missing
from inference.clinical_signs import Recorded, blanks, side_blank
from inference.clinical_words import (
    DISCLAIMER,
    entry,
    forbidden,
    join,
    label,
    name_finding,
    name_place,
    name_root,
    quoted,
    reason_withheld,
    say,
    sided,
    told_input,
    verdict_reasons,
    word,
)
from inference.exam import SIDES
from inference.report import (
    Concordance,
    Contradiction,
    ExamVersionRead,
    Finding,
    FindingVerdict,
    RootBelief,
    Section,
    Sentence,
    Triage,
    Withheld,
)
from inference.roots import READER, Imaging, ImagingFinding, borderline, not_read, severity_of
from inference.triage import disputed

__all__ = ["DISCLAIMER", "Told", "forbidden", "narrate", "narrate_without_exam"]

LUMBAR_LEVELS = ("L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
"""Levels whose absence is worth a sentence in a lumbar study."""

_MISSING_NAMED = 5
"""Items of the missing list that the sentence names; the report holds all of them."""


@dataclass(frozen=True)
class Told:
    """What the sentences are made from."""

    seen: Recorded
    imaging: Imaging | None
    concordance: Concordance
    triage: Triage
    contradictions: tuple[Contradiction, ...]
    versions: tuple[ExamVersionRead, ...] = ()


def narrate(told: Told, language: str = "en") -> tuple[Section, ...]:
    """All sections of a case with an examination, in their fixed order; the last sentence is the disclaimer."""
    parts = {
        "urgent": _urgent(told.triage, language),
        "verdict": _verdict(told, language),
        "why": _why(told, language),
        "unexplained": _unexplained(told, language),
        "unknown": _unknown(told, language),
        "limits": _versions(told, language) + _limits(told, language),
    }
    return _sections(parts, language)


def _sections(parts: dict[str, list[Sentence]], language: str) -> tuple[Section, ...]:
    titles = words(language).section
    return tuple(Section(section=titles[key], key=key, sentences=tuple(text)) for key, text in parts.items() if text)


def _urgent(triage: Triage, language: str) -> list[Sentence]:
    tier = triage.tier
    shown: dict[str, None] = {}
    for rule in triage.rules:
        if rule.tier == tier and rule.id != "TR-18":
            for key, value in rule.inputs.items():
                if text := told_input(key, value, language):
                    shown[text] = None
    wording = words(language).tier
    fields = join(shown) or wording["safety_blank"]
    out = [say("W-11", language, tier=tier, fields=wording[tier].format(fields=fields))]
    open_safety = [key for rule in triage.rules if rule.id == "TR-18" for key in rule.inputs]
    if open_safety:
        out.append(say("safety_blank", language, list=join(label(key, language) for key in open_safety)))
    if disputed(triage.rules):
        out.append(say("W-18", language))
    return out


def _verdict(told: Told, language: str) -> list[Sentence]:
    out = [
        say(
            "W-05" if told.concordance.deficit_recorded else "W-05.signs",
            language,
            verdict=word(told.concordance.verdict, language),
            share=_share(told.concordance.share),
        )
    ]
    if told.contradictions:
        out = [
            say("W-14", language, pair=" / ".join(_recorded(field, told.seen, language) for field in item.fields))
            for item in told.contradictions
        ] + out
    if not told.concordance.deficit_recorded:
        out.append(say("W-15", language))
    for finding, verdict in _shown(told):
        out.append(_judged(finding, verdict, told, language))
        if "V-07" in verdict.rules:
            out.append(say("W-06", language))
    return out


def _shown(told: Told) -> Iterable[tuple[ImagingFinding, FindingVerdict]]:
    """Findings worth a sentence: withheld ones stand further down, a stenosis that is normal or mild in none."""
    findings = {item.id: item for item in (told.imaging.findings if told.imaging else ())}
    for verdict in told.concordance.per_finding:
        finding = findings[verdict.finding_id]
        if finding.withheld is None and (verdict.grade or finding.condition == "herniation"):
            yield finding, verdict


def _judged(finding: ImagingFinding, verdict: FindingVerdict, told: Told, language: str) -> Sentence:
    name = _name(finding, told.imaging, language)
    if verdict.verdict in {"explains", "contributes"}:
        roots = verdict.carrying_roots or verdict.roots
        routes = f" {word('and', language)} ".join(name_root(key, language) for key in roots)
        if verdict.verdict == "explains":
            that = word("that_root" if len(roots) == 1 else "those_roots", language)
            return say("W-01", language, finding=name, roots=routes, that_root=that, share=_share(verdict.share))
        reasons = words(language).reason
        caps = join(reasons[rule] for rule in verdict.rules if rule.startswith("CAP"))
        return say("W-02", language, finding=name, roots=routes, caps=caps or reasons["partial_fit"])
    if verdict.verdict == "indeterminate":
        return say(
            "W-04", language, finding=name, reason=join(verdict_reasons(verdict.rules, finding.withheld, language))
        )
    return say("W-03", language, finding=name)


def _name(finding: ImagingFinding, imaging: Imaging | None, language: str) -> str:
    severity = None
    if imaging is not None and finding.withheld is None:
        severity = severity_of(finding, imaging)[0]
    return name_finding(finding, language, severity)


def _share(value: float) -> str:
    return f"{value:.2f}"


def _why(told: Told, language: str) -> list[Sentence]:
    concordance = told.concordance
    out = _graded_by(told, language)
    if concordance.roots_implicated:
        names = join(name_root(key, language) for key in concordance.roots_implicated)
        out.append(say("implicated", language, list=names))
        for belief in concordance.roots:
            key = f"{belief.side}:{belief.root}"
            if key in concordance.roots_implicated:
                out.append(_root_sentence(belief, language))
    elif concordance.deficit_recorded:
        out.append(say("none_implicated", language))
    for item in concordance.patterns:
        side = "" if item.side == "general" else f"{word(item.side, language)}: "
        out.append(say("pattern", language, side=side, text=item.text))
    if concordance.alternatives:
        causes = words(language).cause
        named = join(
            sided(item.side, causes[item.name], language) if item.side else causes[item.name]
            for item in concordance.alternatives
        )
        out.append(say("W-08", language, list=named))
    ids = {item.id for item in concordance.patterns}
    if {"CEN", "MND"} & {item.name for item in concordance.alternatives}:
        out.append(say("W-17", language))
    if "DX-15" in ids:
        days = told.seen.general.get("emg.days_after_onset")
        out.append(say("W-19", language, days=word("unknown_number", language) if days is None else days))
    return out


def _graded_by(told: Told, language: str) -> list[Sentence]:
    """From what a severity was taken that the reader of the images did not give (IM-08, IM-13)."""
    out: list[Sentence] = []
    for finding, _ in _shown(told):
        assert told.imaging is not None
        by = severity_of(finding, told.imaging)[1]
        if by != READER:
            ground = words(language).graded_by[by]
            doubt = f" ({words(language).page['borderline']})" if by == "recess_mm" and borderline(finding) else ""
            out.append(say("graded_by", language, finding=_name(finding, told.imaging, language), by=ground + doubt))
    return out


def _root_sentence(belief: RootBelief, language: str) -> Sentence:
    """How strongly a root is suspected; where compression is not favoured, how strongly irritation or more is."""
    root = name_root(f"{belief.side}:{belief.root}", language)
    bands, key = (belief.band_exam_only, belief.band_with_imaging), "why_root"
    if belief.band_with_imaging in {"unlikely", "possible"}:
        bands, key = (belief.band_any_exam_only, belief.band_any_with_imaging), "why_root_mild"
    clinical, joint = (word(band or "unlikely", language) for band in bands)
    return say(key, language, root=root, clinical=clinical, joint=joint)


def _unexplained(told: Told, language: str) -> list[Sentence]:
    keys = told.concordance.unexplained_deficits
    out = [say("W-07", language, list=join(_recorded(key, told.seen, language) for key in keys))] if keys else []
    items = first_missing(told.concordance.missing, _MISSING_NAMED)
    if items:
        out.append(say("W-12", language, list=join(label(item.field, language) for item in items)))
    return out + [say("next_test", language, text=text) for text in told.concordance.next_tests]


def _recorded(key: str, seen: Recorded, language: str) -> str:
    block, _, field = key.partition(":")
    values = seen.general if block == "general" else seen.side("left" if block == "left" else "right")
    value = values.get(field)
    return label(key, language) if value is None else entry(key, value, language)


def _unknown(told: Told, language: str) -> list[Sentence]:
    out: list[Sentence] = []
    blank = blanks(told.seen)
    if blank:
        out.append(say("W-09", language, list=_blank_list(blank, told.seen, language)))
    empty = [side for side in SIDES if side_blank(told.seen, side)]
    out += [say("one_side", language, side=word(side, language)) for side in empty if len(empty) == 1]
    if told.imaging is not None:
        out += _withheld(told.imaging, language)
        out += _not_read(told.imaging, language)
    return out


def _withheld(imaging: Imaging, language: str) -> list[Sentence]:
    """One sentence per reason, with all sites that it took away."""
    sites: dict[str, list[str]] = {}
    for finding in imaging.findings:
        if finding.withheld is not None:
            central = finding.condition == "canal_stenosis" or finding.side == "midline"
            site_name = name_place(finding.level, None if central else finding.side, None, finding.condition, language)
            sites.setdefault(reason_withheld(finding.withheld, language), []).append(site_name)
    return [say("W-10", language, site=join(names), reason=reason) for reason, names in sites.items()]


def _not_read(imaging: Imaging, language: str) -> list[Sentence]:
    if not imaging.present:
        return [say("nothing_read", language)]
    parts = []
    for level, sites in not_read(imaging, LUMBAR_LEVELS).items():
        names = "" if len(sites) == 4 else " " + "/".join(word(site, language) for site in sites)
        parts.append(f"{level}{names}")
    return [say("not_read", language, list=join(parts))] if parts else []


def _blank_list(blank: Sequence[str], seen: Recorded, language: str) -> str:
    """Blank entries by side; a group that is blank as a whole is named once, a blank side in one word."""
    table = exam_table()
    parts: list[str] = []
    for block in ("general", "right", "left"):
        keys = [key.partition(":")[2] for key in blank if key.startswith(f"{block}:")]
        if not keys:
            continue
        if block != "general" and side_blank(seen, "left" if block == "left" else "right"):
            parts.append(f"{word(block, language)}: {word('everything', language)}")
            continue
        names: list[str] = []
        kind = "general" if block == "general" else "side"
        for group in table.group:
            if group.block != kind:
                continue
            all_of = [field.id for field in table.field if field.group == group.name and field.block == kind]
            here = [key for key in keys if key in all_of]
            asked = [field for field in all_of if table.find(field).blank_matters]
            names += (
                [words(language).group[group.name]]
                if len(here) == len(asked) > 1
                else [label(key, language) for key in here]
            )
        parts.append(f"{word(block, language)}: {join(names)}")
    return "; ".join(parts)


def _limits(told: Told, language: str) -> list[Sentence]:
    out: list[Sentence] = []
    rules = set(told.concordance.rules_fired)
    if "CAP-03" in rules:
        out.append(say("W-13", language))
    if "CAP-04" in rules:
        out.append(say("adequacy_minimal", language))
    elif "CAP-02" in rules:
        out.append(say("adequacy_low", language))
    attested = sorted({side for side, _ in told.seen.attested})
    if attested:
        out.append(say("attested", language, list=join(word(side, language) for side in attested)))
    return out + _always(language)


def _versions(told: Told, language: str) -> list[Sentence]:
    """Which version of the examination the verdict rests on, and what every later one says by itself (M-04)."""
    if not told.versions:
        return []
    place = next(item for item in told.versions if item.of_study)
    out = [say("version_used", language, n=place.version, total=len(told.versions))]
    for item in told.versions:
        if item.entered_after_findings:
            verdict = word(item.verdict, language)
            fields = join(label(key, language) for key in item.changed) or word("nothing", language)
            out.append(say("version_later", language, n=item.version, list=fields, verdict=verdict, tier=item.tier))
    return out


def _always(language: str) -> list[Sentence]:
    """What ends every answer; the disclaimer is its last sentence."""
    used = site()
    of_site = []
    if used is not None:
        of_site = [say("site_numbers", language, name=quoted(used.name, language), list="; ".join(used.changed))]
    return [*of_site, say("one_cause", language), say("not_validated", language), say("W-16", language)]


def narrate_without_exam(
    findings: Sequence[Finding], withheld: Sequence[Withheld], imaging: Imaging, triage: Triage, language: str = "en"
) -> tuple[Section, ...]:
    """Sections of a reading without an examination: what was found, what was not read, and that no exam was entered."""
    named = {item.id: item for item in imaging.findings}
    flagged = [_name(named[item.id], imaging, language) for item in findings if item.flagged and item.id in named]
    others = [
        name_place(item.level, None, None, item.kind, language)
        for item in findings
        if item.flagged and item.id not in named
    ]
    found = flagged + others
    if found:
        first = [say("flagged", language, list=join(found))]
    elif findings:
        first = [say("none_flagged", language)]
    else:
        first = [say("nothing_read", language)]
    unknown = _withheld(imaging, language)
    unknown += [
        say("W-10", language, site=word(item.kind, language), reason=reason_withheld(item.reason, language))
        for item in withheld
        if item.level is None
    ]
    unknown += _not_read(imaging, language) if imaging.present else []
    unknown.append(say("no_exam", language))
    limits = [say("W-13", language)] if imaging.numbering == "uncertain" else []
    limits += [item for item in _always(language) if item.id != "one_cause"]
    urgent = [item for item in _urgent(triage, language) if item.id != "safety_blank"]
    urgent.append(say("no_exam_tier", language))
    return _sections({"urgent": urgent, "findings": first, "unknown": unknown, "limits": limits}, language)
