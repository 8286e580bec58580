"""Some of the legitimate variants and of the abnormal studies, read whole; all of them: `python -m tests.findings.run`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inference.analyze import Engine
from inference.provenance import findings_digest
from tests.findings.abnormal import Abnormal, inputs_of, judge_abnormal
from tests.findings.invariance import judge_variant, variants
from tests.findings.reading import remembered_networks, untouched
from tests.findings.run import PAGE, page

_VARIANTS = (
    "I-04 every object twice",
    "G-12 a series for every block",
    "G-29 enhanced multi-frame",
    "P-01 MONOCHROME1",
    "UIDs and dates made anew",
    "axial pictures stored turned by a quarter",
)
_ABNORMAL = (
    "axial slice 7 missing",
    "no PixelSpacing in axT2",
    "axT2 pixels mirrored",
    "axT2 oblong, swapped",
    "only L4-L5 mirrored",
    "I-01 one slice of another patient",
)


@pytest.fixture(scope="module", autouse=True)
def _networks() -> Iterator[None]:
    with remembered_networks():
        yield


@pytest.fixture(scope="module")
def abnormal() -> dict[str, Abnormal]:
    return {item.name: item for item in inputs_of(0)}


@pytest.mark.parametrize("name", _VARIANTS)
def test_however_a_study_legitimately_arrives_the_findings_are_the_same(name: str, engine: Engine) -> None:
    (variant,) = [variant for variant in variants() if variant.name == name]
    assert judge_variant(variant, 0, engine) == ""


@pytest.mark.parametrize("name", _ABNORMAL)
def test_an_abnormal_study_says_nothing_wrong_and_its_sound_parts_are_read(
    name: str, engine: Engine, abnormal: dict[str, Abnormal]
) -> None:
    assert judge_abnormal(abnormal[name], engine) == ""


def test_the_page_of_the_findings_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_there_are_forty_variants() -> None:
    assert len({variant.name for variant in variants()}) == 40


def test_a_value_a_side_or_a_level_that_changed_changes_the_findings_digest(engine: Engine) -> None:
    base = untouched(0, engine)
    assert findings_digest(base.model_copy(update={"id": "another", "warnings": ()})) == findings_digest(base)
    for update in ({"side": "left"}, {"level": "L1-L2"}, {"severity": "moderate"}, {"probability": 0.123}):
        changed = base.findings[0].model_copy(update=update)
        other = base.model_copy(update={"findings": (changed, *base.findings[1:])})
        assert findings_digest(other) != findings_digest(base)
