"""Every class of bad study has its declared outcome: one way of each here, all ways and more seeds under `make soak`.

Cases that run the networks or simulate a person are left to the soak and to `python -m tests.corpus.run`.
"""

from __future__ import annotations

import shutil

import pytest

from tests.corpus.case import Case, judge
from tests.corpus.run import PAGE, all_cases, page
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
    _judged(case, int(case.id[2:]) % 2)


def test_lossless_high_throughput_jpeg_2000_is_read_alike() -> None:
    _judged(next(case for case in _CASES if case.needs), 0)


def _judged(case: Case, seed: int) -> None:
    if case.needs and shutil.which(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    assert judge(case, seed) == ""


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case.id} {case.name}")
def test_a_bad_study_has_its_declared_outcome_at_every_seed(case: Case, seed: int) -> None:
    _judged(case, seed)


def test_every_class_has_cases_or_says_why_it_has_none() -> None:
    wanted = {f"F-{n:02d}" for n in range(1, 33)} | {f"I-{n:02d}" for n in range(1, 18)}
    wanted |= {f"G-{n:02d}" for n in range(1, 31)} | {f"P-{n:02d}" for n in range(1, 19)}
    wanted |= {f"S-{n:02d}" for n in range(1, 14)}
    there = {case.id for case in _CASES}
    assert wanted - there == {name for name in OPEN if name not in there and " " not in name}
    assert there <= wanted


def test_the_page_of_the_catalogue_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
