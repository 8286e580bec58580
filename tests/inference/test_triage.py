"""Each triage rule fires on the entries it names, gives the tier it promises, and stays quiet next to them."""

from __future__ import annotations

from typing import Any

import pytest

from configs.clinical import triage_rules
from inference.correlate import correlate
from inference.exam import Exam
from inference.report import Triage
from inference.roots import Imaging
from inference.triage import RULES, triage

SAFE: dict[str, Any] = {"attest.safety_negative": True, "time.course": "stable"}
TA = "mrc.tibialis_anterior"
EHL = "mrc.extensor_hallucis_longus"


def case(right: dict[str, Any] | None = None, left: dict[str, Any] | None = None, **general: Any) -> Exam:
    named = {key.replace("__", "."): value for key, value in general.items()}
    return Exam.parse({"general": SAFE | named, "right": right or {}, "left": left or {}})


def at(days: int | None, course: str = "stable") -> dict[str, Any]:
    return {"time__onset_days": days, "time__course": course}


Row = tuple[str, str, Exam, Exam]
WEAK3, WEAK4, WEAK2 = {TA: "3"}, {TA: "4"}, {TA: "2"}
TABLE: list[Row] = [
    ("TR-01", "T1", case(bb__retention=True), case(bb__retention=False)),
    ("TR-01", "T1", case(bb__pvr_ml=200), case(bb__pvr_ml=199)),
    ("TR-01", "T1", case({"sen.saddle": "reduced"}), case({"sen.saddle": "normal"})),
    ("TR-01", "T1", case(bb__anal_tone="reduced"), case(bb__anal_tone="normal")),
    ("TR-02", "T1", case(WEAK4, WEAK4, **at(84)), case(WEAK4, WEAK4, **at(85))),
    ("TR-02", "T1", case({EHL: "4"}, {"mrc.quadriceps": "4"}, **at(14)), case({EHL: "4"}, {EHL: "4+"}, **at(14))),
    ("TR-02b", "T2", case(WEAK4, WEAK4, **at(85)), case(WEAK4, **at(85))),
    ("TR-02b", "T2", case({EHL: "4"}, {EHL: "4"}, **at(84)), case({EHL: "4"}, {EHL: "4"}, **at(85))),
    ("TR-03", "T1", case(WEAK4, **at(30, "worsening_days")), case({"sen.L5": "reduced"}, **at(30, "worsening_days"))),
    ("TR-03", "T1", case(WEAK4, **at(7, "sudden")), case(WEAK4, **at(8, "sudden"))),
    ("TR-04", "T2", case(WEAK4, **at(90, "worsening_weeks")), case(WEAK4, **at(90))),
    ("TR-05", "T1", case(WEAK2, **at(14)), case(WEAK2, **at(15))),
    ("TR-05", "T1", case({"mrc.quadriceps": "2"}, **at(None)), case({"mrc.quadriceps": "2"}, **at(5, "improving"))),
    ("TR-06", "T2", case({EHL: "3"}, **at(42)), case({EHL: "3"}, **at(43))),
    ("TR-06", "T2", case({"fn.heel_walk": "unable"}, **at(10)), case({"fn.heel_walk": "difficult"}, **at(10))),
    ("TR-07", "T2", case(WEAK3, **at(400)), case({EHL: "3"}, **at(400))),
    ("TR-07", "T2", case(WEAK2, **at(40, "improving")), case(WEAK3, **at(40, "improving"))),
    ("TR-08", "T1", case({"fn.flail_foot": True}, **at(90)), case({"fn.flail_foot": False}, **at(90))),
    ("TR-08", "T2", case({"fn.flail_foot": True}, **at(91)), case(**at(91))),
    ("TR-09", "T1", case({"sen.L5": "reduced"}, rf__fever=True), case({"sen.L5": "reduced"})),
    ("TR-09", "T2", case(rf__fever=True), case(rf__fever=False)),
    ("TR-10", "T1", case(WEAK4, rf__cancer=True, **at(42)), case(WEAK4, **at(42))),
    ("TR-10", "T2", case(WEAK4, rf__cancer=True, **at(43)), case(rf__cancer=False)),
    ("TR-11", "T1", case(WEAK4, rf__trauma=True), case(WEAK4)),
    ("TR-11", "T2", case(rf__trauma=True), case(rf__trauma=False)),
    ("TR-12", "T1", case({"umn.babinski": "present"}, **at(7)), case({"umn.babinski": "absent"}, **at(7))),
    ("TR-12", "T2", case({"ref.patellar": 4}, **at(30)), case({"ref.patellar": 3}, **at(30))),
    ("TR-12", "T2", case({TA: "4", "ref.patellar": 3}, **at(30)), case({TA: "4", "ref.patellar": 2}, **at(30))),
    ("TR-13", "T1", case(WEAK4, rf__anticoagulation=True, **at(7)), case(WEAK4, rf__anticoagulation=True, **at(8))),
    ("TR-14", "T2", case(WEAK4, rf__weight_loss=True), case(rf__weight_loss=True)),
    ("TR-15", "T2", case({TA: "4+"}, **at(42)), case({TA: "4+"}, **at(43))),
    ("TR-16", "T3", case(WEAK4, **at(43)), case(WEAK4, **at(42))),
    ("TR-16", "T3", case(WEAK3, **at(10, "improving")), case(WEAK3, **at(10))),
    ("TR-17", "T3", case({"sen.L5": "reduced"}), case({"sen.L5": "reduced", TA: "4"})),
    ("TR-17", "T3", case({"ref.achilles": 1}), case({"ref.achilles": 2})),
    ("TR-18", "T3", Exam.parse({"general": {"attest.safety_negative": True}}), case()),
    ("TR-19", "T1", case({EHL: "4", "mrc.gastrocnemius": "4"}, **at(14)), case({EHL: "4", TA: "4"}, **at(14))),
    (
        "TR-19",
        "T2",
        case({EHL: "4", "mrc.quadriceps": "4"}, **at(15)),
        case({TA: "4", "mrc.quadriceps": "4"}, **at(15)),
    ),
    ("TR-20", "T3", case({"pain.leg_nrs": 8}), case({"pain.leg_nrs": 7})),
    (
        "TR-21",
        "T1",
        case(WEAK4, com__lumbar_surgery_days=30, **at(29)),
        case(WEAK4, com__lumbar_surgery_days=30, **at(31)),
    ),
    ("TR-23", "T1", case({TA: "4", "pul.pedal": "absent"}, **at(7)), case({TA: "4", "pul.pedal": "reduced"}, **at(7))),
    (
        "TR-23",
        "T1",
        case({"pain.leg_nrs": 8, "pul.pedal": "absent"}, **at(14)),
        case({"pain.leg_nrs": 8, "pul.pedal": "absent"}, **at(None)),
    ),
    (
        "TR-24",
        "T2",
        case(WEAK4, time__pain_better_deficit_persists=True),
        case(time__pain_better_deficit_persists=True),
    ),
    ("TR-24", "T3", case({TA: "4+"}, time__pain_better_deficit_persists=True), case({TA: "4+"})),
    ("TR-25", "T4", case(), case(WEAK4)),
    (
        "TR-27",
        "T2",
        case({"pain.distribution": ["L5"]}, {"ten.slr_deg": 40}, **at(14)),
        case({"pain.distribution": ["L5"]}, {"ten.slr_deg": 70}, **at(14)),
    ),
    (
        "TR-27",
        "T2",
        case({"pain.distribution": ["L5"]}, {"pain.distribution": ["S1"]}, **at(None)),
        case({"pain.distribution": ["L5"]}, {"pain.distribution": ["S1"]}, pain__claudication="neurogenic", **at(None)),
    ),
]


def tiers(result: Triage) -> dict[str, str | None]:
    return {rule.id: rule.tier for rule in result.rules}


@pytest.mark.parametrize(
    ("rule", "tier", "fires", "quiet"), TABLE, ids=[f"{row[0]}-{n}" for n, row in enumerate(TABLE)]
)
def test_rule_fires_at_its_edge_and_not_beside_it(rule: str, tier: str, fires: Exam, quiet: Exam) -> None:
    assert tiers(triage(fires)).get(rule) == tier
    assert rule not in tiers(triage(quiet))


def test_every_rule_of_the_table_is_built_and_tested() -> None:
    known = {rule.id for rule in triage_rules().rule}
    assert set(RULES) | {"TR-20", "TR-25"} == known
    assert known - {row[0] for row in TABLE} == {"TR-22", "TR-26"}, "these two read images and are tested below"
    assert set(triage_rules().panel.rules) <= known


def test_the_tier_is_the_most_urgent_that_fires() -> None:
    result = triage(case(WEAK2, **at(3, "worsening_hours")))
    assert result.tier == "T1"
    assert {"TR-03", "TR-05"} <= set(tiers(result))
    assert all(rule.source and rule.inputs for rule in result.rules)


SEVERE_CANAL = {"level": "L4-L5", "side": "both", "condition": "canal_stenosis", "severity": "severe"}
RECESS = {"level": "L4-L5", "side": "right", "condition": "recess_stenosis", "root_grade": 2}
L5 = {TA: "4", EHL: "4", "mrc.tibialis_posterior": "4", "mrc.gluteus_medius": "4", "mrc.gastrocnemius": "5"}
L5 |= {
    "mrc.quadriceps": "5",
    "sen.L5": "reduced",
    "sen.S1": "normal",
    "ref.patellar": 2,
    "ref.achilles": 2,
    "ten.slr_deg": 40,
}


def with_images(exam: Exam, *findings: dict[str, Any]) -> Triage:
    imaging = Imaging.parse({"assessed": ["L4-L5"], "findings": list(findings)})
    return triage(exam, imaging, correlate(exam, imaging).per_finding)


def test_tr22_severe_canal_with_pain_on_both_sides_raises() -> None:
    pain = {"pain.distribution": ["L5"]}
    assert tiers(with_images(case(pain, pain, **at(30)), SEVERE_CANAL))["TR-22"] == "T2"
    assert tiers(with_images(case(pain, pain, **at(85)), SEVERE_CANAL))["TR-22"] == "T3"
    assert "TR-22" not in tiers(with_images(case(pain, **at(30)), SEVERE_CANAL))
    assert "TR-22" not in tiers(with_images(case(pain, pain, **at(30)), SEVERE_CANAL | {"severity": "moderate"}))


def test_tr22_severe_canal_with_an_open_safety_item_raises() -> None:
    assert with_images(Exam.parse({"general": {}}), SEVERE_CANAL).tier == "T2"


def test_tr22_a_matching_finding_with_new_weakness_raises() -> None:
    assert tiers(with_images(case(L5, **at(84)), RECESS))["TR-22"] == "T2"
    assert "TR-22" not in tiers(with_images(case(L5, **at(85)), RECESS))
    assert "TR-22" not in tiers(with_images(case(L5, **at(60)), RECESS | {"side": "left"}))


def test_tr26_a_lesion_marked_by_a_reader_raises() -> None:
    marked = RECESS | {"red_flag_lesion": "fluid in the disc"}
    assert tiers(with_images(case(WEAK4, **at(500)), marked))["TR-26"] == "T1"
    assert tiers(with_images(case(), marked))["TR-26"] == "T2"


def test_a_quiet_scan_beside_bladder_signs_leaves_the_tier() -> None:
    exam = case(bb__retention=True)
    quiet = Imaging.parse({"assessed": ["L3-L4", "L4-L5", "L5-S1"], "findings": []})
    assert triage(exam, quiet, ()).tier == triage(exam).tier == "T1"


def test_an_edit_after_the_findings_were_shown_can_only_raise() -> None:
    """TR-D3, M-04."""
    assert triage(case(), earlier="T1").tier == "T1"
    assert triage(case(bb__retention=True), earlier="T3").tier == "T1"


def test_blank_dates_read_as_new() -> None:
    """M-07: the most urgent reading of a missing onset."""
    assert tiers(triage(case(WEAK2, **at(None))))["TR-05"] == "T1"


def test_onset_comes_from_dates_when_no_days_are_given() -> None:
    """D-05."""
    dates = {"time__exam_date": "2024-03-20", "time__onset_date": "2024-03-01"}
    assert "TR-05" not in tiers(triage(case(WEAK2, **dates)))
    assert "TR-05" in tiers(triage(case(WEAK2, **(dates | {"time__onset_date": "2024-03-10"}))))


def test_the_worse_of_two_contradicting_values_counts() -> None:
    assert triage(case({TA: "5", "fn.heel_walk": "unable"}, **at(10))).tier == "T2"
    assert triage(case(bb__saddle=False).model_copy(update={"left": {"sen.saddle": "absent"}})).tier == "T1"


def test_the_panel_is_shown_where_a_disputed_rule_gave_an_urgent_tier() -> None:
    panel = triage(case(WEAK3, **at(10))).disagreements
    first = ["SD-01", "SD-02", "SD-03", "SD-04", "SD-05", "SD-06"]
    assert [item.id for item in panel] == [*first, "SD-07", "SD-08", "SD-09", "SD-10", "SD-11", "SD-12"]
    assert all(len(item.positions) >= 2 for item in panel)
    assert panel[0].positions[0].source == "S002 (002_8815a149b938cc64.txt)"
    assert triage(case({TA: "4+"}, **at(100))).disagreements == ()
    assert triage(case(rf__fever=True)).disagreements == ()


def test_a_blank_examination_is_the_third_tier_for_its_open_safety_items() -> None:
    result = triage(Exam.parse({}))
    assert (result.tier, set(tiers(result))) == ("T3", {"TR-18"})


def test_a_blanket_safety_statement_does_not_fill_the_course() -> None:
    """M-03."""
    result = triage(Exam.parse({"general": {"attest.safety_negative": True}}))
    inputs = next(rule.inputs for rule in result.rules if rule.id == "TR-18")
    assert set(inputs) == {"general:time.course"}


def test_key_strength_is_the_lowest_of_foot_knee_and_calf_on_either_side() -> None:
    """D-11: a big toe or a hip does not count there, and a deficit needs no weakness."""
    assert "TR-05" in tiers(triage(case({}, {"mrc.gastrocnemius": "2"}, **at(3))))
    assert "TR-05" not in tiers(triage(case({EHL: "0"}, {"mrc.gluteus_medius": "0"}, **at(3))))
    for sign in ({"sen.pin.L4": "absent"}, {"ref.patellar": 0}, {"umn.clonus": "present"}, {"ref.achilles": 4}):
        assert tiers(triage(case(sign, rf__fever=True)))["TR-09"] == "T1"


def test_of_an_entered_onset_and_dates_that_differ_the_more_recent_one_counts() -> None:
    """D-05: triage takes the worse of two contradicting values."""
    dates = {"time__exam_date": "2024-03-20", "time__onset_date": "2024-03-10"}
    for entered in (4, 400):
        assert "TR-05" in tiers(triage(case(WEAK2, time__onset_days=entered, **dates)))
    assert "TR-05" in tiers(triage(case(WEAK2, time__onset_days=10, **(dates | {"time__onset_date": "2023-03-10"}))))


def test_tr23_names_every_leg_without_a_pulse() -> None:
    """A cold left leg does not hide a cold right one."""
    both = case({TA: "4", "pul.pedal": "absent"}, {TA: "4", "pul.pedal": "absent"}, **at(3))
    rule = next(item for item in triage(both).rules if item.id == "TR-23")
    assert {"left:pul.pedal", "right:pul.pedal"} <= set(rule.inputs)
