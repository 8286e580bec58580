"""What is known about a patient before any sign: how often each cause is expected, and what raises or lowers that."""

from __future__ import annotations

from typing import Any

import pytest

from configs.clinical import LOCAL
from inference import clinical_engine as engine
from inference.clinical_signs import recorded
from inference.correlate import correlate
from inference.exam import Exam


def prior(
    cause: str, general: dict[str, Any] | None = None, right: dict[str, Any] | None = None, narrow: bool = False
) -> float:
    """Prior of a cause (on the right side, where it has one) relative to no cause at all."""
    base = engine.priors(recorded(Exam.parse({"general": general or {}, "right": right or {}})), {}, narrow)
    if cause in LOCAL:
        return float(base.local["right"][engine.LOCAL_STATES.index(cause)])
    return float(sum(base.shared[g] for g, (name, _) in enumerate(engine.SHARED_STATES) if name == cause))


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("CPN", 0.07),
        ("DPN", 0.005),
        ("SCI", 0.01),
        ("PLX", 0.01),
        ("PN", 0.04),
        ("MND", 0.004),
        ("CEN", 0.008),
        ("CES", 0.01),
        ("MYO", 0.003),
    ],
)
def test_causes_without_any_context(cause: str, expected: float) -> None:
    assert prior(cause) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("cause", "general", "right", "expected"),
    [
        ("CPN", {}, {"per.compression_history": "present"}, 0.28),
        ("CPN", {"com.hnpp": True}, {}, 0.21),
        ("CPN", {}, {"com.knee_surgery": True}, 0.175),
        ("CPN", {"rf.weight_loss": True}, {}, 0.105),
        ("CPN", {"com.vasculitis": True}, {}, 0.14),
        ("CPN", {"com.hnpp": True}, {"per.compression_history": "present"}, 0.45),
        ("SCI", {}, {"com.hip_surgery": True}, 0.1),
        ("SCI", {"com.vasculitis": True}, {}, 0.03),
        ("PLX", {"com.pelvic_disease": True}, {}, 0.08),
        ("PLX", {"com.diabetes": True}, {}, 0.03),
        ("PLX", {"rf.cancer": True}, {}, 0.02),
        ("PN", {"com.diabetes": True}, {}, 0.12),
        ("PN", {"time.onset_days": 14}, {}, 0.004),
        ("MND", {"time.onset_days": 14}, {}, 0.0004),
        ("MYO", {"time.onset_days": 14}, {}, 0.0006),
        ("CES", {"time.onset_days": 14}, {}, 0.02),
        ("MYO", {"time.onset_days": 15}, {}, 0.003),
    ],
)
def test_context_changes_how_often_a_cause_is_expected(
    cause: str, general: dict[str, Any], right: dict[str, Any], expected: float
) -> None:
    assert prior(cause, general, right) == pytest.approx(expected)


def test_context_of_one_leg_leaves_the_other_alone() -> None:
    seen = recorded(Exam.parse({"left": {"com.hip_surgery": True}}))
    assert engine.priors(seen, {}, False).local["right"][engine.LOCAL_STATES.index("SCI")] == pytest.approx(0.01)


def test_a_narrow_canal_raises_cauda_equina_involvement() -> None:
    assert prior("CES", narrow=True) == pytest.approx(0.04)


def test_a_blank_onset_changes_no_prior() -> None:
    """M-07: unknown to the model."""
    assert prior("PN", {}) == pytest.approx(0.04)


def test_causes_that_pile_up_leave_room_for_none() -> None:
    everything = {
        "com.hnpp": True,
        "com.vasculitis": True,
        "com.pelvic_disease": True,
        "com.diabetes": True,
        "rf.cancer": True,
    }
    base = engine.priors(recorded(Exam.parse({"general": everything, "right": {"com.hip_surgery": True}})), {}, False)
    assert base.local["right"].sum() == pytest.approx(1)
    assert base.local["right"].min() > 0


def test_an_irritated_root_is_implicated_only_where_it_carries_enough_of_its_side() -> None:
    def implicated(values: dict[str, Any]) -> tuple[str, ...]:
        return correlate(Exam.parse({"right": values}), None).roots_implicated

    full = {
        f"mrc.{name}": "5"
        for name in ("tibialis_anterior", "extensor_hallucis_longus", "tibialis_posterior", "gluteus_medius")
    }
    irritated = full | {"sen.L5": "reduced", "pain.distribution": ["L5"], "ten.slr_deg": 40, "ten.slump": "positive"}
    irritated |= {"ten.crossed_slr": "positive"}
    assert implicated(irritated) == ("right:L5",)
    elsewhere = {"mrc.quadriceps": "3", "mrc.iliopsoas": "3", "ref.patellar": 0, "sen.L3": "absent", "sen.L4": "absent"}
    assert "right:L5" not in implicated(irritated | elsewhere)
