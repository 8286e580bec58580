"""What the clinical half knows, as checked data: examination fields, root routes, sign matrix, model numbers, rules and words.

Every number stands in one of the TOML files of this folder with its source and confidence; an unknown id or key is an error at load.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from configs.clinical.site import load_table, rests_on_tables
from configs.loader import ConfigError, config_path, load_toml

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Value = bool | int | str
ROOTS = ("L3", "L4", "L5", "S1")
LOCAL = ("CPN", "DPN", "SCI", "PLX")
SHARED = ("PN", "MND", "CEN", "CES", "MYO")
CAUSES = LOCAL + SHARED


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(_Strict):
    """Allowed values of a field and what each means at the bedside."""

    name: str
    text: str
    values: dict[str, str]


class FieldGroup(_Strict):
    name: str
    block: Literal["side", "general"]
    label: str


class ExamField(_Strict):
    """One item of the examination."""

    id: str
    block: Literal["side", "general"]
    group: str
    type: Literal["enum", "int", "int_or_negative", "bool", "list", "date", "datetime", "text"]
    label: str
    text: str = ""
    scale: str | None = None
    min: int | None = None
    max: int | None = None
    attest: Literal["motor", "sensory", "reflex", "tension", "umn"] | None = None
    normal: Value | None = None
    paired: tuple[str, ...] = ()
    safety: bool = False
    blank_matters: bool = True


class Derived(_Strict):
    slr_positive_below_deg: int
    toe_raises_weak_below: int
    toe_raises_contradict_below: int
    residual_abnormal_from_ml: int
    residual_contradicts_from_ml: int
    reflex_reduced_to: int
    reflex_brisk_from: int
    reflex_clonic_from: int
    marked_weakness_to: float
    emg_needle_valid_from_days: int
    imaging_apart_over_days: int
    source: str


class ExamTable(_Strict):
    """The whole examination form."""

    derived: Derived
    mrc_numeric: dict[str, float]
    scale: tuple[Scale, ...]
    group: tuple[FieldGroup, ...]
    field: tuple[ExamField, ...]

    @model_validator(mode="after")
    def _names_meet(self) -> ExamTable:
        scales = {scale.name for scale in self.scale}
        groups = {(group.name, group.block) for group in self.group}
        ids = [field.id for field in self.field]
        if len(set(ids)) != len(ids):
            raise ValueError("a field id stands twice")
        for field in self.field:
            if field.scale is not None and field.scale not in scales:
                raise ValueError(f"{field.id}: unknown scale {field.scale!r}")
            if (field.group, field.block) not in groups:
                raise ValueError(f"{field.id}: unknown group {field.group!r}")
            if field.type in {"enum", "list"} and field.scale is None:
                raise ValueError(f"{field.id}: a choice needs a scale")
            if set(field.paired) - set(ids):
                raise ValueError(f"{field.id}: paired with an unknown field")
        return self

    def block(self, name: Literal["side", "general"]) -> tuple[ExamField, ...]:
        """Fields of one block, in the order of the form."""
        return tuple(field for field in self.field if field.block == name)

    def scale_of(self, field: ExamField) -> Scale:
        """The scale of a choice. KeyError when the field has none."""
        for scale in self.scale:
            if scale.name == field.scale:
                return scale
        raise KeyError(field.id)

    def find(self, field_id: str) -> ExamField:
        """The field `field_id`. KeyError when there is none."""
        for field in self.field:
            if field.id == field_id:
                return field
        raise KeyError(field_id)


class Route(_Strict):
    central: dict[str, Probability]
    subarticular: dict[str, Probability]
    foraminal: dict[str, Probability]
    canal: dict[str, Probability]


class MigrationRule(_Strict):
    from_mm: float
    up_adds_exiting_root: Probability
    down_keeps_traversing_root: Probability
    source: str


class ScoliosisRule(_Strict):
    level: str
    condition: str
    root: str
    ratio: Positive
    source: str


class Routes(_Strict):
    """Which roots a lesion reaches."""

    source: str
    endangered_from: Probability
    modelled_roots: tuple[str, ...]
    migration: MigrationRule
    scoliosis: ScoliosisRule
    route: dict[str, Route]
    exiting: dict[str, str]
    traversing: dict[str, str]
    way_out: dict[str, tuple[tuple[str, str], ...]]

    @model_validator(mode="after")
    def _roots_are_modelled(self) -> Routes:
        roots = set(self.modelled_roots)
        for level, route in self.route.items():
            for zone in (route.central, route.subarticular, route.foraminal, route.canal):
                if set(zone) - roots:
                    raise ValueError(f"{level}: unknown root {sorted(set(zone) - roots)}")
        if set(self.way_out) != roots or self.modelled_roots != ROOTS:
            raise ValueError("way_out and modelled_roots name L3, L4, L5 and S1")
        return self


class Evidence(_Strict):
    signs: tuple[str, ...]
    causes: tuple[str, ...]
    source: str
    confidence: Literal["H", "M", "L"]


class Sign(_Strict):
    """One row of the matrix: weight of each cause and the rate without any."""

    id: str
    kind: Literal["motor", "reflex", "sensory", "pain", "tension", "emg", "other", "general"]
    leak: Probability
    w: dict[str, Probability]


class Matrix(_Strict):
    """The sign matrix with the source of its entries."""

    source: str
    confidence_from: dict[str, float]
    evidence: tuple[Evidence, ...]
    sign: tuple[Sign, ...]

    @model_validator(mode="after")
    def _names_meet(self) -> Matrix:
        ids = {sign.id for sign in self.sign}
        known = set(ROOTS) | set(CAUSES)
        for sign in self.sign:
            if set(sign.w) - known:
                raise ValueError(f"{sign.id}: unknown cause {sorted(set(sign.w) - known)}")
        for item in self.evidence:
            if set(item.signs) - ids or set(item.causes) - known:
                raise ValueError(f"evidence {item.source[:40]!r} names an unknown sign or cause")
        return self


class PriorFactor(_Strict):
    cause: str
    factor: Positive
    field: str | None = None
    equals: Value | None = None
    onset_within_days: int | None = None


class PriorLimits(_Strict):
    cpn_at_most: Probability
    none_at_least: Probability


class ImagingRatios(_Strict):
    ratio_by_grade: tuple[Positive, Positive, Positive, Positive]
    ratio_way_out_free: Positive
    cauda_equina_ratio: Positive
    cauda_equina_from_grade: int
    source: str


class HerniationSeverity(_Strict):
    severe_root_grade: int
    severe_ap_mm: float
    severe_area_fraction: float
    moderate_root_grade: int
    moderate_ap_mm: float


class Elderly(_Strict):
    from_age: int
    leak: dict[str, Probability]
    doubled: tuple[str, ...]
    doubled_at_most: Probability


class SacralForm(_Strict):
    leg_factor: Probability
    kept: tuple[str, ...]


class Cuts(_Strict):
    """Cuts of the verdicts."""

    root_counts_from_weight: Probability
    explains_grade: int
    explains_share: Probability
    explains_p: Probability
    explains_clinical: Probability
    contributes_share: Probability
    contributes_p_any: Probability
    dismiss_share: Probability
    dismiss_p_any: Probability
    mirrored_clinical: Probability
    adequacy_minimum: Probability
    adequacy_for_explains: Probability
    adequacy_for_nothing: Probability
    root_implicated_p: Probability
    root_implicated_clinical: Probability
    root_mild_p_any: Probability
    root_mild_clinical_any: Probability
    root_mild_side_share: Probability
    study_concordant_share: Probability
    study_partly_share: Probability
    study_withheld_share: Probability
    unexplained_below: Probability
    unexplained_weight: float
    alternative_listed_from: Probability
    pattern_lists_from: Probability
    double_root_p: Probability
    double_nerve_p: Probability
    missing_carries_from: Probability
    missing_shown: int
    missing_worth_bits: float
    bands: dict[str, Probability]


class AdequacyItem(_Strict):
    fields: tuple[str, ...]
    weight: Positive


class Model(_Strict):
    """Numbers of the correlation model."""

    source: str
    root_prior: dict[str, tuple[Probability, Probability, Probability]]
    local_prior: dict[str, Probability]
    shared_prior: dict[str, Probability]
    prior_limits: PriorLimits
    prior_factor: tuple[PriorFactor, ...]
    imaging: ImagingRatios
    grade: dict[str, tuple[int, int, int]]
    herniation_severity: HerniationSeverity
    mild_root: dict[str, Probability]
    marked_weakness: dict[str, Probability]
    exponent: dict[str, Positive]
    elderly: Elderly
    sacral_form: SacralForm
    deficit_weight: dict[str, Positive]
    verdict: Cuts
    adequacy: tuple[AdequacyItem, ...]

    @model_validator(mode="after")
    def _priors_are_priors(self) -> Model:
        if set(self.root_prior) != set(ROOTS) or set(self.local_prior) != set(LOCAL):
            raise ValueError("root_prior and local_prior name every root and every local cause")
        if set(self.shared_prior) != set(SHARED):
            raise ValueError("shared_prior names every shared cause")
        for root, prior in self.root_prior.items():
            if abs(sum(prior) - 1) > 1e-9:
                raise ValueError(f"root_prior {root} does not add up to 1")
        for factor in self.prior_factor:
            if factor.cause not in CAUSES or (factor.field is None) == (factor.onset_within_days is None):
                raise ValueError(f"prior_factor of {factor.cause}: a known cause, and a field or an onset")
        return self


class Pattern(_Strict):
    id: str
    text: str
    source: str
    lists: tuple[str, ...] = ()
    always: tuple[str, ...] = ()


class NextTest(_Strict):
    id: str
    text: str


class Patterns(_Strict):
    """Patterns of the examination and the names of the causes."""

    pattern: tuple[Pattern, ...]
    hip_operation: dict[str, tuple[str, ...]]
    days: dict[str, int]
    cause: dict[str, str]
    next_test: tuple[NextTest, ...]

    @model_validator(mode="after")
    def _causes_are_known(self) -> Patterns:
        if set(self.cause) != set(CAUSES):
            raise ValueError("cause names every cause once")
        for pattern in self.pattern:
            if set(pattern.lists + pattern.always) - set(CAUSES):
                raise ValueError(f"{pattern.id} lists an unknown cause")
        return self


class Rule(_Strict):
    id: str
    tiers: tuple[Literal["T1", "T2", "T3", "T4"], ...]
    text: str
    source: str
    confidence: Literal["H", "M", "L"]


class PanelPosition(_Strict):
    source: str
    says: str


class PanelSubject(_Strict):
    id: str
    subject: str
    shown: str
    positions: tuple[PanelPosition, ...]

    def texts(self) -> dict[str, str]:
        """Its texts by key: SD-01.subject, SD-01.shown, SD-01.1 and so on for the positions in their order."""
        positions = {f"{self.id}.{n}": one.says for n, one in enumerate(self.positions, start=1)}
        return {f"{self.id}.subject": self.subject, f"{self.id}.shown": self.shown} | positions


class Panel(_Strict):
    rules: tuple[str, ...]
    subject: tuple[PanelSubject, ...]


class TriageCuts(_Strict):
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


class TriageRules(_Strict):
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


class Difference(_Strict):
    id: str
    weight: float
    text: str


class SecondReadRules(_Strict):
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


class Agreement(_Strict):
    condition: str
    item: str
    kappa: tuple[float, float]
    source: str


class SourceText(_Strict):
    file: str
    title: str


class Sources(_Strict):
    """Cited texts and the agreement between readers."""

    text: dict[str, SourceText]
    agreement: tuple[Agreement, ...]

    def name(self, source: str) -> str:
        """A source with the file of its text, where it is one of the cited texts."""
        return f"{source} ({self.text[source].file})" if source in self.text else source


class Forbidden(_Strict):
    rule: str
    pattern: str


class Words(_Strict):
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
    tier: dict[str, str] = {}
    rule: dict[str, str] = {}
    rule_source: dict[str, str] = {}
    panel: dict[str, str] = {}
    difference: dict[str, str] = {}
    kappa_item: dict[str, str] = {}
    field: dict[str, str] = {}
    group: dict[str, str] = {}
    value: dict[str, str] = {}
    pattern: dict[str, str] = {}
    cause: dict[str, str] = {}
    next_test: dict[str, str] = {}
    forbidden: tuple[Forbidden, ...]


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
