"""What must hold for every patient, over examinations and images drawn from the whole form."""

from __future__ import annotations

from typing import Any

import pytest

from configs.clinical import ROOTS, model
from inference.clinical import assess
from inference.clinical_words import forbidden
from inference.correlate import build_case, correlate
from inference.exam import SIDES, Exam
from inference.roots import Imaging
from inference.triage import TIERS, triage
from tests.inference.case_generator import AMOUNTS, random_exam, random_imaging, strings

_SWAP = {"left": "right", "right": "left"}


def _swapped(text: str) -> str:
    block, _, rest = text.partition(":")
    return f"{_SWAP.get(block, block)}:{rest}" if rest else text


@AMOUNTS
def test_the_mirrored_patient_gets_the_mirrored_answer(cases: range) -> None:
    for seed in cases:
        exam, imaging = random_exam(seed), random_imaging(seed)
        here, there = correlate(exam, imaging), correlate(exam.mirrored(), imaging.mirrored())
        assert here.verdict == there.verdict, seed
        assert here.rules_fired == there.rules_fired, seed
        assert [item.verdict for item in here.per_finding] == [item.verdict for item in there.per_finding], seed
        assert {_swapped(key) for key in here.roots_implicated} == set(there.roots_implicated), seed
        assert {_swapped(key) for key in here.unexplained_deficits} == set(there.unexplained_deficits), seed
        mirrored = {(item.side, item.root): item.p_with_imaging for item in there.roots}
        for item in here.roots:
            assert mirrored[_SWAP[item.side], item.root] == pytest.approx(item.p_with_imaging, abs=2e-4)  # type: ignore[index]
        causes = {item.name: item.p for item in here.alternatives}
        assert causes == pytest.approx({item.name: item.p for item in there.alternatives}, abs=2e-4), seed
        assert {_swapped(item.field) for item in here.missing} == {item.field for item in there.missing}, seed
        first, second = (
            triage(exam, imaging, here.per_finding),
            triage(exam.mirrored(), imaging.mirrored(), there.per_finding),
        )
        assert (first.tier, {rule.id for rule in first.rules}) == (second.tier, {rule.id for rule in second.rules}), (
            seed
        )


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
@pytest.mark.parametrize("field", _ALARMS)
def test_a_positive_warning_sign_never_lowers_the_urgency(field: str, cases: range) -> None:
    for seed in cases[:: len(_ALARMS) // 3]:
        exam, imaging = random_exam(seed), random_imaging(seed)
        raised = exam.model_copy(update={"general": exam.general | {field: _ALARMS[field]}})
        assert _rank(raised, imaging) <= _rank(exam, imaging), (seed, field)


def _rank(exam: Exam, imaging: Imaging) -> int:
    return TIERS.index(triage(exam, imaging, correlate(exam, imaging).per_finding).tier)


@AMOUNTS
def test_images_only_raise_the_urgency(cases: range) -> None:
    for seed in cases:
        exam, imaging = random_exam(seed), random_imaging(seed)
        alone = triage(exam).tier
        seen = triage(exam, imaging, correlate(exam, imaging).per_finding)
        assert TIERS.index(alone) >= TIERS.index(seen.tier), seed
        if seen.tier == "T1" and alone != "T1":
            assert {rule.id for rule in seen.rules if rule.tier == "T1"} == {"TR-26"}, seed


@AMOUNTS
def test_an_open_safety_item_never_leaves_the_lowest_tier(cases: range) -> None:
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
def test_a_side_that_was_examined_and_found_normal_is_never_implicated(cases: range) -> None:
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
        case = build_case(exam, None)
        for root in ROOTS:
            assert case.clinical.root_state("right", root)[2] < prior[root][2], (seed, root)
        implicated = correlate(exam, imaging).roots_implicated
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


@pytest.mark.parametrize("cases", [range(1000)])
def test_every_report_says_what_it_is_and_what_is_blank_and_nothing_forbidden(cases: range) -> None:
    for seed in cases:
        exam = random_exam(seed)
        result = assess(exam, random_imaging(seed))
        assert [text for text in strings(result.to_plain()) if forbidden(text)] == [], seed
        ids = [sentence.id for section in result.narrative for sentence in section.sentences]
        assert "W-16" in ids, seed
        assert result.exam is not None
        assert ("W-09" in ids) == bool(result.exam.not_examined), seed
