"""The study of the correlation itself: every number is moved and put back, drawn patients are made by the tables."""

from __future__ import annotations

import numpy as np
import pytest

from configs.clinical import ROOTS, matrix, model
from configs.clinical.site import altered
from inference.clinical import assess
from inference.triage import TIERS, tier_of
from tests.inference.case_generator import random_exam, random_imaging
from training.clinical_patients import Patient, Population, draw_patient
from training.evaluate_clinical import (
    POPULATIONS,
    Number,
    all_together,
    draw_group,
    moved,
    numbers,
    one_at_a_time,
    outcome,
    what_is_told,
)


@pytest.fixture(scope="module")
def group() -> list[Patient]:
    return draw_group(np.random.default_rng(5), 6)


def named(name: str) -> Number:
    return next(item for item in numbers() if item.name == name)


def test_every_weight_prior_ratio_and_cut_is_among_the_numbers() -> None:
    names = {item.name for item in numbers()}
    weights = {f"matrix.sign.{row.id}.w.{cause}" for row in matrix().sign for cause, value in row.w.items() if value}
    assert weights <= names
    assert {f"model.root_prior.{root}[2]" for root in ROOTS} <= names
    assert {"model.imaging.ratio_by_grade[3]", "model.verdict.explains_share", "triage.days.six_weeks"} <= names
    assert "routes.route.L4-L5.subarticular.L5" in names


def test_moved_priors_still_add_up_and_probabilities_stay_probabilities() -> None:
    for factor in (0.8, 1.2):
        with altered(moved([(item, factor) for item in numbers() if item.path[0] in {"model", "matrix", "routes"}])):
            assert all(sum(prior) == pytest.approx(1) for prior in model().root_prior.values())
            assert max(value for row in matrix().sign for value in row.w.values()) < 1


def test_a_number_that_is_moved_is_put_back(group: list[Patient]) -> None:
    before = [outcome(patient) for patient in group]
    one_at_a_time(group, [named("model.verdict.explains_share")])
    all_together(group, draws=1, seed=1)
    assert [outcome(patient) for patient in group] == before


def test_a_number_that_nothing_reads_moves_nothing_and_a_cut_moves_verdicts(group: list[Patient]) -> None:
    (still,) = one_at_a_time(group, [named("model.prior_factor.CPN#2.factor")])
    assert (still.study, still.finding, still.roots, still.tier) == (0, 0, 0, 0)
    with altered({"model": {"verdict": {"contributes_share": 0.0, "contributes_p_any": 0.0}}}):
        wide = [outcome(patient).findings for patient in group]
    assert wide != [outcome(patient).findings for patient in group]


def test_the_same_seed_draws_the_same_patient() -> None:
    first, second = (draw_patient(np.random.default_rng(8), POPULATIONS[1]) for _ in range(2))
    assert first == second
    assert draw_patient(np.random.default_rng(9), POPULATIONS[1]) != first


def test_drawn_weakness_is_as_frequent_as_the_tables_say() -> None:
    rng, weak, seen = np.random.default_rng(3), 0, 0
    for _ in range(900):
        patient = draw_patient(rng, Population("as the tables"))
        for side in ("left", "right"):
            roots = [patient.roots[side, root] for root in ROOTS]  # type: ignore[index]
            grade = patient.exam.side(side).get("mrc.gluteus_medius")  # type: ignore[arg-type]
            if roots == [0, 0, 2, 0] and grade is not None:
                seen, weak = seen + 1, weak + (grade != "5")
    assert seen > 80
    assert weak / seen == pytest.approx(0.7, abs=0.12)


def test_examination_and_images_together_tell_more_than_images_alone() -> None:
    told = {(item.source, item.root): item.auc for item in what_is_told(POPULATIONS[0], 120, seed=4)}
    for root in ("L5", "S1"):
        assert told["both", root] > told["images", root] + 0.1
        assert told["examination", root] > 0.8


def test_the_short_way_to_the_tier_gives_the_tier_of_the_report() -> None:
    for seed in range(60):
        exam, imaging = random_exam(seed), random_imaging(seed)
        result = assess(exam, imaging)
        assert result.concordance is not None
        verdicts = {item.finding_id: item.verdict for item in result.concordance.per_finding}
        assert tier_of(exam, imaging, verdicts) == result.triage.tier, seed
        assert result.triage.tier in TIERS
