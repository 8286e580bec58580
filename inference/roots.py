"""Which roots a finding endangers, on which side, how strongly and at what grade; what that says before any sign is read.

Route strengths, migration, scoliosis and grades come from configs/clinical/routes.toml and model.toml. Sides are the patient's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from configs.clinical import ROOTS, Route, model, routes
from configs.loader import grading
from inference.exam import SIDES
from inference.exam import Side as BodySide
from inference.imaging_findings import SITE_OF, SITES, Imaging, ImagingFinding, imaging_from_report
from inference.report import Severity, Zone

__all__ = [
    "ABOVE_MODEL",
    "READER",
    "Imaging",
    "ImagingFinding",
    "Reach",
    "RootKey",
    "borderline",
    "grade_of",
    "imaging_from_report",
    "narrows_canal",
    "not_read",
    "reach",
    "root_ratios",
    "severity_of",
]

ABOVE_MODEL = ("T12-L1", "L1-L2")
"""Levels whose roots (conus, L1, L2) the model does not hold."""
RootKey = tuple[BodySide, str]
READER = "reader"
"""What decided a severity that the reader of the images gave."""


def severity_of(finding: ImagingFinding, imaging: Imaging) -> tuple[Severity, str]:
    """Severity of a finding that is not withheld, and what decided: the reader, or a key of `graded_by` in the catalogue."""
    if finding.severity is not None:
        return finding.severity, READER
    if finding.condition == "herniation":
        return _herniation_severity(finding, imaging)
    if finding.recess_mm is not None and finding.condition == "recess_stenosis":
        band = grading().recess
        low, high = band.severe_at_or_below, band.moderate_at_or_below
        text: Severity = (
            "severe" if finding.recess_mm <= low else "moderate" if finding.recess_mm <= high else "normal_mild"
        )
        return text, "recess_mm"
    if finding.condition == "canal_stenosis" and (finding.ap_mm is not None or finding.area_mm2 is not None):
        rank = max(
            _below(finding.ap_mm, grading().canal_ap.severe_below, grading().canal_ap.moderate_below),
            _below(finding.area_mm2, grading().canal_area.severe_below, grading().canal_area.moderate_below),
        )
        return _SEVERITY[rank], "canal"
    return _SEVERITY[min(finding.root_grade or 0, 2)], "root_grade"


def borderline(finding: ImagingFinding) -> bool:
    """Whether a recess depth that decides lies so near a cut that its grade could be the next one."""
    band, depth = grading().recess, finding.recess_mm
    if finding.condition != "recess_stenosis" or depth is None:
        return False
    return any(abs(depth - cut) <= band.borderline for cut in (band.severe_at_or_below, band.moderate_at_or_below))


_SEVERITY: tuple[Severity, Severity, Severity] = ("normal_mild", "moderate", "severe")


def _below(value: float | None, severe: float, moderate: float) -> int:
    return 0 if value is None else 2 if value < severe else 1 if value < moderate else 0


def _herniation_severity(finding: ImagingFinding, imaging: Imaging) -> tuple[Severity, str]:
    if finding.type == "bulge":
        return "normal_mild", "bulge"
    cut = model().herniation_severity
    levels = list(routes().route)
    here = levels.index(finding.level)
    beside = [
        other.area_mm2
        for other in imaging.findings
        if other.area_mm2 is not None and abs(levels.index(other.level) - here) == 1
    ]
    if finding.root_grade is not None and finding.root_grade >= cut.severe_root_grade:
        return "severe", "root_grade"
    if finding.ap_mm is not None and finding.ap_mm >= cut.severe_ap_mm:
        return "severe", "ap_mm"
    if finding.area_mm2 is not None and beside and finding.area_mm2 < cut.severe_area_fraction * max(beside):
        return "severe", "sac_beside"
    if finding.root_grade is not None and finding.root_grade >= cut.moderate_root_grade:
        return "moderate", "root_grade"
    if finding.ap_mm is not None and finding.ap_mm >= cut.moderate_ap_mm:
        return "moderate", "ap_mm"
    return "normal_mild", "below"


def grade_of(finding: ImagingFinding, imaging: Imaging) -> int:
    """Grade 0-3 of a finding: its root grade, else from type and severity."""
    if finding.root_grade is not None:
        return finding.root_grade
    key = (finding.type or "untyped") if finding.condition == "herniation" else "stenosis"
    return model().grade[key][_SEVERITY.index(severity_of(finding, imaging)[0])]


@dataclass(frozen=True)
class Reach:
    """Roots that a finding reaches: strength per (side, root); `unknown` where its zone is not given (then all it may reach)."""

    strength: dict[RootKey, float]
    unknown: bool = False

    def endangered(self) -> tuple[RootKey, ...]:
        """Roots reached strongly enough to be endangered; none while the zone is unknown."""
        if self.unknown:
            return ()
        return tuple(key for key, value in self.strength.items() if value >= routes().endangered_from)

    def possible(self) -> tuple[RootKey, ...]:
        """Roots that may be endangered, whatever the zone."""
        return tuple(key for key, value in self.strength.items() if value >= routes().endangered_from)


def reach(finding: ImagingFinding) -> Reach:
    """Which roots a finding reaches, with migration taken in."""
    table = routes()
    route = table.route[finding.level]
    zone = finding.effective_zone
    if finding.condition == "canal_stenosis":
        by_root, unknown = route.canal, False
    elif zone is None:
        by_root, unknown = _widest(route), True
    else:
        by_root, unknown = getattr(route, _column(zone)), False
    by_root = dict(by_root)
    move = finding.migration
    if move is not None and move.mm >= table.migration.from_mm and finding.condition == "herniation":
        exiting, traversing = table.exiting.get(finding.level), table.traversing.get(finding.level)
        if move.dir == "up" and exiting is not None:
            by_root[exiting] = max(by_root.get(exiting, 0.0), table.migration.up_adds_exiting_root)
        if move.dir == "down" and traversing is not None and traversing in by_root:
            by_root[traversing] = max(by_root[traversing], table.migration.down_keeps_traversing_root)
    return Reach({(side, root): value for side in finding.sides for root, value in by_root.items()}, unknown)


def _column(zone: Zone) -> str:
    return "foraminal" if zone == "extraforaminal" else zone


def _widest(route: Route) -> dict[str, float]:
    out: dict[str, float] = {}
    for zone in (route.central, route.subarticular, route.foraminal):
        for root, value in zone.items():
            out[root] = max(out.get(root, 0.0), value)
    return out


def root_ratios(imaging: Imaging | None) -> dict[RootKey, float]:
    """Likelihood ratio of "compromised" that the images give each root; 1 where nothing is known."""
    out: dict[RootKey, float] = {(side, root): 1.0 for side in SIDES for root in ROOTS}
    if imaging is None or not imaging.present:
        return out
    for key in out:
        ratio = _ratio(key, imaging)
        if imaging.numbering == "uncertain":
            ratio = sqrt(ratio) if ratio > 1 else 1.0
        out[key] = ratio
    return out


def _ratio(key: RootKey, imaging: Imaging) -> float:
    numbers, table = model().imaging, routes()
    side, root = key
    raised: list[float] = []
    quiet: list[float] = []
    open_question = False
    for finding in imaging.findings:
        reached = reach(finding)
        strength = reached.strength.get(key, 0.0)
        if strength == 0.0:
            continue
        if finding.withheld is not None or reached.unknown:
            open_question = True
            continue
        grade = grade_of(finding, imaging)
        ratio = numbers.ratio_by_grade[grade] ** strength
        if grade == 0:
            quiet.append(ratio)
            continue
        bend = table.scoliosis
        if (finding.level, finding.condition, root) == (bend.level, bend.condition, bend.root) and (
            imaging.scoliosis_convex == side
        ):
            ratio *= bend.ratio
        raised.append(ratio)
    if raised:
        return max(raised)
    if open_question:
        return 1.0
    if all(imaging.was_read(level, site) for level, site in table.way_out[root]):
        return numbers.ratio_way_out_free
    return max(quiet, default=1.0)


def narrows_canal(imaging: Imaging | None) -> bool:
    """Whether a canal or central finding reaches the grade that raises cauda equina involvement."""
    return imaging is not None and any(
        finding.withheld is None
        and finding.central
        and grade_of(finding, imaging) >= model().imaging.cauda_equina_from_grade
        for finding in imaging.findings
    )


def not_read(imaging: Imaging, levels: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Sites per level that are neither read nor withheld."""
    withheld = {(item.level, SITE_OF[item.condition]) for item in imaging.findings if item.withheld is not None}
    out: dict[str, tuple[str, ...]] = {}
    for level in levels:
        sites = tuple(site for site in SITES if not imaging.was_read(level, site) and (level, site) not in withheld)
        if sites:
            out[level] = sites
    return out
