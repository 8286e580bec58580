"""What the clinical half knows, as checked data: examination fields, root routes, sign matrix, model numbers, rules and words.

Every number stands in one of the TOML files of this folder with its source and confidence; an unknown id or key is an error at load.
Shapes stand in `form`, `knowledge` and `rules`; here are the functions that give the checked tables.
"""

from __future__ import annotations

from functools import cache

from configs.clinical.form import ExamField, ExamTable
from configs.clinical.knowledge import (
    CAUSES,
    LOCAL,
    ROOTS,
    SHARED,
    Cuts,
    Matrix,
    Model,
    Pattern,
    Patterns,
    Route,
    Routes,
    Sign,
)
from configs.clinical.rules import SecondReadRules, Sources, TriageRules, Words
from configs.clinical.site import load_table, rests_on_tables
from configs.loader import ConfigError, config_path, load_toml

__all__ = [
    "CAUSES",
    "LOCAL",
    "ROOTS",
    "SHARED",
    "Cuts",
    "ExamField",
    "ExamTable",
    "Matrix",
    "Model",
    "Pattern",
    "Patterns",
    "Route",
    "Routes",
    "SecondReadRules",
    "Sign",
    "Sources",
    "TriageRules",
    "Words",
    "check_tables",
    "exam_table",
    "languages",
    "matrix",
    "model",
    "patterns",
    "routes",
    "second_read_rules",
    "sources",
    "triage_rules",
    "words",
]


@cache
def exam_table() -> ExamTable:
    """Fields of the examination."""
    return load_toml(config_path("clinical", "exam.toml"), ExamTable)


@rests_on_tables
def routes() -> Routes:
    """Root routes."""
    return load_table("routes", Routes)


@rests_on_tables
def matrix() -> Matrix:
    """Sign matrix."""
    return load_table("matrix", Matrix)


@rests_on_tables
def model() -> Model:
    """Model numbers; every field that an adequacy item or a prior factor names is one of the form."""
    loaded = load_table("model", Model)
    ids = {field.id for field in exam_table().field}
    named = {name for item in loaded.adequacy for name in item.fields}
    named |= {factor.field for factor in loaded.prior_factor if factor.field is not None}
    if named - ids:
        raise ConfigError(f"clinical/model.toml names unknown fields {sorted(named - ids)}")
    return loaded


@rests_on_tables
def patterns() -> Patterns:
    """Patterns of the examination."""
    return load_table("patterns", Patterns)


@rests_on_tables
def triage_rules() -> TriageRules:
    """Triage rules."""
    return load_table("triage", TriageRules)


@rests_on_tables
def second_read_rules() -> SecondReadRules:
    """Weights of differences between two readers."""
    return load_table("second_read", SecondReadRules)


def check_tables() -> None:
    """Load every table that a site may change, so that numbers that do not fit are told before any work. SiteError, ConfigError."""
    for table in (routes, matrix, model, patterns, triage_rules, second_read_rules):
        table()


@cache
def sources() -> Sources:
    """Cited texts and the agreement between readers."""
    return load_toml(config_path("clinical", "sources.toml"), Sources)


@cache
def words(language: str = "en") -> Words:
    """Sentences of `language`. ConfigError when there is no such catalogue or it lacks or adds a key of the English one."""
    loaded = load_toml(config_path("clinical", f"words.{language}.toml"), Words)
    if language == "en":
        return loaded.model_copy(update=_english_names())
    english = _keys(words("en"))
    if differs := sorted(english ^ _keys(loaded)):
        raise ConfigError(f"clinical/words.{language}.toml differs from the English catalogue in {', '.join(differs)}")
    return loaded


def _english_names() -> dict[str, dict[str, str]]:
    """Names that stand in the tables themselves."""
    table = exam_table()
    return {
        "tier": triage_rules().tier_text,
        "rule": {rule.id: rule.text for rule in triage_rules().rule},
        "rule_source": {rule.id: rule.source for rule in triage_rules().rule},
        "panel": {key: text for item in triage_rules().panel.subject for key, text in item.texts().items()},
        "difference": {item.id: item.text for item in second_read_rules().difference},
        "kappa_item": {item.condition: item.item for item in sources().agreement},
        "field": {field.id: field.label for field in table.field},
        "group": {group.name: group.label for group in table.group},
        "value": {
            value: value.replace("_", " ")
            for scale in table.scale
            for value in scale.values
            if value.replace("_", "").isalpha()
        },
        "pattern": {item.id: item.text for item in patterns().pattern},
        "cause": patterns().cause,
        "next_test": {item.id: item.text for item in patterns().next_test},
    }


@cache
def languages() -> tuple[str, ...]:
    """Languages that have a catalogue, English first."""
    names = {path.name.split(".")[1] for path in config_path("clinical", "words.en.toml").parent.glob("words.*.toml")}
    return ("en", *sorted(names - {"en"}))


def _keys(catalogue: Words) -> set[str]:
    parts = catalogue.model_dump(exclude={"forbidden"})
    return {f"{part}.{key}" for part, entries in parts.items() for key in entries}
