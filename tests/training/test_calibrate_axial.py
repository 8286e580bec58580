"""What the fits on simulated studies write into the cards: lines that carry painted sizes to their truth, a head that tells herniations."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.measure import measure_level
from inference.recess_depth import Depth
from inference.sizes import Size, carried
from models.weights import CARDS, load_card
from tests.inference.axial_scene import MARGIN, painted_reading
from training import calibrate_axial as module
from training.calibrate_axial import Case, calibrate_axial

_TOO_LARGE = 1.25
"""The painted sacs and depths are so much larger than what is called their truth."""


def case(number: int) -> Case:
    """One painted disc; every other one has a herniation on the left."""
    rng = np.random.default_rng(number)
    area, depth = float(rng.uniform(80, 220)), float(rng.uniform(1, 9))
    extent = float(rng.uniform(4, 8)) if number % 2 else 0.0
    axial = painted_reading(sub=1, sac_area=area, hernia_left=extent)
    depths = {side: Depth(depth, 0.4, (depth, depth)) for side in ("left", "right")}
    truth = {
        **{side: {"recess_depth_soft_mm": depth / _TOO_LARGE} for side in depths},
        "posterior_margin_lps": (MARGIN + np.array([3.0, 0.0, 2.5 if number % 2 else -2.5])).tolist(),
        "sac_area_mm2": area / _TOO_LARGE,
        "sac_ap_mm": 2 * np.sqrt(area / np.pi) / _TOO_LARGE,
        "herniation": {"extent_mm": extent, "u_mm": 13.0} if extent else None,
    }
    return Case(replace(axial, depths=depths, along_mm=2.0 if number % 2 else -2.0), truth, number, number % 4 > 1)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cards that the fit on forty painted discs wrote."""
    folder = tmp_path_factory.mktemp("calibrated") / "cards"
    shutil.copytree(CARDS, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "study_cases", lambda *_: [case(number) for number in range(40)])
        figures = calibrate_axial(folder, device="cpu", cards=folder)
    assert "outside the ranges of training, 20 discs, mean abs error: placed by sagittal slices 2.50 mm" in figures
    assert figures.count("by axial ones 0.50 mm") == 2
    assert "herniation of 2 mm or more, 20 discs: sensitivity 1.000" in figures
    assert "side right 20/20" in figures
    assert "1.6 mm -" in figures.split("by the largest stated error: ")[1]
    return folder


def test_sizes_of_a_painted_level_are_carried_to_what_was_called_their_truth(cards: Path) -> None:
    constants = load_card("axial", cards).constants
    canal = measure_level(painted_reading(sub=1, sac_area=150.0), constants).canal
    assert not isinstance(canal, Size)
    assert canal.area.value == pytest.approx(150 / _TOO_LARGE, abs=3)  # type: ignore[union-attr]
    recess = load_card("axial_recess", cards).constants
    assert recess["slope"] == pytest.approx(1 / _TOO_LARGE, abs=0.02)
    assert recess["intercept"] == pytest.approx(0, abs=0.1)


def test_the_head_tells_painted_herniations_and_the_narrow_recess(cards: Path) -> None:
    card = load_card("axial", cards)
    for extent in (0.0, 6.0):
        found = measure_level(painted_reading(sub=1, hernia_left=extent), card.constants).herniation
        assert (card.heads["herniation"].probability(found.features) > 0.5) == (extent > 0)  # type: ignore[union-attr]
    narrow, wide = (card.heads["recess"].probability({"recess_mm": depth, "recess_sd": 0.5}) for depth in (1.5, 7.0))
    assert narrow > 0.9
    assert wide < 0.1
    assert carried(10.0, card.constants, "herniation") > 0


def test_other_cards_and_the_networks_stay_as_they_are(cards: Path) -> None:
    for path in CARDS.glob("*.json"):
        if path.stem not in {"axial", "axial_recess"}:
            assert (cards / path.name).read_bytes() == path.read_bytes()
    assert load_card("axial", cards).sha256 == load_card("axial").sha256
    assert load_card("axial", cards).calibrated_on.startswith("simulated images only: 40 discs of 40 ")
