"""The comparison with exact truth: a made-up report against a made-up truth, and figures that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inference.grade import recess_severity
from tests.inference.sample_report import CENTRES, sample_report
from training.evaluate_phantom import Compared, compare, figures
from training.evaluate_phantom import _calibration as calibration
from training.evaluate_phantom import _kappa as kappa


def truth(**of_l4_l5: Any) -> dict[str, Any]:
    """The sample report is right about everything it gives at L4-L5, and nothing is wrong at L5-S1."""

    def level(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "disc_centre_lps": CENTRES[name],
            "normal_lps": (0.0, 0.1, 0.995),
            "left": {"recess_depth_soft_mm": 5.8},
            "right": {"recess_depth_soft_mm": 1.9},
            "herniation": {"extent_mm": 7.0, "u_mm": -8.0},
            "sac_area_mm2": 142.0,
            "sac_ap_mm": 12.0,
        }

    healthy = {"herniation": None, "right": {"recess_depth_soft_mm": 5.0}}
    return {"seed": 1, "levels": [{**level("L4-L5"), **of_l4_l5}, {**level("L5-S1"), **healthy}]}


def test_a_report_that_is_right_has_no_wrong_side_and_no_false_flag() -> None:
    compared = compare(sample_report(), truth())
    assert compared.wrong_sides == ()
    assert compared.levels_off == ()
    assert compared.levels_missing == ()
    assert compared.recess == ((5.8, 5.8), (1.9, 1.9))
    assert compared.recess_sites == 4
    assert set(compared.flags) == {(True, True), (False, False)}
    assert compared.herniations == ((True, 7.0), (False, 0.0))


def test_sides_exchanged_are_seen_for_the_recess_and_for_the_herniation() -> None:
    exchanged = truth(
        left={"recess_depth_soft_mm": 1.9},
        right={"recess_depth_soft_mm": 5.8},
        herniation={"extent_mm": 7.0, "u_mm": 8.0},
    )
    assert compare(sample_report(), exchanged).wrong_sides == ("L4-L5 recess", "L4-L5 herniation")


def test_a_disc_that_lies_a_level_off_is_named() -> None:
    moved = truth(disc_centre_lps=CENTRES["L3-L4"])
    report = sample_report()
    assert compare(report, moved).levels_off == ("L4-L5",)
    unfound = report.model_copy(update={"levels": tuple(item for item in report.levels if item.name != "L4-L5")})
    absent = compare(unfound, moved)
    assert (absent.levels_off, absent.levels_missing) == ((), ("L4-L5",))


def test_a_flag_at_a_normal_site_is_a_false_flag() -> None:
    wide = truth(right={"recess_depth_soft_mm": 4.5})
    assert (True, False) in compare(sample_report(), wide).flags


def test_kappa_is_one_without_error_and_as_worked_out_by_hand_with_one() -> None:
    true = [1.0, 1.0, 3.0, 3.0, 6.0, 6.0]
    pairs = np.array([(value, value) for value in true])
    assert kappa(pairs, recess_severity) == pytest.approx(1.0)
    pairs[0, 0] = 6.0  # severe taken for normal: two grades, weight 4
    rows, columns = np.array([3, 2, 1]), np.array([2, 2, 2])  # margins: normal, moderate, severe
    weights = np.subtract.outer(np.arange(3), np.arange(3)) ** 2
    by_chance = (weights * np.outer(rows, columns)).sum() / 6
    assert kappa(pairs, recess_severity) == pytest.approx(1 - 4 / by_chance)


def test_calibration_error_is_the_distance_of_stated_and_seen_frequency() -> None:
    assert calibration(np.array([(0.25, 0), (0.25, 0), (0.25, 0), (0.25, 1)])) == pytest.approx(0.0)
    assert calibration(np.array([(0.95, 0), (0.95, 0)])) == pytest.approx(0.95)
    assert calibration(np.array([(0.95, 1), (0.05, 1)])) == pytest.approx((0.05 + 0.95) / 2)


def test_lines_carry_n_and_an_interval() -> None:
    one = compare(sample_report(), truth(), {"thecal_sac": (90, 100), "disc": (190, 200), "herniated_material": (0, 0)})
    others: list[Compared] = [replace(one, seed=seed) for seed in range(2, 6)]
    lines = figures([one, *others])
    assert any(line.startswith("Dice thecal_sac: 0.900 (95 % 0.900 to 0.900, n = 5 studies)") for line in lines)
    assert any(line.startswith("Dice herniated_material: no case") for line in lines)
    assert any("withheld 0.500 (10/20, 95 %" in line for line in lines)
    assert any(line.startswith("false flags: 0.000 (0/") for line in lines)
