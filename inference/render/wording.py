"""Words and figures of the page: names of severities, kinds and verdicts, values with their uncertainty, fields of the exam.

All names come from the catalogue of the report's language; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from configs.clinical import words
from inference.clinical_words import entry, label, word
from inference.render.pictures import digits_of, spoken, unit_text, value_text
from inference.report import Finding, Measurement

_FIELDS_IN_ANSWER = 6  # the rest stands with the rules below
_NEARLY_CERTAIN = 0.99
_IMAGING = "imaging:"  # inputs of a rule that come from the images, not from the examination
SILENT_TIER_RULE = "TR-18"  # open safety items: told as such, not field by field


def some(items: Iterable[str], language: str = "en", most: int = _FIELDS_IN_ANSWER) -> str:
    """The first few of a list, each once."""
    distinct = list(dict.fromkeys(items))
    return ", ".join(distinct[:most]) + (f" {words(language).page['and_more']}" if len(distinct) > most else "")


def what_text(finding: Finding, language: str = "en") -> str:
    """What was found in words: kind, type of a herniation, zone."""
    page, what = words(language).page, word(finding.kind, language)
    if finding.kind == "herniation" and finding.type:
        if finding.type == "none":
            return page["no_herniation"]
        what = page["herniation_type"].format(type=word(finding.type, language))
    return f"{what}, {word(finding.zone, language)}" if finding.zone else what


def kind_text(kind: str, language: str = "en") -> str:
    """A kind of finding in words; one that the catalogue does not hold as it is."""
    return words(language).word.get(kind, kind)


def side_text(finding: Finding, language: str = "en") -> str:
    """The side in words; a canal has none, and neither has a herniation that is not there."""
    without = finding.kind == "canal_stenosis" or finding.type == "none"
    return "" if without else word(finding.side, language)


def place_text(level: str, side: str | None, language: str = "en") -> str:
    """Level and side in words, "L4-L5 right"."""
    return f"{level} {words(language).word.get(side, side)}" if side else level


def measurement_text(measurement: Measurement, language: str = "en") -> str:
    """One value with its uncertainty: "recess depth 1.9 ± 0.6 mm (borderline)"."""
    text = _share(measurement.value) if measurement.unit == "1" else value_text(measurement)
    if measurement.uncertainty is not None:
        digits = digits_of(measurement.unit)
        value = f"{measurement.value:.{digits}f} ± {measurement.uncertainty:.{digits}f}"
        text = f"{value} {unit_text(measurement.unit)}"
    doubt = f" ({words(language).page['borderline']})" if measurement.borderline else ""
    return f"{spoken(measurement.name, language)} {text}{doubt}"


def probability_text(finding: Finding, language: str = "en") -> str:
    """Probability of the finding with its interval; empty where none is given, never printed as certain."""
    if finding.probability is None:
        return ""
    text = _share(finding.probability)
    if finding.interval is None:
        return text
    low, high = (_share(value) for value in finding.interval)
    return f"{text} ({words(language).page['range'].format(low=low, high=high)})"


def _share(value: float) -> str:
    if value > _NEARLY_CERTAIN:
        return f">{_NEARLY_CERTAIN:.2f}"
    return f"<{1 - _NEARLY_CERTAIN:.2f}" if value < 1 - _NEARLY_CERTAIN else f"{value:.2f}"


def basis_text(basis: str, language: str = "en") -> str:
    """On what a value or a name rests, in the language where it is one of the known grounds."""
    known = {text: key for key, text in words().basis.items()}
    return words(language).basis[known[basis]] if basis in known else basis


def field_text(field: str, language: str = "en") -> str:
    """A field of the examination in words: `right:mrc.tibialis_anterior` becomes "right tibialis anterior"."""
    return label(field.removeprefix("general:"), language)


def value_of_field(field: str, value: Any, language: str = "en") -> str:
    """A field with what was recorded in it; a blank one is "not examined"."""
    if field.startswith(_IMAGING):
        return str(value)
    if value is None:
        return words(language).page["field_blank"].format(field=field_text(field, language))
    return entry(field.removeprefix("general:"), value, language)
