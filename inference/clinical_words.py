"""Words of the clinical report: catalogue sentences, names of entries and findings, and the list of what is never said.

Every sentence comes from configs/clinical/words.<language>.toml; `forbidden` is asked for every string that leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from configs.clinical import words
from inference.report import Sentence
from inference.roots import ImagingFinding

DISCLAIMER = words().sentence["W-16"]
"""Stands on every page, in every document and below every answer."""


class ForbiddenWordsError(AssertionError):
    """A string of the program itself says what it must never say; a fault of the program, not of the input."""


@cache
def _patterns(language: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((item.rule, re.compile(item.pattern, re.IGNORECASE)) for item in words(language).forbidden)


@lru_cache(maxsize=4096)
def forbidden(text: str, language: str = "en") -> tuple[str, ...]:
    """Rules F-01 to F-09 that a string breaks; empty when it may leave."""
    return tuple(rule for rule, pattern in _patterns(language) if pattern.search(text))


def quoted(text: str, language: str = "en") -> str:
    """Text that a person entered, on one line; left out where it holds what the report never says."""
    line = " ".join(text.split())
    return words(language).sentence["quote_withheld"] if forbidden(line, language) else line


def say(key: str, language: str = "en", /, **filled: object) -> Sentence:
    """The sentence `key` of the catalogue with its names filled in. ForbiddenWordsError when it may not leave.

    A variant of a sentence is named after it with a dot ("W-05.signs") and leaves under the same id.
    """
    text = words(language).sentence[key].format(**filled)
    text = text[:1].upper() + text[1:]
    broken = forbidden(text, language)
    if broken:
        raise ForbiddenWordsError(f"{key}: {', '.join(broken)}: {text}")
    return Sentence(id=key.partition(".")[0], text=text)


def word(key: str, language: str = "en") -> str:
    """One word of the catalogue."""
    return words(language).word[key]


def verdict_reasons(rules: Iterable[str], withheld: str | None, language: str = "en") -> tuple[str, ...]:
    """Why a finding got its verdict, in words; a withheld one says the reader's reason."""
    reasons = words(language).reason
    out = [reasons[rule] for rule in rules if rule in reasons]
    if withheld is not None:
        out = [f"{reasons['CAP-01']}: {reason_withheld(withheld, language)}"]
    return tuple(out)


def join(items: Iterable[str], language: str = "en") -> str:
    """A list in one sentence."""
    return ", ".join(items)


@cache
def _labels(language: str) -> Mapping[str, str]:
    names = dict(words(language).field)
    for area in ("L2", "L3", "L4", "L5", "S1", "S2"):
        names[f"pain.{area}"] = word("pain_area", language).format(area=area)
    return names | {
        "umn.hyper": word("hyper_reflexia", language),
        "bb.pvr": names["bb.pvr_ml"],
        "ten.slr": names["ten.slr_deg"],
    }


def sided(side: str, name: str, language: str = "en") -> str:
    """A name with the side it belongs to."""
    return word("sided", language).format(side=word(side, language), name=name)


def label(key: str, language: str = "en") -> str:
    """Name of an entry given as side:field or field: the side where there is one, and the label of the field."""
    side, _, field = key.rpartition(":")
    name = _labels(language).get(field, field)
    return sided(side, name, language) if side in {"left", "right"} else name


def entry(key: str, value: Any, language: str = "en") -> str:
    """An entry with its value as recorded."""
    field = key.rpartition(":")[2]
    if value is True:
        return label(key, language)
    names = words(language).value
    if value is False:
        value = word("no", language)
    if isinstance(value, (list, tuple)):
        value = "/".join(names.get(str(item), str(item)) for item in value) or word("asked_none", language)
    shown = names.get(str(value), str(value))
    return f"{label(key, language)} {'MRC ' if field.startswith('mrc.') else ''}{shown}"


def told_input(key: str, value: object, language: str = "en") -> str | None:
    """An input of a triage rule as a person reads it; None where a blank says nothing by itself."""
    block, _, field = key.partition(":")
    if block == "imaging":
        return str(value)
    if field == "time.onset_days":
        return word("not_recorded", language) if value is None else word("onset_days", language).format(n=value)
    return None if value is None else entry(key, value, language)


def reason_withheld(reason: str, language: str = "en") -> str:
    """Why a value is withheld, in the language where the reason is one of the closed list."""
    for key, text in words().withheld.items():
        if text == reason:
            return words(language).withheld[key]
    return quoted(reason, language)


def name_place(level: str, side: str | None, zone: str | None, what: str, language: str = "en") -> str:
    """Level, side, zone and what is there, in the order of the language; side and zone may be None."""
    parts = {"level": level, "what": word(what, language)}
    parts |= {key: word(name, language) for key, name in (("side", side), ("zone", zone)) if name is not None}
    return " ".join(parts[key] for key in word("place_order", language).split() if key in parts)


def name_finding(finding: ImagingFinding, language: str = "en", severity: str | None = None) -> str:
    """A finding as a reader would name it: level, side, zone, what it is, how severe."""
    what = finding.type if finding.condition == "herniation" and finding.type else finding.condition
    zone = finding.zone if finding.condition == "herniation" else None
    central = finding.condition == "canal_stenosis" or (finding.side == "midline" and zone == "central")
    text = name_place(finding.level, None if central else finding.side, zone, what, language)
    grade = severity or finding.severity
    return f"{text} ({word(grade, language)})" if grade else text


def name_root(key: str, language: str = "en") -> str:
    """A root given as side:root, or the cauda equina given as general:CES."""
    side, _, root = key.partition(":")
    if side == "general":
        return word("cauda_equina", language)
    return word("root_name", language).format(side=word(side, language), root=root)
