"""From millimetres to findings: severity by configs/grading.toml, probabilities from the model's card, or withheld with a reason.

At the levels that are read fully every one of herniation, left recess, right recess and canal comes out as a finding or as
withheld. Severity of a herniation from its extent: clinical rule IM-13; recess bands: IM-08; canal: dural sac area.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import erf, sqrt
from typing import TYPE_CHECKING, Literal, get_args

from configs import anatomy, grading
from dicom_io.study import Notice
from inference.both_planes import together_of
from inference.measure import SIDES, Canal, LevelSizes, as_measurement, measure_level
from inference.report import Evidence, Finding, HerniationType, Kind, Level, Measurement, Severity, Side, Withheld
from inference.segment import AxialReading
from inference.sizes import Missing, Size

if TYPE_CHECKING:
    from inference.axial_t1 import T1Herniation
    from inference.localize import Disc
    from models.weights import Card

SIMULATED = "simulated images only"
REAL = "real images"
MIXED = "real and simulated images"

NO_AXIAL = Missing("NO_AXIAL_T2", "series missing")
NOT_COVERED = Missing("NOT_COVERED", "axial slices do not cover the level")
OUTSIDE = Missing("NOT_COVERED", "level outside the field")
NAMELESS = Missing("LEVEL_UNVERIFIED", "series missing")


@dataclass(frozen=True)
class LevelRead:
    """What one level gave: findings and withheld values. Every site of a fully read level is in exactly one of the two."""

    findings: tuple[Finding, ...]
    withheld: tuple[Withheld, ...]


def read_levels(
    discs: Sequence[Disc],
    axial: Sequence[AxialReading],
    card: Card,
    *,
    axial_t2: bool,
    axial_t1: Mapping[str, T1Herniation] | None = None,
) -> tuple[tuple[Finding, ...], tuple[Withheld, ...]]:
    """Findings and withheld values of all levels, caudal levels last.

    `axial_t2` says whether the study has an axial T2 series at all; `card` is the axial network's (its constants and heads).
    `axial_t1` holds, by level, what axial T1 slices say of a herniation; it counts where no axial T2 slice was read.
    Levels that are not read fully give findings only, and only where axial slices cover them.
    """
    by_name = {disc.name: disc for disc in discs}
    slices = {item.disc.name: item for item in axial}
    sizes = {name: measure_level(item, card.constants) for name, item in slices.items()}
    areas = {name: found.canal.area.value for name, found in sizes.items() if isinstance(found.canal, Canal)}
    number = count(1)
    findings: list[Finding] = []
    withheld: list[Withheld] = []
    for level in get_args(Level):
        full = level in anatomy().read_levels
        missing = None if level in sizes else (NOT_COVERED if axial_t2 else NO_AXIAL)
        if level not in by_name:
            if full:
                withheld += [_withheld(level, kind, side, OUTSIDE) for kind, side in _sites()]
            continue
        result = read_level(
            level,
            by_name[level],
            slices.get(level),
            sizes.get(level),
            card,
            missing=missing,
            neighbours=_neighbours(level, areas),
            axial_t1=(axial_t1 or {}).get(level),
        )
        findings += [finding.model_copy(update={"id": f"F-{next(number):03d}"}) for finding in result.findings]
        withheld += result.withheld if full else ()
    return tuple(findings), tuple(withheld)


def without_level() -> tuple[Withheld, ...]:
    """What axial slices would tell of every fully read level, withheld because no sagittal series names the levels."""
    levels = [level for level in get_args(Level) if level in anatomy().read_levels]
    return tuple(_withheld(level, kind, side, NAMELESS) for level in levels for kind, side in _sites())


def read_level(
    level: Level,
    disc: Disc,
    axial: AxialReading | None,
    sizes: LevelSizes | None,
    card: Card,
    *,
    missing: Missing | None = None,
    neighbours: Sequence[float] = (),
    axial_t1: T1Herniation | None = None,
) -> LevelRead:
    """Findings and withheld values of one level.

    `sizes` None means no axial reading, for the reason `missing`; `neighbours` are sac areas (mm2) of the discs above and below.
    `axial_t1` counts only then.
    """
    absent = missing or NOT_COVERED
    outcomes: list[Finding | Withheld] = [
        _t1_herniation(level, disc, axial_t1)
        if axial_t1 is not None and axial is None
        else _herniation(level, disc, axial, sizes, absent, card, neighbours)
    ]
    for side in SIDES:
        depth = sizes.recess[side] if sizes else absent
        outcomes.append(_recess(level, side, depth, axial, card))
    outcomes.append(_canal(level, sizes.canal if sizes else absent, axial, card))
    return LevelRead(
        tuple(item for item in outcomes if isinstance(item, Finding)),
        tuple(item for item in outcomes if isinstance(item, Withheld)),
    )


def recess_severity(depth_mm: float) -> Severity:
    """Severity of a soft recess depth (mm) by the bands of configs/grading.toml."""
    band = grading().recess
    if depth_mm <= band.severe_at_or_below:
        return "severe"
    return "moderate" if depth_mm <= band.moderate_at_or_below else "normal_mild"


def canal_severity(area_mm2: float) -> Severity:
    """Severity of a dural sac area (mm2) by the bands of configs/grading.toml."""
    band = grading().canal_area
    if area_mm2 < band.severe_below:
        return "severe"
    return "moderate" if area_mm2 < band.moderate_below else "normal_mild"


def canal_ap_severity(ap_mm: float) -> Severity:
    """Severity of an anteroposterior diameter (mm) by the bands of configs/grading.toml."""
    band = grading().canal_ap
    if ap_mm < band.severe_below:
        return "severe"
    return "moderate" if ap_mm < band.moderate_below else "normal_mild"


def herniation_severity(
    kind: HerniationType, extent_mm: float | None, sac_area: float | None, neighbours: Sequence[float]
) -> Severity:
    """Severity by IM-13: none and bulge are normal_mild; else by extent (mm) and by a sac less than half its neighbours'."""
    if kind in {"none", "bulge"}:
        return "normal_mild"
    band = grading().herniation
    halved = sac_area is not None and len(neighbours) > 0 and sac_area < 0.5 * sum(neighbours) / len(neighbours)
    if halved or (extent_mm is not None and extent_mm >= band.severe_at_or_above):
        return "severe"
    return "moderate" if extent_mm is not None and extent_mm >= band.moderate_at_or_above else "normal_mild"


def below_cut(value: float, sd: float, cut: float) -> float:
    """Probability that a true size lies below `cut`, given a measured one with a normal error."""
    return 0.5 * (1 + erf((cut - value) / (max(sd, 1e-3) * sqrt(2))))


def _recess(
    level: Level, side: Literal["left", "right"], depth: Size | Missing, axial: AxialReading | None, card: Card
) -> Finding | Withheld:
    if isinstance(depth, Missing) or axial is None:
        return _withheld(level, "recess_stenosis", side, depth if isinstance(depth, Missing) else NOT_COVERED)
    band = grading().recess
    head = card.heads.get("recess")

    def probability(value: float) -> float:
        if head is None:
            return below_cut(value, depth.sd, band.moderate_at_or_below)
        return head.probability({"recess_mm": value, "recess_sd": depth.sd})

    spread = 1.96 * depth.sd
    return Finding(
        id="F",
        level=level,
        side=side,
        zone="subarticular",
        kind="recess_stenosis",
        severity=recess_severity(depth.value),
        probability=round(probability(depth.value), 3),
        interval=_ordered(probability(depth.value + spread), probability(depth.value - spread)),
        measurements=(
            as_measurement(
                "recess_mm", depth, "mm", (band.moderate_at_or_below, band.severe_at_or_below), band.borderline
            ),
        ),
        evidence=(_evidence(depth, axial),),
        basis=SIMULATED,
    )


def _canal(level: Level, canal: Canal | Missing, axial: AxialReading | None, card: Card) -> Finding | Withheld:
    if isinstance(canal, Missing) or axial is None:
        return _withheld(level, "canal_stenosis", None, canal if isinstance(canal, Missing) else NOT_COVERED)
    by_area, by_ap = canal_severity(canal.area.value), canal_ap_severity(canal.ap.value)
    if (
        by_area == "normal_mild"
        and by_ap == "severe"
        and canal.ap.value + 2 * canal.ap.sd < grading().canal_ap.severe_below
    ):
        return _withheld(level, "canal_stenosis", None, Missing("MM_IMPLAUSIBLE", "measures disagree"))
    area_band, ap_band = grading().canal_area, grading().canal_ap
    area = canal.area
    low, high = (below_cut(area.value + k * area.sd, area.sd, area_band.moderate_below) for k in (1.96, -1.96))
    return Finding(
        id="F",
        level=level,
        side="both",
        zone="central",
        kind="canal_stenosis",
        severity=by_area,
        probability=round(below_cut(area.value, area.sd, area_band.moderate_below), 3),
        interval=_ordered(low, high),
        measurements=(
            as_measurement(
                "area_mm2", area, "mm2", (area_band.moderate_below, area_band.severe_below), area_band.borderline
            ),
            as_measurement("ap_mm", canal.ap, "mm", (ap_band.moderate_below, ap_band.severe_below), ap_band.borderline),
        ),
        evidence=(_evidence(area, axial),),
        basis=SIMULATED,
    )


def _herniation(
    level: Level,
    disc: Disc,
    axial: AxialReading | None,
    sizes: LevelSizes | None,
    absent: Missing,
    card: Card,
    neighbours: Sequence[float],
) -> Finding | Withheld:
    """One herniation from what the axial slices show and what the sagittal score adds; withheld where the two disagree clearly.

    Where the slices end at it no millimetres are given (`cut_short` tells so), and its severity is the least that it can have.
    """
    seen = sizes.herniation if sizes else absent
    sagittal = disc.herniation_probability
    if isinstance(seen, Missing) or axial is None or sizes is None:
        reason = seen if isinstance(seen, Missing) else absent
        if sagittal is None:
            return _withheld(level, "herniation", None, reason)
        return _unmeasured_herniation(level, sagittal, None, _scores(None, sagittal), REAL)
    head = card.heads.get("herniation")
    axial_probability = head.probability(seen.features) if head else seen.probability
    together = together_of(axial_probability, disc)
    if isinstance(together, Missing):
        return _withheld(level, "herniation", None, together)
    probability, interval = together
    kind = seen.type
    if kind == "none" and probability >= 0.5:
        if sagittal is None or sagittal < 0.5:
            return _withheld(level, "herniation", None, Missing("MM_IMPLAUSIBLE", "measures disagree"))
        scores = _scores(axial_probability, sagittal)
        return _unmeasured_herniation(level, probability, interval, scores, MIXED)
    if kind in {"protrusion", "extrusion"} and probability < 0.5:
        kind = "none"
    if kind in {"protrusion", "extrusion"} and seen.both_sides:
        return _withheld(level, "herniation", None, Missing("MM_IMPLAUSIBLE", "measures disagree"))
    canal = sizes.canal
    area = canal.area.value if isinstance(canal, Canal) else None
    extent = seen.extent.value if kind != "none" else None
    band = grading().herniation
    measurements = list(_scores(axial_probability, sagittal))
    if kind != "none" and not seen.cut_off:
        cuts = (band.moderate_at_or_above, band.severe_at_or_above)
        measurements.insert(0, as_measurement("ap_mm", seen.extent, "mm", cuts, 0.5))
    return Finding(
        id="F",
        level=level,
        side=seen.side if kind != "none" else "midline",
        zone=seen.zone if kind != "none" else None,
        kind="herniation",
        type=kind,
        severity=herniation_severity(kind, extent, area, neighbours),
        probability=round(probability, 3),
        interval=interval,
        measurements=tuple(measurements),
        evidence=(_evidence(seen.extent, axial),),
        basis=SIMULATED if sagittal is None else MIXED,
    )


def cut_short(findings: Sequence[Finding]) -> tuple[Notice, ...]:
    """A warning for herniations that were placed and not measured, since the axial slices end at them."""
    levels = [
        finding.level
        for finding in findings
        if finding.kind == "herniation" and finding.zone and all(item.name != "ap_mm" for item in finding.measurements)
    ]
    if not levels:
        return ()
    text = f"the axial slices end at the herniation of {' and '.join(levels)}: how far it reaches is not measured"
    return (Notice("HERNIATION_CUT", text),)


def _t1_herniation(level: Level, disc: Disc, seen: T1Herniation) -> Finding | Withheld:
    """A herniation judged from an axial T1 slice and the sagittal score: a side where one is told, no zone, no millimetres.

    Severity not above normal_mild, as nothing was measured (IM-13); "midline" where no side is told.
    """
    together = together_of(seen.probability, disc)
    if isinstance(together, Missing):
        return _withheld(level, "herniation", None, together)
    probability, interval = together
    present = probability >= 0.5
    instance = seen.slice.instance
    return Finding(
        id="F",
        level=level,
        side=seen.side if present and seen.side else "midline",
        kind="herniation",
        type="protrusion" if present else "none",
        severity="normal_mild",
        probability=round(probability, 3),
        interval=interval,
        measurements=_scores(seen.probability, disc.herniation_probability),
        evidence=(
            Evidence(
                sop_instance_uid=instance.sop_instance_uid,
                frame=instance.frame,
                point_lps=(float(seen.margin_lps[0]), float(seen.margin_lps[1]), float(seen.margin_lps[2])),
                series_instance_uid=seen.series_instance_uid,
            ),
        ),
        basis=REAL,
    )


def _unmeasured_herniation(
    level: Level,
    probability: float,
    interval: tuple[float, float] | None,
    scores: tuple[Measurement, ...],
    basis: str,
) -> Finding:
    """A herniation that no axial slice lets measure: no side, no zone, no millimetres, severity not above normal_mild (IM-13)."""
    return Finding(
        id="F",
        level=level,
        side="midline",
        kind="herniation",
        type="protrusion" if probability >= 0.5 else "none",
        severity="normal_mild",
        probability=round(probability, 3),
        interval=interval,
        measurements=scores,
        basis=basis,
    )


def _scores(axial: float | None, sagittal: float | None) -> tuple[Measurement, ...]:
    pairs = (("axial_probability", axial), ("sagittal_probability", sagittal))
    return tuple(Measurement(name=name, value=round(p, 3), unit="1") for name, p in pairs if p is not None)


def _evidence(size: Size, axial: AxialReading) -> Evidence:
    middle = (size.points[0] + size.points[1]) / 2
    instance = size.slice.instance
    return Evidence(
        sop_instance_uid=instance.sop_instance_uid,
        frame=instance.frame,
        point_lps=(float(middle[0]), float(middle[1]), float(middle[2])),
        series_instance_uid=axial.stack.series_instance_uid or None,
    )


def _withheld(level: Level, kind: Kind, side: Side | None, missing: Missing) -> Withheld:
    return Withheld(level=level, side=side, kind=kind, code=missing.code, reason=missing.reason)


def _sites() -> tuple[tuple[Kind, Side | None], ...]:
    """Every site of a level that is read: herniation, both recesses, canal."""
    return (("herniation", None), ("recess_stenosis", "left"), ("recess_stenosis", "right"), ("canal_stenosis", None))


def _neighbours(level: Level, areas: Mapping[str, float]) -> tuple[float, ...]:
    """Sac areas of the discs directly above and below, where they were measured."""
    names = list(anatomy().levels)
    place = names.index(level)
    around = names[max(place - 1, 0) : place] + names[place + 1 : place + 2]
    return tuple(areas[name] for name in around if name in areas)


def _ordered(first: float, second: float) -> tuple[float, float]:
    return round(min(first, second), 3), round(max(first, second), 3)
