"""What headers or bytes decide is read right within half a millimetre or told with a code, on series with known places."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.__main__ import written
from tests.differential.inputs import INPUTS, Input
from tests.differential.readers import by_recess

_QUICK = {"good", "E04", "E06", "E07", "E11", "E14", "E18", "E27", "E42", "E46", "E50", "G-13", "G-30"}


def _check(each: Input, seed: int, folder: Path) -> None:
    cell = by_recess(written(folder, each.make(seed)), each.planes)
    assert cell.result != "wrong" or cell.told
    if each.id == "good":
        assert str(cell) == "ok"


@pytest.mark.parametrize(
    "each", [each for each in INPUTS if each.id in _QUICK], ids=lambda each: f"{each.id} {each.name}"
)
def test_a_series_is_read_right_or_told(each: Input, tmp_path: Path) -> None:
    _check(each, 0, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("each", INPUTS, ids=lambda each: f"{each.id} {each.name}")
def test_every_input_is_read_right_or_told(each: Input, seed: int, tmp_path: Path) -> None:
    _check(each, seed, tmp_path)


def test_the_page_names_every_input() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "readers.md").read_text(encoding="utf-8")
    for each in INPUTS:
        assert f"| {each.id} {each.name} |" in page
