"""What an examination says, in the terms of the model: signs seen, deficits with weights, contradictions, adequacy, blanks.

A blank stays a blank; a blanket statement fills blanks only and counts less. Cuts come from configs/clinical/exam.toml and model.toml.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from configs.clinical import ExamField, exam_table, matrix, model
from inference.exam import SIDES, Exam, Side

State = Literal["normal", "abnormal", "mild", "marked"]
Block = Literal["left", "right", "general"]
MOTOR = tuple(field.id for field in exam_table().field if field.scale == "mrc")
SKIN = ("L2", "L3", "L4", "L5", "S1", "S2")
REFLEXES = ("ref.patellar", "ref.medial_hamstring", "ref.achilles")
UMN = ("umn.babinski", "umn.clonus", "umn.tone")
PAIN_ROOTS = ("L3", "L4", "L5", "S1")
TENSION = ("ten.slr", "ten.crossed_slr", "ten.femoral_stretch", "ten.slump")
SAFETY = tuple(field.id for field in exam_table().field if field.safety)
BLADDER_MAJOR = ("bb.saddle", "bb.retention", "bb.pvr")
BLADDER = ("bb.retention", "bb.pvr", "bb.urinary_incontinence", "bb.bowel_incontinence", "bb.saddle", "bb.anal_tone")


@dataclass(frozen=True)
class Recorded:
    """An examination with blanket statements applied; `attested` names the values that came from one."""

    left: Mapping[str, Any]
    right: Mapping[str, Any]
    general: Mapping[str, Any]
    attested: frozenset[tuple[str, str]]
    raw: Exam

    def side(self, side: Side) -> Mapping[str, Any]:
        """Values of one side."""
        return self.left if side == "left" else self.right

    @property
    def onset_days(self) -> int | None:
        """Days from onset to examination; the shorter where entry and dates differ, None when blank or impossible."""
        known = [
            days for days in (self.general.get("time.onset_days"), _days_from_dates(self.general)) if days is not None
        ]
        return min(known) if known and min(known) >= 0 else None

    def within(self, days: int) -> bool:
        """Whether the onset is at most `days` old; a blank onset counts as new."""
        return self.onset_days is None or self.onset_days <= days

    @property
    def improving(self) -> bool:
        return self.general.get("time.course") == "improving"


def _days_from_dates(general: Mapping[str, Any]) -> int | None:
    exam, onset = general.get("time.exam_date"), general.get("time.onset_date")
    if exam is None or onset is None:
        return None
    return (dt.date.fromisoformat(exam) - dt.date.fromisoformat(onset)).days


def recorded(exam: Exam) -> Recorded:
    """Apply the blanket statements of an examination to its blanks."""
    filled = {side: _attest(exam.side(side)) for side in SIDES}
    attested: set[tuple[str, str]] = {
        (side, field) for side in SIDES for field in filled[side].keys() - exam.side(side).keys()
    }
    general = dict(exam.general)
    if general.get("attest.safety_negative"):
        for field in exam_table().block("general"):
            if field.safety and field.normal is not None and field.id not in general:
                general[field.id] = field.normal
                attested.add(("general", field.id))
    return Recorded(filled["left"], filled["right"], general, frozenset(attested), exam)


def _attest(values: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(values)
    groups = set(values.get("attest.remaining_normal", ()))
    for field in exam_table().block("side"):
        if field.attest is None or field.id in values or not groups & {field.attest, "all"}:
            continue
        if any(_function_failed(other, values) for other in field.paired) or _flail(field, values):
            continue
        out[field.id] = field.normal
    return out


def _function_failed(field_id: str, values: Mapping[str, Any]) -> bool:
    """Whether a recorded test of the same function was abnormal, so that "the rest is normal" cannot mean this one."""
    value = values.get(field_id)
    if value is None:
        return False
    if field_id in MOTOR:
        return bool(value != "5")
    if field_id == "fn.toe_raise_count":
        return bool(value < exam_table().derived.toe_raises_weak_below)
    return bool(value in {"difficult", "unable"} or value is True)


FLAIL_MUSCLES = (
    "mrc.tibialis_anterior",
    "mrc.extensor_hallucis_longus",
    "mrc.toe_extensors",
    "mrc.peronei",
    "mrc.tibialis_posterior",
    "mrc.gastrocnemius",
    "fn.heel_walk",
    "fn.toe_walk",
)


def _flail(field: ExamField, values: Mapping[str, Any]) -> bool:
    return values.get("fn.flail_foot") is True and field.id in FLAIL_MUSCLES


def mrc(values: Mapping[str, Any], field_id: str) -> float | None:
    """Numeric MRC grade, None when not examined."""
    grade = values.get(field_id)
    return None if grade is None else exam_table().mrc_numeric[grade]


@dataclass(frozen=True)
class Observed:
    """One sign of the matrix as it was seen: where, which entry it came from, and how much it counts."""

    side: Block
    sign: str
    field: str
    state: State
    graded: bool
    attested: bool


def observed_signs(seen: Recorded) -> tuple[Observed, ...]:
    """All signs of the matrix that were examined; blanks are absent."""
    out: list[Observed] = []
    for side in SIDES:
        out += _motor(seen, side) + _skin(seen, side) + _reflexes(seen, side) + _other(seen, side)
    return tuple(out + _bladder(seen))


def _mark(
    seen: Recorded, side: Block, sign: str, fields: tuple[str, ...], state: State, graded: bool = False
) -> Observed:
    attested = all((side, field) in seen.attested for field in fields)
    return Observed(side, sign, fields[0], state, graded, attested)


def _motor(seen: Recorded, side: Side) -> list[Observed]:
    values, out = seen.side(side), []
    for muscle in MOTOR:
        grade = mrc(values, muscle)
        if grade is not None:
            marked = grade <= exam_table().derived.marked_weakness_to
            state: State = "normal" if grade == 5 else "marked" if marked else "mild"
            out.append(_mark(seen, side, muscle, (muscle,), state, graded=True))
        else:
            stand_in = _stand_in(values, muscle)
            if stand_in is not None:
                field, weak = stand_in
                out.append(_mark(seen, side, muscle, (field,), "abnormal" if weak else "normal"))
    return out


def _stand_in(values: Mapping[str, Any], muscle: str) -> tuple[str, bool] | None:
    """A walking or standing test in place of a blank muscle grade: the field and whether it was weak."""
    tests = {
        "mrc.tibialis_anterior": ("fn.heel_walk",),
        "mrc.gastrocnemius": ("fn.toe_raise_count", "fn.toe_walk"),
        "mrc.gluteus_medius": ("fn.trendelenburg",),
    }.get(muscle, ())
    done = [test for test in tests if values.get(test) is not None]
    weak = [test for test in done if _function_failed(test, values)]
    return (weak[0], True) if weak else (done[0], False) if done else None


def _skin(seen: Recorded, side: Side) -> list[Observed]:
    values, out = seen.side(side), []
    for root in SKIN:
        fields = tuple(field for field in (f"sen.{root}", f"sen.pin.{root}") if values.get(field) is not None)
        if fields:
            bad = tuple(field for field in fields if values[field] != "normal")
            out.append(_mark(seen, side, f"sen.{root}", bad or fields, "abnormal" if bad else "normal"))
    stocking = values.get("sen.stocking")
    if stocking is not None:
        state: State = "abnormal" if stocking == "present" else "normal"
        out.append(_mark(seen, side, "sen.stocking", ("sen.stocking",), state))
    return out


def brisk(values: Mapping[str, Any], *fields: str) -> bool:
    """Whether one of the reflexes is brisk or clonic."""
    cut = exam_table().derived.reflex_brisk_from
    return any((grade := values.get(field)) is not None and grade >= cut for field in fields or REFLEXES)


def reduced(values: Mapping[str, Any], field: str) -> bool:
    """Whether a reflex is reduced or absent."""
    grade = values.get(field)
    return grade is not None and grade <= exam_table().derived.reflex_reduced_to


def _reflexes(seen: Recorded, side: Side) -> list[Observed]:
    values, out = seen.side(side), []
    examined = tuple(field for field in REFLEXES if values.get(field) is not None)
    for field in examined:
        if not brisk(values, field):
            out.append(_mark(seen, side, field, (field,), "abnormal" if reduced(values, field) else "normal"))
    if examined:
        lively = tuple(field for field in examined if brisk(values, field))
        out.append(_mark(seen, side, "umn.hyper", lively or examined, "abnormal" if lively else "normal"))
    return out


def slr_positive(values: Mapping[str, Any]) -> bool | None:
    """Straight-leg raise reproduces leg pain below the cut; None when not examined."""
    angle = values.get("ten.slr_deg")
    if angle is None:
        return None
    return angle != "negative" and bool(angle < exam_table().derived.slr_positive_below_deg)


_ABNORMAL: dict[str, tuple[str, ...]] = {
    "ten.crossed_slr": ("positive",),
    "ten.femoral_stretch": ("positive",),
    "ten.slump": ("positive",),
    "per.tinel": ("positive",),
    "umn.babinski": ("present",),
    "umn.clonus": ("present",),
    "umn.tone": ("increased",),
    "umn.fasciculation": ("present",),
    "ncs.sup_peroneal_snap": ("reduced", "absent"),
    "ncs.sural": ("reduced", "absent"),
    "ncs.peroneal_block": ("present",),
}


def _other(seen: Recorded, side: Side) -> list[Observed]:
    values, out = seen.side(side), []
    positive = slr_positive(values)
    if positive is not None:
        out.append(_mark(seen, side, "ten.slr", ("ten.slr_deg",), "abnormal" if positive else "normal"))
    for field, bad in _ABNORMAL.items():
        if values.get(field) is not None:
            out.append(_mark(seen, side, field, (field,), "abnormal" if values[field] in bad else "normal"))
    areas = values.get("pain.distribution")
    if areas is not None:
        for root in PAIN_ROOTS:
            state: State = "abnormal" if root in areas else "normal"
            out.append(_mark(seen, side, f"pain.{root}", ("pain.distribution",), state))
    for sign in matrix().sign:
        result = values.get(sign.id) if sign.id.startswith("emg.") else None
        if result == "denervation" or (result == "normal" and not needle_too_early(seen)):
            out.append(_mark(seen, side, sign.id, (sign.id,), "abnormal" if result == "denervation" else "normal"))
    return out


def needle_too_early(seen: Recorded) -> bool:
    """Whether the needle study came before denervation can be expected; then a quiet needle says nothing."""
    days = seen.general.get("emg.days_after_onset")
    return days is not None and days < exam_table().derived.emg_needle_valid_from_days


def saddle(seen: Recorded) -> bool | None:
    """Saddle numbness: recorded so, or found on either side; None when it was not asked and nothing was found."""
    found = [seen.side(side).get("sen.saddle") for side in SIDES]
    if any(item not in (None, "normal") for item in found):
        return True
    return seen.general.get("bb.saddle")


def _bladder(seen: Recorded) -> list[Observed]:
    general, out = seen.general, []
    states: dict[str, tuple[str, bool | None]] = {
        "bb.saddle": ("bb.saddle", saddle(seen)),
        "bb.pvr": ("bb.pvr_ml", residual_high(general)),
        "bb.anal_tone": ("bb.anal_tone", _unlike(general.get("bb.anal_tone"), "normal")),
    }
    for field in ("bb.retention", "bb.urinary_incontinence", "bb.bowel_incontinence"):
        states[field] = (field, general.get(field))
    for sign in BLADDER:
        field, bad = states[sign]
        if bad is not None:
            out.append(_mark(seen, "general", sign, (field,), "abnormal" if bad else "normal"))
    return out


def _unlike(value: Any, normal: str) -> bool | None:
    return None if value is None else value != normal


def residual_high(general: Mapping[str, Any]) -> bool | None:
    """Whether the post-void residual reaches the abnormal cut; None when not measured."""
    residual = general.get("bb.pvr_ml")
    return None if residual is None else residual >= exam_table().derived.residual_abnormal_from_ml


@dataclass(frozen=True)
class Deficit:
    """A recorded sign that asks for a cause, with its weight; `field` is the entry, `sign` the row of the matrix."""

    side: Block
    sign: str
    field: str
    weight: float

    @property
    def key(self) -> str:
        """side:field as reports name it."""
        return f"{self.side}:{self.field}"


def scored(signs: tuple[Observed, ...]) -> tuple[tuple[Deficit, ...], bool]:
    """What the images have to account for, and whether these are deficits (else pain and tension signs only)."""
    bad = [item for item in signs if item.state != "normal"]
    deficits = tuple(
        Deficit(item.side, item.sign, _entry(item), weight) for item in bad if (weight := _deficit_weight(item)) > 0
    )
    if deficits:
        return deficits, True
    weights = model().deficit_weight
    irritative = [(item, weights["pain_root"]) for item in bad if item.sign.startswith("pain.")]
    irritative += [(item, weights["tension"]) for item in bad if item.sign in TENSION]
    return tuple(Deficit(item.side, item.sign, _entry(item), weight) for item, weight in irritative), False


def _entry(item: Observed) -> str:
    return item.sign if item.sign.startswith(("pain.", "sen.", "umn.hyper")) else item.field


def _deficit_weight(item: Observed) -> float:
    weights = model().deficit_weight
    if item.sign in MOTOR:
        return weights["motor_marked"] if item.state == "marked" else weights["motor"]
    if item.sign in REFLEXES:
        return weights["medial_hamstring"] if item.sign == "ref.medial_hamstring" else weights["reflex"]
    if item.sign == "sen.stocking":
        return weights["stocking"]
    if item.sign.startswith("sen."):
        return weights["dermatome"]
    if item.sign in UMN:
        return weights["upper_motor_neuron"]
    if item.sign == "umn.hyper":
        return weights["hyper_reflexia"]
    if item.side == "general":
        return weights["bladder_major"] if item.sign in BLADDER_MAJOR else weights["bladder_other"]
    return 0.0


def adequacy(seen: Recorded, side: Side) -> float:
    """Share (0..1) of the L3-S1 examination that was done on a side."""
    values, items = seen.side(side), model().adequacy
    done = sum(item.weight for item in items if any(values.get(field) is not None for field in item.fields))
    return done / sum(item.weight for item in items)


def study_adequacy(seen: Recorded, deficits: tuple[Deficit, ...]) -> float:
    """Adequacy of the study: the lowest among sides with deficits; without any, the better side."""
    affected = {item.side for item in deficits}
    scores = [adequacy(seen, side) for side in SIDES if side in affected]
    return min(scores) if scores else max(adequacy(seen, side) for side in SIDES)


def blanks(seen: Recorded) -> tuple[str, ...]:
    """Entries that were not examined, as side:field, in the order of the form."""
    general = [
        f"general:{field.id}"
        for field in exam_table().block("general")
        if field.blank_matters and seen.general.get(field.id) is None and not _known_otherwise(field.id, seen)
    ]
    sided = [
        f"{side}:{field.id}"
        for side in SIDES
        for field in exam_table().block("side")
        if field.blank_matters and seen.side(side).get(field.id) is None
    ]
    return tuple(general + sided)


def _known_otherwise(field_id: str, seen: Recorded) -> bool:
    return field_id == "time.onset_days" and seen.onset_days is not None


def side_blank(seen: Recorded, side: Side) -> bool:
    """Whether nothing was entered for a side."""
    return not any(value is not None for value in seen.side(side).values())
