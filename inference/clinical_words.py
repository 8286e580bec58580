"""Words of the clinical report: catalogue sentences, names of entries and findings, and the list of what is never said.

Every sentence comes from configs/clinical/words.<language>.toml; `forbidden` is asked for every string that leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from configs.clinical import exam_table, words
from inference.report import Sentence
from inference.roots import ImagingFinding

DISCLAIMER = words().sentence["W-16"]
"""Stands on every page, in every document and below every answer."""


class ForbiddenWordsError(AssertionError):
    """A string of the program itself says what it must never say; a fault of the program, not of the input."""


@cache
def _patterns(language: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((item.rule, re.compile(item.pattern, re.IGNORECASE)) for item in words(language).forbidden)


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
        out = [f"{reasons['CAP-01']}: {quoted(withheld, language)}"]
    return tuple(out)


def join(items: Iterable[str], language: str = "en") -> str:
    """A list in one sentence."""
    return ", ".join(items)


@cache
def _labels() -> Mapping[str, str]:
    out = {field.id: field.label for field in exam_table().field}
    out |= {f"pain.{name}": f"leg pain in the {name} area" for name in ("L2", "L3", "L4", "L5", "S1", "S2")}
    return out | {"umn.hyper": "brisk reflexes", "bb.pvr": "post-void residual (mL)", "ten.slr": "straight-leg raise"}


def label(key: str, language: str = "en") -> str:
    """Name of an entry given as side:field or field: the side where there is one, and the label of the field."""
    side, _, field = key.rpartition(":")
    name = _labels().get(field, field)
    return f"{word(side, language)} {name}" if side in {"left", "right"} else name


def entry(key: str, value: Any, language: str = "en") -> str:
    """An entry with its value as recorded."""
    field = key.rpartition(":")[2]
    if value is True:
        return label(key, language)
    if value is False:
        value = word("no", language)
    if isinstance(value, (list, tuple)):
        value = "/".join(str(item) for item in value) or word("asked_none", language)
    shown = str(value).replace("_", " ")
    return f"{label(key, language)} {'MRC ' if field.startswith('mrc.') else ''}{shown}"


def name_finding(finding: ImagingFinding, language: str = "en", severity: str | None = None) -> str:
    """A finding as a reader would name it: level, side, zone, what it is, how severe."""
    what = finding.type if finding.condition == "herniation" and finding.type else finding.condition
    zone = finding.zone if finding.condition == "herniation" else None
    side = (
        None
        if finding.condition == "canal_stenosis" or (finding.side == "midline" and zone == "central")
        else finding.side
    )
    grade = severity or finding.severity
    parts = [finding.level, *(word(part, language) for part in (side, zone, what) if part is not None)]
    text = " ".join(parts)
    return f"{text} ({word(grade, language)})" if grade else text


def name_root(key: str, language: str = "en") -> str:
    """A root given as side:root, or the cauda equina given as general:CES."""
    side, _, root = key.partition(":")
    if side == "general":
        return word("cauda_equina", language)
    return f"{word(side, language)} {root} {word('root', language)}"
