"""What must hold for every patient, over examinations and images drawn from the whole form."""

from __future__ import annotations

import re
from typing import Any

import pytest

from configs.clinical import ROOTS, model
from inference.clinical import assess
from inference.clinical_words import forbidden
from inference.correlate import build_case, correlate, judge_all, judge_study
from inference.exam import SIDES, Exam
from inference.roots import Imaging
from inference.triage import TIERS, tier_of, triage
from tests.inference.case_generator import AMOUNTS, random_exam, random_imaging, strings

_SWAP = {"left": "right", "right": "left"}
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def _mirrored(value: Any) -> Any:
    """Plain data with left and right exchanged wherever they stand: keys, values and words of sentences."""
    if isinstance(value, dict):
        return {_mirrored(key): _mirrored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_mirrored(item) for item in value]
    return _SIDE.sub(lambda found: _SWAP[found[0].lower()], value) if isinstance(value, str) else value


def _in_one_order(value: Any) -> Any:
    """Plain data without the order that names left before right: lists sorted, words of a sentence too, figures to 3 digits."""
    if isinstance(value, dict):
        return {key: _in_one_order(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return sorted((_in_one_order(item) for item in value), key=repr)
    if isinstance(value, float):
        return round(value + 5e-5, 3)  # away from the halves of the fourth digit that the answer is rounded to
    return " ".join(sorted(re.split(r"[ ,;:.]+", value.lower()))) if isinstance(value, str) else value


@AMOUNTS
def test_pt1_the_mirrored_patient_gets_the_mirrored_answer_and_nothing_else_changes(cases: range) -> None:
    for seed in cases:
        exam, imaging = random_exam(seed), random_imaging(seed)
        here = assess(exam, imaging).to_plain()
        there = assess(exam.mirrored(), imaging.mirrored()).to_plain()
        assert _in_one_order(_mirrored(here)) == _in_one_order(there), seed


_ALARMS: dict[str, Any] = {
    "rf.fever": True,
    "rf.cancer": True,
    "rf.trauma": True,
    "rf.weight_loss": True,
    "rf.anticoagulation": True,
    "rf.immunosuppression": True,
    "bb.retention": True,
    "bb.urinary_incontinence": True,
    "bb.bowel_incontinence": True,
    "bb.saddle": True,
    "bb.pvr_ml": 400,
    "bb.anal_tone": "reduced",
}


@AMOUNTS
def test_pt2_a_positive_warning_sign_never_lowers_the_urgency(cases: range) -> None:
    for seed in cases:
        exam, imaging = random_exam(seed), random_imaging(seed)
        before = _rank(exam, imaging)
        for field, alarm in _ALARMS.items():
            if exam.general.get(field) != alarm:
                raised = exam.model_copy(update={"general": exam.general | {field: alarm}})
                assert _rank(raised, imaging) <= before, (seed, field)


def _rank(exam: Exam, imaging: Imaging) -> int:
    judged = judge_all(build_case(exam, imaging))
    return TIERS.index(tier_of(exam, imaging, {item.finding.id: item.verdict for item in judged}))


@AMOUNTS
def test_pt3_images_only_raise_the_urgency(cases: range) -> None:
    for seed in cases:
        exam, imaging = random_exam(seed), random_imaging(seed)
        alone, seen = TIERS.index(tier_of(exam, None, {})), _rank(exam, imaging)
        assert alone >= seen, seed
        if TIERS[seen] == "T1" and TIERS[alone] != "T1":
            rules = triage(exam, imaging, correlate(exam, imaging).per_finding).rules
            assert {rule.id for rule in rules if rule.tier == "T1"} == {"TR-26"}, seed


@AMOUNTS
def test_pt4_an_open_safety_item_never_leaves_the_lowest_tier(cases: range) -> None:
    for seed in cases:
        exam = random_exam(seed)
        general = dict(exam.general)
        general.pop("attest.safety_negative", None)
        safety = ["bb.retention", "bb.saddle", "rf.fever", "rf.cancer", "rf.trauma", "time.course"]
        general.pop(safety[seed % len(safety)], None)
        result = triage(exam.model_copy(update={"general": general}))
        assert result.tier != "T4", seed
        assert "TR-18" in {rule.id for rule in result.rules}, seed


NORMAL_SIDE: dict[str, Any] = {
    **{f"mrc.{name}": "5" for name in ("iliopsoas", "quadriceps", "tibialis_anterior", "extensor_hallucis_longus")},
    **{f"mrc.{name}": "5" for name in ("toe_extensors", "peronei", "tibialis_posterior", "gluteus_medius")},
    **{f"mrc.{name}": "5" for name in ("hamstrings", "gastrocnemius")},
    **{f"sen.{root}": "normal" for root in ("L2", "L3", "L4", "L5", "S1", "S2")},
    **{"sen.stocking": "absent", "ref.patellar": 2, "ref.medial_hamstring": 2, "ref.achilles": 2},
    **{"umn.babinski": "absent", "umn.clonus": "absent", "umn.fasciculation": "absent", "umn.tone": "normal"},
    **{"ten.slr_deg": "negative", "ten.crossed_slr": "negative", "ten.femoral_stretch": "negative"},
    **{"ten.slump": "negative", "pain.leg_nrs": 0, "pain.distribution": []},
}


@AMOUNTS
def test_pt5_a_side_that_was_examined_and_found_normal_is_never_implicated(cases: range) -> None:
    imaging = Imaging.parse(
        {
            "assessed": ["L3-L4", "L4-L5", "L5-S1"],
            "findings": [
                {"level": "L4-L5", "side": "right", "zone": "subarticular", "condition": "herniation", "root_grade": 3},
                {"level": "L5-S1", "side": "right", "zone": "subarticular", "condition": "herniation", "root_grade": 3},
            ],
        }
    )
    prior = model().root_prior
    for seed in cases:
        exam = random_exam(seed).model_copy(update={"right": NORMAL_SIDE})
        case = build_case(exam, imaging)
        for root in ROOTS:
            assert case.clinical.root_state("right", root)[2] < prior[root][2], (seed, root)
        implicated = judge_study(case, judge_all(case)).implicated
        assert not [key for key in implicated if key.startswith("right:")], seed


@AMOUNTS
def test_beliefs_are_probabilities_and_shares_add_up(cases: range) -> None:
    for seed in cases:
        case = build_case(random_exam(seed), random_imaging(seed))
        for belief in (case.clinical, case.joint):
            assert belief.shared.sum() == pytest.approx(1)
            for side in SIDES:
                assert belief.side[side].sum() == pytest.approx(1)
        for deficit, shares in case.shares.items():
            assert sum(shares.values()) == pytest.approx(1, abs=1e-6), (seed, deficit)


def test_leaving_a_field_blank_is_not_the_same_as_normal() -> None:
    weak = {"mrc.tibialis_anterior": "3", "sen.L5": "reduced", "ten.slr_deg": 40}
    blank = correlate(Exam.parse({"right": weak}), None)
    full = correlate(Exam.parse({"right": {**NORMAL_SIDE, **weak}}), None)
    beliefs = [{(item.side, item.root): item.p_exam_only for item in result.roots} for result in (blank, full)]
    assert beliefs[0]["right", "L5"] > beliefs[1]["right", "L5"] + 0.1


@pytest.mark.parametrize(
    "cases", [pytest.param(range(1000), id="1000"), pytest.param(range(20_000), id="20000", marks=pytest.mark.soak)]
)
def test_pt6_every_report_says_what_it_is_and_what_is_blank_and_nothing_forbidden(cases: range) -> None:
    for seed in cases:
        result = assess(random_exam(seed), random_imaging(seed))
        assert [text for text in strings(result.to_plain()) if forbidden(text)] == [], seed
        ids = [sentence.id for section in result.narrative for sentence in section.sentences]
        assert ids[-1] == "W-16", seed
        assert result.exam is not None
        assert ("W-09" in ids) == bool(result.exam.not_examined), seed
