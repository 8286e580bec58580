"""Every class of bad study has its declared outcome: one way of each here, all ways and more seeds under `make soak`."""

from __future__ import annotations

import pytest

from tests.corpus.case import Case, judge
from tests.corpus.run import all_cases
from tests.corpus.scope import OPEN

_CASES = all_cases()


def _first_of_each() -> list[Case]:
    seen: dict[str, Case] = {}
    for case in _CASES:
        if not case.costly:
            seen.setdefault(case.id, case)
    return list(seen.values())


@pytest.mark.parametrize("case", _first_of_each(), ids=lambda case: f"{case.id} {case.name}")
def test_a_bad_study_has_its_declared_outcome(case: Case) -> None:
    seed = int(case.id[2:]) % 2
    assert judge(case, seed) == ""


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case.id} {case.name}")
def test_a_bad_study_has_its_declared_outcome_at_every_seed(case: Case, seed: int) -> None:
    assert judge(case, seed) == ""


def test_every_class_has_cases_or_says_why_it_has_none() -> None:
    wanted = {f"F-{n:02d}" for n in range(1, 33)} | {f"I-{n:02d}" for n in range(1, 18)}
    wanted |= {f"G-{n:02d}" for n in range(1, 31)} | {f"P-{n:02d}" for n in range(1, 19)}
    wanted |= {f"S-{n:02d}" for n in range(1, 14)}
    assert wanted <= {case.id for case in _CASES} | {name[:4] for name in OPEN}
