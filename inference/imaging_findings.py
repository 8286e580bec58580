"""Imaging findings as the correlation takes them: from a file that a person wrote, or from the findings of a report.

What was not read is neither a finding nor assessed, and a withheld one has no severity. Sides are the patient's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.clinical_input import ClinicalInputError, load_file
from inference.exam import SIDES
from inference.exam import Side as BodySide
from inference.report import Finding, Level, LevelRead, Migration, Report, Severity, Side, Withheld, Zone

Condition = Literal["herniation", "recess_stenosis", "foraminal_stenosis", "canal_stenosis"]
HerniaType = Literal["none", "bulge", "protrusion", "extrusion", "sequestration"]
Site = Literal["disc", "recess", "canal", "foramen"]
SITES: tuple[Site, ...] = ("disc", "recess", "canal", "foramen")
SITE_OF: dict[str, Site] = {
    "herniation": "disc",
    "recess_stenosis": "recess",
    "foraminal_stenosis": "foramen",
    "canal_stenosis": "canal",
}


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImagingFinding(_Written):
    """One finding as a person or the reader wrote it; a withheld one has a reason and no severity."""

    id: str = Field(default="", max_length=80, pattern=r"^[\w.:+-]*$")
    level: Level
    side: Side
    zone: Zone | None = None
    condition: Condition
    type: HerniaType | None = None
    severity: Severity | None = None
    ap_mm: float | None = Field(default=None, ge=0, le=60)
    recess_mm: float | None = Field(default=None, ge=0, le=30)
    area_mm2: float | None = Field(default=None, ge=0, le=1000)
    root_grade: int | None = Field(default=None, ge=0, le=3)
    migration: Migration | None = None
    post_op: bool = False
    red_flag_lesion: str | None = Field(default=None, max_length=200)
    withheld: str | None = Field(default=None, max_length=300)

    @model_validator(mode="after")
    def _says_something(self) -> ImagingFinding:
        graded = (self.severity, self.root_grade, self.ap_mm, self.recess_mm, self.area_mm2)
        if self.withheld is not None and self.severity is not None:
            raise ValueError("a withheld finding has no severity")
        if self.withheld is None and self.type not in {"none", "bulge"} and all(item is None for item in graded):
            raise ValueError("a severity, a root_grade, a measurement, or withheld with its reason")
        if self.condition != "herniation" and self.type is not None:
            raise ValueError("type belongs to a herniation")
        return self

    @property
    def sides(self) -> tuple[BodySide, ...]:
        """Sides on which the finding acts: canal stenosis, midline and both act on both."""
        if self.condition != "canal_stenosis":
            if self.side == "left":
                return ("left",)
            if self.side == "right":
                return ("right",)
        return SIDES

    @property
    def central(self) -> bool:
        """Whether it narrows the canal: a canal stenosis or a central herniation."""
        return self.condition == "canal_stenosis" or self.effective_zone == "central"

    @property
    def effective_zone(self) -> Zone | None:
        """Zone that decides the roots: a stenosis has its own, a bulge without zone is central."""
        if self.condition == "recess_stenosis":
            return "subarticular"
        if self.condition == "foraminal_stenosis":
            return "foraminal"
        if self.condition == "canal_stenosis":
            return None
        if self.zone is None and self.type == "bulge":
            return "central"
        return self.zone


def _name_or_object(schema: dict[str, Any]) -> None:
    """Publish that a level may be written as its name alone."""
    written = dict(schema)
    schema.clear()
    schema["anyOf"] = [written["properties"]["level"], written]


class AssessedLevel(_Written):
    """A level that was read, at all its sites or at some; written as its name when all were."""

    model_config = ConfigDict(json_schema_extra=_name_or_object)

    level: Level
    sites: tuple[Site, ...] = SITES

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        return {"level": data} if isinstance(data, str) else data


class Imaging(_Written):
    """What the images gave to the correlation: numbering, what was read, findings and what was withheld."""

    numbering: Literal["certain", "uncertain"] = "certain"
    assessed: tuple[AssessedLevel, ...] = ()
    scoliosis_convex: BodySide | None = None
    findings: tuple[ImagingFinding, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_none_given(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {
                key: value for key, value in data.items() if value is not None or key not in {"assessed", "findings"}
            }
        return data

    @model_validator(mode="after")
    def _findings_have_names(self) -> Imaging:
        """A herniation of type none reads its disc and is no finding; findings without an id are numbered in order."""
        read = tuple(
            AssessedLevel(level=item.level, sites=("disc",))
            for item in self.findings
            if item.type == "none" and not self.was_read(item.level, "disc")
        )
        kept = [item for item in self.findings if item.type != "none"]
        named = tuple(
            item if item.id else item.model_copy(update={"id": f"f{number}"}) for number, item in enumerate(kept, 1)
        )
        if len({item.id for item in named}) != len(named):
            raise ValueError("findings: an id stands twice")
        object.__setattr__(self, "findings", named)
        object.__setattr__(self, "assessed", self.assessed + read)
        return self

    @classmethod
    def parse(cls, data: object) -> Imaging:
        """Check plain data: the `imaging:` shape, a case that holds it, or a report. ClinicalInputError names the field."""
        if isinstance(data, dict) and "schema" in data:
            try:
                report = Report.model_validate(data)
            except ValidationError as error:
                raise clinical_error(error, "report") from error
            return imaging_from_report(
                report.findings,
                report.withheld,
                report.levels,
                report.study.numbering if report.study else "certain",
                report.study.scoliosis_convex if report.study else None,
            )
        if isinstance(data, dict) and "imaging" in data:
            data = data["imaging"]
        if not isinstance(data, dict):
            raise ClinicalInputError("imaging", data, "keys numbering, assessed, scoliosis_convex and findings")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise clinical_error(error, "imaging") from error

    @classmethod
    def load(cls, path: str | Path) -> Imaging:
        """Read a findings file (YAML, JSON) or a report.json."""
        return cls.parse(load_file(Path(path)))

    def was_read(self, level: str, site: str) -> bool:
        """Whether a site of a level was read on both sides."""
        return any(item.level == level and site in item.sites for item in self.assessed)

    @property
    def present(self) -> bool:
        """Whether anything was read or withheld at all."""
        return bool(self.assessed or self.findings)

    def mirrored(self) -> Imaging:
        """The imaging of the mirrored patient."""
        swap = {"left": "right", "right": "left"}
        return self.model_copy(
            update={
                "scoliosis_convex": swap.get(self.scoliosis_convex or "", self.scoliosis_convex),
                "findings": tuple(
                    item.model_copy(update={"side": swap.get(item.side, item.side)}) for item in self.findings
                ),
            }
        )


def clinical_error(error: ValidationError, root: str) -> ClinicalInputError:
    """A refusal of pydantic in the words of the other refusals: path, what was given, what is allowed."""
    first = error.errors()[0]
    path = ".".join([root, *(str(part) for part in first["loc"])])
    allowed = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        allowed = "no such key here"
    return ClinicalInputError(path, first["input"], allowed)


def imaging_from_report(
    findings: Sequence[Finding],
    withheld: Sequence[Withheld],
    levels: Sequence[LevelRead] = (),
    numbering: Literal["certain", "uncertain"] = "certain",
    scoliosis_convex: BodySide | None = None,
) -> Imaging:
    """Findings of a report as the correlation takes them.

    A site counts as read only where both of its sides are covered by a finding; a herniation of type none reads its disc and is
    no finding. Kinds that the correlation does not use (slip, disc degeneration) are left out. `levels` only adds no names.
    """
    known = {level.name for level in levels}
    covered: dict[tuple[str, Site], set[str]] = {}
    kept: list[ImagingFinding] = []
    for item in findings:
        if item.kind not in SITE_OF:
            continue
        if known and item.level not in known:
            raise ClinicalInputError(f"findings.{item.id}.level", item.level, ", ".join(sorted(known)))
        site = SITE_OF[item.kind]
        one_sided = item.side in SIDES and site in {"recess", "foramen"}
        covered.setdefault((item.level, site), set()).update({item.side} if one_sided else set(SIDES))
        if item.type != "none":
            kept.append(_from_report(item))
    for gap in withheld:
        if gap.kind in SITE_OF and gap.level is not None:
            covered.get((gap.level, SITE_OF[gap.kind]), set()).difference_update(
                {gap.side} if gap.side in SIDES else set(SIDES)
            )
            kept.append(
                ImagingFinding.model_validate(
                    {
                        "id": f"withheld-{gap.level}-{gap.kind}-{gap.side or 'both'}-{len(kept)}",
                        "level": gap.level,
                        "side": gap.side or ("midline" if gap.kind == "herniation" else "both"),
                        "condition": gap.kind,
                        "withheld": gap.reason,
                    }
                )
            )
    sites: dict[str, list[Site]] = {}
    for (level, site), read in covered.items():
        if read == set(SIDES):
            sites.setdefault(level, []).append(site)
    assessed = tuple(AssessedLevel.model_validate({"level": level, "sites": read}) for level, read in sites.items())
    return Imaging(numbering=numbering, assessed=assessed, scoliosis_convex=scoliosis_convex, findings=tuple(kept))


def _from_report(item: Finding) -> ImagingFinding:
    sizes = {size.name: size.value for size in item.measurements}
    return ImagingFinding.model_validate(
        {
            "id": item.id,
            "level": item.level,
            "side": item.side,
            "zone": item.zone,
            "condition": item.kind,
            "type": item.type,
            "severity": item.severity,
            "root_grade": item.root_grade,
            "migration": item.migration,
            **{name: max(sizes[name], 0.0) for name in ("ap_mm", "recess_mm", "area_mm2") if name in sizes},
        }
    )
