"""Shapes of rules and words: triage, the panel of disagreeing sources, the second read, cited sources, and the catalogue of a language."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.clinical.form import Strict
from configs.clinical.knowledge import Positive


class Rule(Strict):
    id: str
    tiers: tuple[Literal["T1", "T2", "T3", "T4"], ...]
    text: str
    source: str
    confidence: Literal["H", "M", "L"]


class PanelPosition(Strict):
    source: str
    says: str


class PanelSubject(Strict):
    id: str
    subject: str
    shown: str
    positions: tuple[PanelPosition, ...]

    def texts(self) -> dict[str, str]:
        """Its texts by key: SD-01.subject, SD-01.shown, SD-01.1 and so on for the positions in their order."""
        positions = {f"{self.id}.{n}": one.says for n, one in enumerate(self.positions, start=1)}
        return {f"{self.id}.subject": self.subject, f"{self.id}.shown": self.shown} | positions


class Panel(Strict):
    rules: tuple[str, ...]
    subject: tuple[PanelSubject, ...]


class TriageCuts(Strict):
    foot_drop_below: float
    weak_to: float
    marked_to: float
    near_paralysis_to: float
    heel_walk_unable: float
    heel_walk_difficult: float
    other_function_weak: float
    severe_leg_pain_from: int
    finding_grade_from: int
    source: str


class TriageRules(Strict):
    """Triage rules, their cuts and the panel of disagreeing sources."""

    days: dict[str, int]
    cut: TriageCuts
    tier_text: dict[str, str]
    rule: tuple[Rule, ...]
    panel: Panel

    def find(self, rule_id: str) -> Rule:
        """The rule `rule_id`. KeyError when there is none."""
        for rule in self.rule:
            if rule.id == rule_id:
                return rule
        raise KeyError(rule_id)


class Difference(Strict):
    id: str
    weight: float
    text: str


class SecondReadRules(Strict):
    """Weights of differences between two readers."""

    source: str
    urgent_tiers: tuple[str, ...]
    urgent_factor: Positive
    flag_from: float
    difference: tuple[Difference, ...]

    def find(self, rule_id: str) -> Difference:
        """The difference `rule_id`. KeyError when there is none."""
        for item in self.difference:
            if item.id == rule_id:
                return item
        raise KeyError(rule_id)


class Agreement(Strict):
    condition: str
    item: str
    kappa: tuple[float, float]
    source: str


class SourceText(Strict):
    file: str
    title: str


class Sources(Strict):
    """Cited texts and the agreement between readers."""

    text: dict[str, SourceText]
    agreement: tuple[Agreement, ...]

    def name(self, source: str) -> str:
        """A source with the file of its text, where it is one of the cited texts."""
        return f"{source} ({self.text[source].file})" if source in self.text else source


class Forbidden(Strict):
    rule: str
    pattern: str


class Words(Strict):
    """Sentences and names of one language. English names of fields, values, patterns and causes stand in their tables."""

    sentence: dict[str, str]
    section: dict[str, str]
    word: dict[str, str]
    reason: dict[str, str]
    withheld: dict[str, str]
    page: dict[str, str]
    judged: dict[str, str]
    role: dict[str, str]
    measure: dict[str, str]
    structure: dict[str, str]
    basis: dict[str, str]
    graded_by: dict[str, str]
    second_read: dict[str, str]
    source_name: dict[str, str]
    tier: dict[str, str] = Field(default_factory=dict)
    rule: dict[str, str] = Field(default_factory=dict)
    rule_source: dict[str, str] = Field(default_factory=dict)
    panel: dict[str, str] = Field(default_factory=dict)
    difference: dict[str, str] = Field(default_factory=dict)
    kappa_item: dict[str, str] = Field(default_factory=dict)
    field: dict[str, str] = Field(default_factory=dict)
    group: dict[str, str] = Field(default_factory=dict)
    value: dict[str, str] = Field(default_factory=dict)
    pattern: dict[str, str] = Field(default_factory=dict)
    cause: dict[str, str] = Field(default_factory=dict)
    next_test: dict[str, str] = Field(default_factory=dict)
    forbidden: tuple[Forbidden, ...]
