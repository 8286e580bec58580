"""A number or a rule that moves without being meant to shows here: fixed cases and what was said about them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from configs.clinical import exam_table, matrix
from inference.clinical_signs import observed_signs, recorded
from tests.inference.golden_correlate import CASES, FILE, case, outcome

EXPECTED: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("seed", range(CASES))
def test_the_answer_to_a_fixed_case_has_not_moved(seed: int) -> None:
    expected, given = EXPECTED[str(seed)], outcome(seed)
    for part in ("verdict", "findings", "tier", "rules"):
        assert given[part] == expected[part], part
    assert set(given["causes"]) == set(expected["causes"])
    assert given["causes"] == pytest.approx(expected["causes"], abs=2e-3)
    assert given["shares"] == pytest.approx(expected["shares"], abs=2e-3)
    for root, beliefs in expected["roots"].items():
        assert given["roots"][root] == pytest.approx(beliefs, abs=2e-3), root


def test_the_fixed_cases_show_every_sign_both_ways() -> None:
    seen = {
        (item.sign, item.state == "normal") for seed in range(CASES) for item in observed_signs(recorded(case(seed)[0]))
    }
    names = {sign.id for sign in matrix().sign}
    assert {name for name, _ in seen} == names
    lacking = {name for name in names if (name, True) not in seen or (name, False) not in seen}
    assert lacking == set()
    assert len(exam_table().field) >= 89
