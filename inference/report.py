"""The types that leave: everything a report says, as one versioned JSON document ("recess.report/1").

Everything else (HTML, PDF, SEG, SR, key images) is rendered from it and nothing is computed after it. Knows no torch and no models.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA: Literal["recess.report/1"] = "recess.report/1"

Level = Literal["T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1"]
Side = Literal["left", "right", "both", "midline"]
Zone = Literal["central", "subarticular", "foraminal", "extraforaminal"]
Kind = Literal[
    "herniation", "recess_stenosis", "canal_stenosis", "foraminal_stenosis", "spondylolisthesis", "disc_degeneration"
]
Severity = Literal["normal_mild", "moderate", "severe"]
HerniationType = Literal["none", "bulge", "protrusion", "extrusion", "sequestration"]
Role = Literal["sagittal_t2", "sagittal_t2_fs", "sagittal_t1", "axial_t2", "axial_t1", "localizer", "other"]
Tier = Literal["T1", "T2", "T3", "T4"]
Point = tuple[float, float, float]


class Leaving(BaseModel):
    """Base of all parts: unknown keys are an error, values do not change after they were made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReportWarning(Leaving):
    """Something the reader of the report should know about the input: a stable code and a plain sentence."""

    code: str
    text: str
    series: str | None = None


class SiteNumbers(Leaving):
    """Numbers of a site that stand in place of the shipped ones: who set them, why, the hash of the file and each change."""

    name: str
    source: str
    sha256: str
    changed: tuple[str, ...]


class Software(Leaving):
    version: str
    commit: str | None = None
    configs_sha256: str
    site: SiteNumbers | None = None
    libraries: dict[str, str]


class ModelUsed(Leaving):
    """A network that took part: what it learned from and what its probabilities were calibrated on."""

    name: str
    version: str
    sha256: str
    trained_on: str
    calibrated_on: str


class Runtime(Leaving):
    device: str
    precision: str
    engine: str
    fallbacks: tuple[str, ...] = ()


class SeriesRead(Leaving):
    """One stack of the study with the role it was given and why."""

    role: Role
    reason: str
    series_instance_uid: str
    slices: int
    spacing_mm: Point | None = None
    orientation: str | None = None
    warnings: tuple[str, ...] = ()


class StudyRead(Leaving):
    pseudonym: str
    study_instance_uid: str
    manifest_sha256: str
    numbering: Literal["certain", "uncertain"]
    scoliosis_convex: Literal["left", "right"] | None = None
    series: tuple[SeriesRead, ...]


class Plane(Leaving):
    point: Point
    normal: Point


class LevelRead(Leaving):
    """A disc that was found, the name it was given, on what ground, and how sure that name is (0..1)."""

    name: str
    basis: str
    confidence: float = Field(ge=0, le=1)
    alternative_name: str | None = None
    disc_centre_lps: Point
    mid_plane: Plane
    disc_ap_mm: float | None = None
    """Length of the disc from front to back: the size of the body that a canal is held against."""
    pfirrmann: dict[str, float] | None = None
    """Probability of each grade, "1" to "5"; null where the disc was not seen on sagittal T2."""
    grades: dict[str, float] | None = None
    """Probability of bulging, narrowing, spondylolisthesis, Modic changes and endplate changes; null as above."""


class Measurement(Leaving):
    """A figure in millimetres (or mm2, degrees) with its uncertainty (one standard deviation) and where it was taken."""

    name: str
    value: float
    unit: str
    uncertainty: float | None = None
    points_lps: tuple[Point, Point] | None = None
    source_instance: str | None = None
    borderline: bool = False


class Evidence(Leaving):
    """Where on the images a finding is seen."""

    sop_instance_uid: str
    frame: int | None = None
    point_lps: Point
    series_instance_uid: str | None = None


class Migration(Leaving):
    dir: Literal["up", "down"]
    mm: float


class Finding(Leaving):
    """One site that was read, also when normal. Side and zone are the patient's."""

    id: str
    level: Level
    side: Side
    zone: Zone | None = None
    kind: Kind
    type: HerniationType | None = None
    root_grade: int | None = Field(default=None, ge=0, le=3)
    migration: Migration | None = None
    severity: Severity
    probability: float | None = Field(default=None, ge=0, le=1)
    interval: tuple[float, float] | None = None
    measurements: tuple[Measurement, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    basis: str
    roots_at_risk: tuple[str, ...] = ()

    @property
    def flagged(self) -> bool:
        """Whether the finding is one that a reader should look at: moderate or severe, or a herniation beyond a bulge."""
        if self.kind == "herniation":
            return self.type in {"protrusion", "extrusion", "sequestration"} or self.severity != "normal_mild"
        return self.severity != "normal_mild"


class Withheld(Leaving):
    """A value that is not given, and why: a stable code and a sentence."""

    level: Level | None = None
    side: Side | None = None
    kind: Kind
    code: str
    reason: str


class Contradiction(Leaving):
    id: str
    fields: tuple[str, ...]


class ExamRead(Leaving):
    summary: str
    derived: dict[str, Any]
    not_examined: tuple[str, ...]
    contradictions: tuple[Contradiction, ...] = ()


class ExamVersionRead(Leaving):
    """One version of the examination: what changed since the one before, and the verdict and tier that it gives by itself."""

    version: int
    locked_at: str | None = None
    of_study: bool
    entered_after_findings: bool
    changed: tuple[str, ...] = ()
    verdict: Literal["concordant", "partly_concordant", "discordant", "indeterminate"]
    tier: Tier


class FindingVerdict(Leaving):
    finding_id: str
    verdict: Literal["explains", "contributes", "does_not_explain", "indeterminate"]
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    grade: int | None = Field(default=None, ge=0, le=3)
    roots: tuple[str, ...] = ()
    carrying_roots: tuple[str, ...] = ()
    share: float = 0.0


class RootBelief(Leaving):
    """How much a root is suspected: from the examination alone, and with the images. Not a calibrated probability."""

    root: str
    side: Literal["left", "right"]
    p_exam_only: float
    p_with_imaging: float
    band_exam_only: str | None = None
    band_with_imaging: str | None = None
    band_any_exam_only: str | None = None
    band_any_with_imaging: str | None = None


class Alternative(Leaving):
    name: str
    p: float
    for_: tuple[str, ...] = Field(default=(), alias="for", serialization_alias="for")
    against: tuple[str, ...] = ()
    label: str | None = None
    side: Literal["left", "right"] | None = None
    band: str | None = None

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class MissingItem(Leaving):
    field: str
    expected_information: float


class DeficitShare(Leaving):
    """A recorded deficit (side:field), how much of it lies on matching findings, and how much each cause carries."""

    field: str
    weight: float
    share: float
    by_cause: dict[str, float] = {}


class PatternFired(Leaving):
    """A pattern of the examination that brings a cause to mind."""

    id: str
    side: Literal["left", "right", "general"]
    text: str


class Concordance(Leaving):
    """Whether the images account for the examination: verdict, per finding, roots, what else it may be, what is missing."""

    verdict: Literal["concordant", "partly_concordant", "discordant", "indeterminate"]
    rules_fired: tuple[str, ...]
    per_finding: tuple[FindingVerdict, ...]
    roots: tuple[RootBelief, ...]
    roots_implicated: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...]
    unexplained_deficits: tuple[str, ...]
    missing: tuple[MissingItem, ...]
    next_tests: tuple[str, ...]
    adequacy: float
    share: float = 0.0
    withheld_share: float = 0.0
    deficits: tuple[DeficitShare, ...] = ()
    patterns: tuple[PatternFired, ...] = ()
    deficit_recorded: bool = False


class TriageRule(Leaving):
    id: str
    text: str
    inputs: dict[str, Any]
    source: str
    tier: Tier | None = None
    confidence: str | None = None


class Position(Leaving):
    source: str
    says: str


class Disagreement(Leaving):
    id: str
    subject: str
    positions: tuple[Position, ...]
    shown: str


class Triage(Leaving):
    tier: Tier
    rules: tuple[TriageRule, ...]
    disagreements: tuple[Disagreement, ...] = ()


class Discrepancy(Leaving):
    id: str
    level: str
    side: str | None = None
    kind: str
    theirs: str | None = None
    ours: str | None = None
    weight: float
    direction: str
    priority: float = 0.0
    flagged: bool = False
    note: str | None = None


class SecondRead(Leaving):
    agreements: tuple[dict[str, Any], ...]
    discrepancies: tuple[Discrepancy, ...]
    not_comparable: tuple[dict[str, Any], ...]


class Sentence(Leaving):
    id: str
    text: str


class Section(Leaving):
    """A part of the narrative: its heading, its stable key (urgent, verdict, why, unexplained, unknown, limits, findings)."""

    section: str
    key: str | None = None
    sentences: tuple[Sentence, ...]


class Report(Leaving):
    """All that one reading says. `status` is "abstained" when the study could not be read; then there are no findings."""

    schema_: Literal["recess.report/1"] = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    id: str
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    result_key: str
    status: Literal["done", "abstained"] = "done"
    abstained_reason: str | None = None
    software: Software
    models: tuple[ModelUsed, ...]
    runtime: Runtime | None = None
    study: StudyRead | None = None
    warnings: tuple[ReportWarning, ...] = ()
    levels: tuple[LevelRead, ...] = ()
    findings: tuple[Finding, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    exam: ExamRead | None = None
    exam_versions: tuple[ExamVersionRead, ...] = ()
    concordance: Concordance | None = None
    triage: Triage | None = None
    second_read: SecondRead | None = None
    narrative: tuple[Section, ...] = ()
    language: str = "en"
    disclaimer: str

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="after")
    def _abstained_says_why(self) -> Report:
        if self.status == "abstained" and (self.findings or not self.abstained_reason):
            raise ValueError("an abstained report has a reason and no finding")
        return self

    def to_json(self) -> str:
        """The report as JSON text, keys as published in the schema."""
        return self.model_dump_json(by_alias=True, indent=2, exclude_none=True) + "\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema of report.json."""
    return Report.model_json_schema(by_alias=True)
