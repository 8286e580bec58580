"""Every rule of the clinical half is named by a test, or stands in a short list of rules that are not built, with the reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from configs.clinical import patterns, second_read_rules, triage_rules, words
from inference.triage import RULES


def numbered(prefix: str, last: int) -> list[str]:
    return [f"{prefix}-{number:02d}" for number in range(1, last + 1)]


KNOWN = [
    *numbered("M", 7),
    *numbered("D", 11),
    *numbered("Q", 12),
    *numbered("RA", 10),
    *numbered("IM", 13),
    *numbered("DX", 18),
    *numbered("V", 7),
    *numbered("CAP", 9),
    *numbered("S", 6),
    *numbered("N", 3),
    *numbered("TR", 27),
    "TR-02b",
    *numbered("SD", 12),
    *numbered("DC", 11),
    *numbered("W", 19),
    *numbered("F", 9),
]

NOT_BUILT = {
    "RA-09": "furcal and conjoined roots are never named by the program; the limits section says that they exist",
    "IM-01": "read from images, not by the clinical half: what a bulge is",
    "IM-02": "read from images: what a herniation is",
    "IM-03": "read from images: what a protrusion is",
    "IM-04": "read from images: what an extrusion is",
    "IM-05": "read from images: what a sequestration is",
    "IM-06": "read from images: zones on axial slices",
    "IM-07": "read from images: uncertain type",
    "IM-09": "a surgical scale of the recess that findings may cite; nothing is computed from it",
    "IM-10": "a root scale that findings may cite; nothing is computed from it",
    "IM-11": "names of scales; nothing is computed from them",
    "IM-12": "a limit on claims in documents",
}


def _named() -> str:
    here = Path(__file__)
    return "\n".join(path.read_text(encoding="utf-8") for path in here.parent.glob("test_*.py") if path != here).lower()


@pytest.mark.parametrize("rule", KNOWN)
def test_rule_is_named_by_a_test_or_listed_as_not_built(rule: str) -> None:
    family, number = rule.lower().split("-")
    found = re.search(rf"(?<![a-z0-9]){family}-?{number}(?![0-9a-z])", _named()) is not None
    assert found or rule in NOT_BUILT, f"{rule} is neither tested nor listed"


def test_the_tables_hold_exactly_the_known_rules() -> None:
    def family(name: str) -> set[str]:
        return {rule for rule in KNOWN if rule.startswith(f"{name}-")}

    assert {rule.id for rule in triage_rules().rule} == family("TR") == set(RULES) | {"TR-20", "TR-25"}
    assert {item.id for item in patterns().pattern} == family("DX")
    assert {item.id for item in triage_rules().panel.subject} == family("SD")
    assert {item.id for item in second_read_rules().difference} == family("DC") - {"DC-11"}
    assert {item.rule for item in words().forbidden} == family("F")
    assert {key for key in words().sentence if re.fullmatch(r"W-\d\d", key)} == family("W")
    assert set(words().reason) - {"partial_fit"} == family("CAP") | family("V") | {"RA-07", "RA-10"}
