"""Patterns of an examination that bring a cause to mind (DX rules); each states what to consider, none a diagnosis.

Texts, lists and sources: configs/clinical/patterns.toml. Conditions hold on one side unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from configs.clinical import Pattern, patterns
from inference.clinical_checks import motor_deficit
from inference.clinical_signs import MOTOR, Observed, Recorded, brisk, reduced, residual_high, saddle
from inference.exam import SIDES, Side

Where = Literal["left", "right", "general"]


@dataclass(frozen=True)
class Fired:
    """A pattern that holds, on which side."""

    id: str
    side: Where
    always: tuple[str, ...]
    lists: tuple[str, ...]


@dataclass(frozen=True)
class SideSigns:
    """Signs of one side by name; a blank one is neither weak nor full."""

    states: Mapping[str, str]
    values: Mapping[str, Any]

    def weak(self, *muscles: str) -> bool:
        return any(self.states.get(f"mrc.{name}", "normal") != "normal" for name in muscles)

    def full(self, muscle: str) -> bool:
        return self.states.get(f"mrc.{muscle}") == "normal"

    def blank(self, muscle: str) -> bool:
        return f"mrc.{muscle}" not in self.states

    def abnormal(self, sign: str) -> bool:
        return self.states.get(sign, "normal") != "normal"

    def sensory_loss(self) -> bool:
        saddle_changed = self.values.get("sen.saddle") not in (None, "normal")
        return saddle_changed or any(self.abnormal(name) for name in self.states if name.startswith("sen."))


def side_signs(signs: tuple[Observed, ...], seen: Recorded, side: Side) -> SideSigns:
    """The signs of one side."""
    return SideSigns({item.sign: item.state for item in signs if item.side == side}, seen.side(side))


def fired_patterns(signs: tuple[Observed, ...], seen: Recorded) -> tuple[Fired, ...]:
    """Every pattern that holds, DX-16 left out (it reads posteriors)."""
    both = {side: side_signs(signs, seen, side) for side in SIDES}
    out: list[Fired] = []
    for side in SIDES:
        for name, holds in _ONE_SIDE.items():
            if holds(both[side], seen):
                extra = patterns().hip_operation["always"] if name == "DX-05" and _hip_operated(both[side]) else ()
                out.append(_fired(name, side, extra))
    out += [_fired(name, "general") for name, holds in _BOTH_SIDES.items() if holds(both["left"], both["right"], seen)]
    return tuple(sorted(out, key=lambda item: (item.id, item.side)))


def pattern(name: str) -> Pattern:
    """The entry of a pattern. KeyError when there is none."""
    for item in patterns().pattern:
        if item.id == name:
            return item
    raise KeyError(name)


def _fired(name: str, side: Where, extra: tuple[str, ...] = ()) -> Fired:
    entry = pattern(name)
    return Fired(name, side, entry.always + extra, entry.lists)


def double_lesion(side: Side) -> Fired:
    """DX-16 on a side."""
    return _fired("DX-16", side)


_SHIN = "tibialis_anterior"
_TOE = "extensor_hallucis_longus"


def _hip_operated(s: SideSigns) -> bool:
    return s.values.get("com.hip_surgery") is True


def _dx05(s: SideSigns, seen: Recorded) -> bool:
    distal = s.weak("gastrocnemius", "hamstrings") or s.abnormal("ref.achilles")
    return s.weak(_SHIN) and ((distal and not s.weak("gluteus_medius")) or _hip_operated(s))


def _dx06(s: SideSigns, seen: Recorded) -> bool:
    groups = (s.weak("quadriceps", "iliopsoas"), s.weak(_SHIN, _TOE), s.weak("gastrocnemius"))
    return s.weak(_SHIN, _TOE) and s.weak("gluteus_medius") and sum(groups) >= 2


def _dx08(s: SideSigns, seen: Recorded) -> bool:
    weak = s.weak(*(name.removeprefix("mrc.") for name in MOTOR))
    return s.abnormal("umn.fasciculation") and weak and not s.sensory_loss()


def _dx09(s: SideSigns, seen: Recorded) -> bool:
    cord = any(s.abnormal(name) for name in ("umn.babinski", "umn.clonus", "umn.tone"))
    if cord or brisk(s.values, "ref.patellar", "ref.achilles"):
        return True
    weak = s.weak(*(name.removeprefix("mrc.") for name in MOTOR)) or s.values.get("fn.flail_foot") is True
    painless = not s.values.get("pain.distribution") and not s.values.get("pain.leg_nrs")
    sudden = seen.general.get("time.course") == "sudden" and seen.within(patterns().days["sudden_stroke"])
    return weak and painless and sudden


def _dx18(s: SideSigns, seen: Recorded) -> bool:
    fields = ("com.diabetes", "com.pelvic_disease", "rf.cancer", "rf.anticoagulation")
    context = any(seen.general.get(field) is True for field in fields)
    return s.weak("iliopsoas") and s.weak("quadriceps") and context


def _any_study(s: SideSigns, seen: Recorded) -> bool:
    return any(name.startswith(("emg.", "ncs.")) for name in s.states)


_ONE_SIDE: dict[str, Callable[[SideSigns, Recorded], bool]] = {
    "DX-01": lambda s, seen: s.weak(_SHIN, _TOE) and s.weak("tibialis_posterior", "gluteus_medius"),
    "DX-02": lambda s, seen: (
        s.weak(_SHIN)
        and s.full("tibialis_posterior")
        and s.full("gluteus_medius")
        and not s.weak("quadriceps")
        and not s.abnormal("ref.patellar")
    ),
    "DX-03": lambda s, seen: s.weak(_SHIN) and s.blank("tibialis_posterior") and s.blank("gluteus_medius"),
    "DX-04": lambda s, seen: (
        s.weak(_SHIN) and s.full("peronei") and s.full("tibialis_posterior") and not s.abnormal("sen.L5")
    ),
    "DX-05": _dx05,
    "DX-06": _dx06,
    "DX-08": _dx08,
    "DX-09": _dx09,
    "DX-11": lambda s, seen: s.values.get("fn.flail_foot") is True,
    "DX-13": lambda s, seen: s.weak("gastrocnemius") or s.abnormal("ref.achilles"),
    "DX-14": lambda s, seen: s.weak("quadriceps") or s.abnormal("ref.patellar"),
    "DX-15": _any_study,
    "DX-18": _dx18,
}


def _dx07(left: SideSigns, right: SideSigns, seen: Recorded) -> bool:
    stocking = [s.abnormal("sen.stocking") for s in (left, right)]
    achilles = all(s.abnormal("ref.achilles") for s in (left, right))
    return all(stocking) or (achilles and any(stocking))


def _dx10(left: SideSigns, right: SideSigns, seen: Recorded) -> bool:
    general = seen.general
    new = any(general.get(f"bb.{name}") is True for name in ("retention", "urinary_incontinence", "bowel_incontinence"))
    tone = general.get("bb.anal_tone") in {"reduced", "absent"}
    return new or tone or saddle(seen) is True or residual_high(general) is True


def _dx12(left: SideSigns, right: SideSigns, seen: Recorded) -> bool:
    muscles = (_SHIN, "quadriceps", "iliopsoas", "gluteus_medius")
    weak = sum(left.weak(name) and right.weak(name) for name in muscles) >= 2
    quiet = any(reduced(s.values, field) for s in (left, right) for field in ("ref.patellar", "ref.achilles"))
    return weak and not quiet and not any(s.sensory_loss() for s in (left, right))


def _dx17(left: SideSigns, right: SideSigns, seen: Recorded) -> bool:
    weak = all(motor_deficit(seen, side) for side in SIDES)
    quiet = any(all(reduced(s.values, field) for s in (left, right)) for field in ("ref.achilles", "ref.patellar"))
    return weak and quiet and seen.within(patterns().days["acute_polyneuritis"]) and not seen.improving


_BOTH_SIDES: dict[str, Callable[[SideSigns, SideSigns, Recorded], bool]] = {
    "DX-07": _dx07,
    "DX-10": _dx10,
    "DX-12": _dx12,
    "DX-17": _dx17,
}
