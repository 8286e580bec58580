"""Words and figures of the page: names of severities, kinds and verdicts, values with their uncertainty, fields of the exam.

Names of examination fields come from the clinical catalogue; nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inference.clinical_words import entry, label
from inference.render.pictures import digits_of, spoken, unit_text, value_text
from inference.report import Finding, Measurement

TIER_WORDS = {
    "T1": "same-day emergency assessment",
    "T2": "urgent specialist assessment within days",
    "T3": "assessment within weeks",
    "T4": "no recorded field asks for earlier assessment",
}
VERDICT_WORDS = {
    "concordant": "concordant",
    "partly_concordant": "partly concordant",
    "discordant": "discordant",
    "indeterminate": "indeterminate",
    "explains": "on the route of the deficit",
    "contributes": "fits a part of the deficit",
    "does_not_explain": "does not match the deficit",
}
SEVERITY_WORDS = {"normal_mild": "normal or mild", "moderate": "moderate", "severe": "severe"}
KIND_WORDS = {
    "herniation": "herniation",
    "recess_stenosis": "lateral recess stenosis",
    "canal_stenosis": "canal stenosis",
    "foraminal_stenosis": "foraminal stenosis",
    "spondylolisthesis": "vertebral slip",
    "disc_degeneration": "disc degeneration",
}
ROLE_WORDS = {
    "sagittal_t2": "sagittal T2",
    "sagittal_t2_fs": "sagittal T2, fat-suppressed",
    "sagittal_t1": "sagittal T1",
    "axial_t2": "axial T2",
    "axial_t1": "axial T1",
    "localizer": "localizer",
    "other": "not used",
}
NO_FLAG = "No flag raised in the levels that were read."
NOTHING_READ = "No value could be read; this says nothing about the spine."
NO_EXAM = "No examination was entered."
NO_EXAM_TIER = "The tier says only that every safety item is open."
_FIELDS_IN_ANSWER = 6  # the rest stands with the rules below
_NEARLY_CERTAIN = 0.99
IMAGING = "imaging:"  # inputs of a rule that come from the images, not from the examination


def some(items: Iterable[str]) -> str:
    """The first few of a list, each once."""
    distinct = list(dict.fromkeys(items))
    return ", ".join(distinct[:_FIELDS_IN_ANSWER]) + (" and more" if len(distinct) > _FIELDS_IN_ANSWER else "")


def what_text(finding: Finding) -> str:
    """What was found in words: kind, type of a herniation, zone."""
    words = KIND_WORDS[finding.kind]
    if finding.kind == "herniation" and finding.type:
        if finding.type == "none":
            return "no herniation seen"
        words = f"herniation: {finding.type}"
    return f"{words}, {finding.zone}" if finding.zone else words


def side_text(finding: Finding) -> str:
    """The side in words; a canal has none, and neither has a herniation that is not there."""
    return "" if finding.kind == "canal_stenosis" or finding.type == "none" else finding.side


def place_text(level: str, side: str | None) -> str:
    """Level and side in words, "L4-L5 right"."""
    return f"{level} {side}" if side else level


def measurement_text(measurement: Measurement) -> str:
    """One value with its uncertainty: "recess depth 1.9 ± 0.6 mm (borderline)"."""
    text = value_text(measurement)
    if measurement.uncertainty is not None:
        digits = digits_of(measurement.unit)
        value = f"{measurement.value:.{digits}f} ± {measurement.uncertainty:.{digits}f}"
        text = f"{value} {unit_text(measurement.unit)}"
    return f"{spoken(measurement.name)} {text}" + (" (borderline)" if measurement.borderline else "")


def probability_text(finding: Finding) -> str:
    """Probability of the finding with its interval; empty where none is given, never printed as certain."""
    if finding.probability is None:
        return ""
    text = _share(finding.probability)
    return f"{text} ({_share(finding.interval[0])} to {_share(finding.interval[1])})" if finding.interval else text


def _share(value: float) -> str:
    if value > _NEARLY_CERTAIN:
        return f">{_NEARLY_CERTAIN:.2f}"
    return f"<{1 - _NEARLY_CERTAIN:.2f}" if value < 1 - _NEARLY_CERTAIN else f"{value:.2f}"


def field_text(field: str) -> str:
    """A field of the examination in words: `right:mrc.tibialis_anterior` becomes "right tibialis anterior"."""
    return label(field.removeprefix("general:"))


def value_of_field(field: str, value: Any) -> str:
    """A field with what was recorded in it; a blank one is "not examined"."""
    if field.startswith(IMAGING):
        return str(value)
    return f"{field_text(field)}: not examined" if value is None else entry(field.removeprefix("general:"), value)
