"""What the triage rules ask of the entries: strength per side, deficits, cord signs, and the inputs that a rule shows.

The worse of two contradicting values counts; cuts in configs/clinical/triage.toml and exam.toml.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from configs.clinical import exam_table, triage_rules
from inference.clinical_signs import REFLEXES, SKIN, Recorded, mrc, reduced
from inference.exam import SIDES, Side
from inference.imaging_findings import Imaging


@dataclass(frozen=True)
class Facts:
    """What the rules ask of the entries, computed once."""

    seen: Recorded
    strength: dict[Side, dict[str, float]]
    imaging: Imaging | None
    verdicts: dict[str, str]

    def new(self, name: str) -> bool:
        """Onset within the named number of days; a blank onset counts as new."""
        return self.seen.within(triage_rules().days[name])

    @property
    def course(self) -> str | None:
        return self.seen.general.get("time.course")

    @property
    def improving(self) -> bool:
        return self.seen.improving

    def weak_fields(self, side: Side, up_to: float | None = None) -> tuple[str, ...]:
        """Functions of a side that are weak (below full, or at most `up_to`)."""
        full = triage_rules().cut.foot_drop_below
        return tuple(
            field for field, grade in self.strength[side].items() if (grade < full if up_to is None else grade <= up_to)
        )

    @property
    def motor(self) -> bool:
        return any(self.weak_fields(side) for side in SIDES)

    def side_deficit(self, side: Side) -> bool:
        """Any deficit on a side: motor, sensory, reflex, Babinski, clonus, increased tone or a clonic reflex."""
        return bool(self.weak_fields(side)) or self.sensory(side) or self.reflex(side) or bool(self.cord(side))

    @property
    def deficit(self) -> bool:
        return any(self.side_deficit(side) for side in SIDES)

    def sensory(self, side: Side) -> bool:
        values = self.seen.side(side)
        skin = [values.get(f"{kind}.{root}") for kind in ("sen", "sen.pin") for root in SKIN]
        return any(item not in (None, "normal") for item in (*skin, values.get("sen.saddle"))) or (
            values.get("sen.stocking") == "present"
        )

    def reflex(self, side: Side) -> bool:
        return any(reduced(self.seen.side(side), field) for field in REFLEXES)

    def cord(self, side: Side) -> dict[str, Any]:
        """Upper motor neuron signs of a side."""
        values = self.seen.side(side)
        signs = {"umn.babinski": "present", "umn.clonus": "present", "umn.tone": "increased"}
        out = {f"{side}:{field}": values[field] for field, bad in signs.items() if values.get(field) == bad}
        clonic = exam_table().derived.reflex_clonic_from
        return out | {f"{side}:{f}": values[f] for f in REFLEXES if (values.get(f) or 0) >= clonic}

    def key_strength(self) -> float | None:
        """Lowest of foot lift, knee extension and calf on either side."""
        key = ("mrc.tibialis_anterior", "mrc.quadriceps", "mrc.gastrocnemius")
        known = [self.strength[side][field] for side in SIDES for field in key if field in self.strength[side]]
        return min(known, default=None)

    def lowest_lift(self) -> float | None:
        """Lowest foot lift of the two sides."""
        known = [
            self.strength[side]["mrc.tibialis_anterior"]
            for side in SIDES
            if "mrc.tibialis_anterior" in self.strength[side]
        ]
        return min(known, default=None)

    def marked_fields(self) -> list[str]:
        """Entries at MRC 3 or less, foot lift with the heel walk taken in."""
        low = triage_rules().cut.marked_to
        out: list[str] = []
        for side in SIDES:
            values = self.seen.side(side)
            lift = self.strength[side].get("mrc.tibialis_anterior")
            for field in self.strength[side]:
                grade = lift if field == "mrc.tibialis_anterior" else mrc(values, field)
                if grade is not None and grade <= low:
                    out.append(f"{side}:{field}")
        return out

    def inputs(self, keys: Iterable[str]) -> dict[str, Any]:
        """Recorded values of entries given as side:field; a muscle that was tested by walking shows that test."""
        out: dict[str, Any] = {}
        for key in keys:
            block, _, field = key.partition(":")
            values = self.seen.general if block == "general" else self.seen.side("left" if block == "left" else "right")
            for name in (field, *exam_table().find(field).paired, *(("fn.flail_foot",) if "tibialis" in field else ())):
                value = values.get(name)
                if value is not None and not _unremarkable(name, value):
                    out[f"{block}:{name}"] = value
        return out

    def weak_inputs(self, up_to: float | None = None) -> dict[str, Any]:
        return self.inputs(f"{side}:{field}" for side in SIDES for field in self.weak_fields(side, up_to))

    def timing(self) -> dict[str, Any]:
        """Onset and course as recorded; a blank is shown as such."""
        return {"general:time.onset_days": self.seen.onset_days, "general:time.course": self.course}


def _unremarkable(field: str, value: Any) -> bool:
    kept = {"fn.toe_raise_count"}
    if field in kept:
        return bool(value >= exam_table().derived.toe_raises_weak_below)
    return value in ("5", "able", False)
