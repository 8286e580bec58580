"""Entries of an examination that do not fit together, and what follows from it (foot drop, severity, progression).

Both values of a contradiction stay as entered; cuts come from configs/clinical/exam.toml.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.clinical import exam_table, triage_rules
from inference.clinical_signs import (
    MOTOR,
    Recorded,
    _days_from_dates,
    adequacy,
    brisk,
    mrc,
    needle_too_early,
    reduced,
)
from inference.exam import SIDES, Side
from inference.report import Contradiction


def contradictions(seen: Recorded) -> tuple[Contradiction, ...]:
    """Pairs of entries that cannot both be right, with the fields concerned (side:field)."""
    found: list[Contradiction] = []
    for side in SIDES:
        for rule, fields in _on_side(seen.side(side), seen, side):
            found.append(Contradiction(id=rule, fields=tuple(f"{side}:{field}" for field in fields)))
    found += [Contradiction(id=rule, fields=fields) for rule, fields in _in_general(seen)]
    return tuple(sorted(found, key=lambda item: item.id))


def _on_side(values: Mapping[str, Any], seen: Recorded, side: Side) -> list[tuple[str, tuple[str, ...]]]:
    derived = exam_table().derived
    out: list[tuple[str, tuple[str, ...]]] = []
    shin, calf, hip = (mrc(values, f"mrc.{name}") for name in ("tibialis_anterior", "gastrocnemius", "gluteus_medius"))
    heel, toe, raises = values.get("fn.heel_walk"), values.get("fn.toe_walk"), values.get("fn.toe_raise_count")
    low = derived.marked_weakness_to
    if shin is not None and ((shin == 5 and heel == "unable") or (shin <= low and heel == "able")):
        out.append(("Q-01", ("mrc.tibialis_anterior", "fn.heel_walk")))
    if calf is not None:
        few = raises is not None and raises < derived.toe_raises_contradict_below
        many = raises is not None and raises >= derived.toe_raises_weak_below
        walks = "fn.toe_walk" if (calf == 5 and toe == "unable") or (calf <= low and toe == "able") else None
        counts = "fn.toe_raise_count" if (calf == 5 and few) or (calf <= low and many) else None
        if clashing := tuple(field for field in (walks, counts) if field is not None):
            out.append(("Q-02", ("mrc.gastrocnemius", *clashing)))
    if values.get("fn.flail_foot") is True:
        strong = [
            f"mrc.{name}"
            for name in ("tibialis_anterior", "gastrocnemius", "peronei", "tibialis_posterior")
            if (mrc(values, f"mrc.{name}") or 0.0) >= low
        ]
        if strong:
            out.append(("Q-03", ("fn.flail_foot", *strong)))
    drop = values.get("fn.trendelenburg")
    if hip is not None and ((hip == 5 and drop is True) or (hip <= low and drop is False)):
        out.append(("Q-04", ("mrc.gluteus_medius", "fn.trendelenburg")))
    if values.get("umn.tone") == "increased" and reduced(values, "ref.patellar") and reduced(values, "ref.achilles"):
        out.append(("Q-05", ("umn.tone", "ref.patellar", "ref.achilles")))
    if values.get("pain.distribution") and values.get("pain.leg_nrs") == 0:
        out.append(("Q-06", ("pain.distribution", "pain.leg_nrs")))
    needle = [field for field in values if field.startswith("emg.") and values[field] == "normal"]
    if needle and needle_too_early(seen):
        out.append(("Q-09", tuple(needle)))
    return out


def _in_general(seen: Recorded) -> list[tuple[str, tuple[str, ...]]]:
    general, derived = seen.general, exam_table().derived
    out: list[tuple[str, tuple[str, ...]]] = []
    if (general.get("bb.pvr_ml") or 0) >= derived.residual_contradicts_from_ml and general.get("bb.retention") is False:
        out.append(("Q-07", ("general:bb.pvr_ml", "general:bb.retention")))
    if str(general.get("time.course", "")).startswith("worsening") and not any(motor_deficit(seen, s) for s in SIDES):
        out.append(("Q-08", ("general:time.course",)))
    days = _days_from_dates(general)
    if days is not None and days < 0:
        out.append(("Q-10", ("general:time.onset_date", "general:time.exam_date")))
    found = [f"{side}:sen.saddle" for side in SIDES if seen.side(side).get("sen.saddle") not in (None, "normal")]
    if general.get("bb.saddle") is False and found:
        out.append(("Q-11", ("general:bb.saddle", *found)))
    apart = general.get("time.imaging_days_after_exam")
    if apart is not None and abs(apart) > derived.imaging_apart_over_days:
        out.append(("Q-12", ("general:time.imaging_days_after_exam",)))
    return out


def dorsiflexion(values: Mapping[str, Any]) -> float | None:
    """Foot lift for triage: the lower of the muscle grade and the heel walk; None when neither was examined."""
    cut = triage_rules().cut
    walk = {"unable": cut.heel_walk_unable, "difficult": cut.heel_walk_difficult, "able": 5.0}
    known = [
        grade
        for grade in (mrc(values, "mrc.tibialis_anterior"), walk.get(values.get("fn.heel_walk", "")))
        if grade is not None
    ]
    return min(known) if known else None


def scores(values: Mapping[str, Any]) -> dict[str, float]:
    """Strength for triage, the worse of a muscle grade and the test of its function; blanks are absent."""
    out = {field: grade for field in MOTOR if (grade := mrc(values, field)) is not None}
    lift = dorsiflexion(values)
    if lift is not None:
        out["mrc.tibialis_anterior"] = lift
    weak = triage_rules().cut.other_function_weak
    raises = values.get("fn.toe_raise_count")
    few = raises is not None and raises < exam_table().derived.toe_raises_weak_below
    if values.get("fn.toe_walk") in {"difficult", "unable"} or few:
        out["mrc.gastrocnemius"] = min(out.get("mrc.gastrocnemius", weak), weak)
    if values.get("fn.trendelenburg") is True:
        out["mrc.gluteus_medius"] = min(out.get("mrc.gluteus_medius", weak), weak)
    if values.get("fn.flail_foot") is True:
        out["mrc.tibialis_anterior"] = min(out.get("mrc.tibialis_anterior", weak), weak)
    return out


def motor_deficit(seen: Recorded, side: Side) -> bool:
    """Any weakness on a side, by grade or by a walking or standing test."""
    return any(grade < triage_rules().cut.foot_drop_below for grade in scores(seen.side(side)).values())


def foot_drop(seen: Recorded, side: Side) -> bool:
    """Foot lift below full strength on a side."""
    lift = scores(seen.side(side)).get("mrc.tibialis_anterior")
    return lift is not None and lift < triage_rules().cut.foot_drop_below


def severity_of_drop(values: Mapping[str, Any]) -> str | None:
    """Severity of a foot drop: severe to MRC 2, moderate 3 and 4- or no heel walk, mild 4 and 4+ or a difficult one."""
    grade = mrc(values, "mrc.tibialis_anterior")
    walk = values.get("fn.heel_walk")
    cut = triage_rules().cut
    if grade is not None and grade <= cut.near_paralysis_to:
        return "severe"
    if (grade is not None and grade < cut.weak_to) or walk == "unable":
        return "moderate"
    if (grade is not None and grade < cut.foot_drop_below) or walk == "difficult":
        return "mild"
    return None


def derived_values(seen: Recorded) -> dict[str, Any]:
    """What follows from the entries, as the report shows it; None where the entries are blank."""
    out: dict[str, Any] = {"onset_days": seen.onset_days}
    course = seen.general.get("time.course")
    out["progressive"] = None if course is None else course.startswith("worsening")
    for side in SIDES:
        values = seen.side(side)
        lift = dorsiflexion(values)
        out[side] = {
            "dorsiflexion": lift,
            "foot_drop": None if lift is None else foot_drop(seen, side),
            "foot_drop_severity": severity_of_drop(values),
            "motor_deficit": motor_deficit(seen, side) if scores(values) else None,
            "hyper_reflexia": brisk(values) if any(values.get(f) is not None for f in _REFLEX) else None,
            "adequacy": round(adequacy(seen, side), 3),
        }
    out["bilateral_foot_drop"] = (
        None if any(out[side]["foot_drop"] is None for side in SIDES) else all(out[side]["foot_drop"] for side in SIDES)
    )
    return out


_REFLEX = ("ref.patellar", "ref.medial_hamstring", "ref.achilles")
