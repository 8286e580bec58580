"""Shapes of what the correlation knows: routes, sign matrix, model numbers and patterns. Names that do not meet are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.clinical.form import Strict, Value

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
ROOTS = ("L3", "L4", "L5", "S1")
LOCAL = ("CPN", "DPN", "SCI", "PLX")
SHARED = ("PN", "MND", "CEN", "CES", "MYO")
CAUSES = LOCAL + SHARED


class Route(Strict):
    central: dict[str, Probability]
    subarticular: dict[str, Probability]
    foraminal: dict[str, Probability]
    canal: dict[str, Probability]


class MigrationRule(Strict):
    from_mm: float
    up_adds_exiting_root: Probability
    down_keeps_traversing_root: Probability
    source: str


class ScoliosisRule(Strict):
    level: str
    condition: str
    root: str
    ratio: Positive
    source: str


class Routes(Strict):
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


class Evidence(Strict):
    signs: tuple[str, ...]
    causes: tuple[str, ...]
    source: str
    confidence: Literal["H", "M", "L"]


class Sign(Strict):
    """One row of the matrix: weight of each cause and the rate without any."""

    id: str
    kind: Literal["motor", "reflex", "sensory", "pain", "tension", "emg", "other", "general"]
    leak: Probability
    w: dict[str, Probability]


class Matrix(Strict):
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


class PriorFactor(Strict):
    cause: str
    factor: Positive
    field: str | None = None
    equals: Value | None = None
    onset_within_days: int | None = None


class PriorLimits(Strict):
    cpn_at_most: Probability
    none_at_least: Probability


class ImagingRatios(Strict):
    ratio_by_grade: tuple[Positive, Positive, Positive, Positive]
    ratio_way_out_free: Positive
    cauda_equina_ratio: Positive
    cauda_equina_from_grade: int
    source: str


class HerniationSeverity(Strict):
    severe_root_grade: int
    severe_ap_mm: float
    severe_area_fraction: float
    moderate_root_grade: int
    moderate_ap_mm: float


class Elderly(Strict):
    from_age: int
    leak: dict[str, Probability]
    doubled: tuple[str, ...]
    doubled_at_most: Probability


class SacralForm(Strict):
    leg_factor: Probability
    kept: tuple[str, ...]


class Cuts(Strict):
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


class AdequacyItem(Strict):
    fields: tuple[str, ...]
    weight: Positive


class Model(Strict):
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


class Pattern(Strict):
    id: str
    text: str
    source: str
    lists: tuple[str, ...] = ()
    always: tuple[str, ...] = ()


class NextTest(Strict):
    id: str
    text: str


class Patterns(Strict):
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
