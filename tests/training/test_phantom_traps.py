"""The phantom does not give away side, size or level by what is no anatomy: small draws, with limits that hold for so few people.

`recess-train evaluate traps` measures the same on many more.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from training import evaluate_traps as traps
from training.phantom import draw_anatomy
from training.phantom.study import render_study
from training.trap_figures import symmetry, verdict
from training.trap_people import (
    LEVELS,
    NO_EXTENT_MM,
    Drawn,
    Person,
    Pictured,
    apex_offset,
    drawn_people,
    nuisance_of,
    people,
    pictured_people,
    planned,
    side_signs,
)

DRAWN, PEOPLE, PICTURED = 500, 10, 12


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return drawn_people(DRAWN)


@pytest.fixture(scope="module")
def whole() -> list[Person]:
    return people(PEOPLE)


@pytest.fixture(scope="module")
def pictured() -> list[Pictured]:
    return pictured_people(PICTURED)


def test_herniations_lie_on_either_side_and_nothing_of_the_body_tells_which(drawn: list[Drawn]) -> None:
    lateral = [(person, herniation) for person in drawn for _, herniation in person.herniations]
    assert len(lateral) > 400
    assert np.mean([herniation.u > 0 for _, herniation in lateral]) == pytest.approx(0.5, abs=0.08)
    for name in drawn[0].signs:
        agreed = [
            (herniation.u > 0) == (person.signs[name] > 0)
            for person, herniation in lateral
            if np.isfinite(person.signs[name])
        ]
        assert np.mean(agreed) == pytest.approx(0.5, abs=0.1), name


def test_people_have_no_to_several_herniations(drawn: list[Drawn]) -> None:
    assert set(range(4)) <= {len(person.herniations) for person in drawn}


def test_signal_of_a_herniation_does_not_follow_from_its_size_or_type(drawn: list[Drawn]) -> None:
    all_ = [herniation for person in drawn for _, herniation in person.herniations]
    mix = np.array([herniation.t2_mix for herniation in all_])
    assert abs(np.corrcoef(mix, [herniation.extent for herniation in all_])[0, 1]) < 0.16
    assert abs(np.corrcoef(mix, [herniation.type == "protrusion" for herniation in all_])[0, 1]) < 0.16


def test_nobody_is_drawn_twice_and_splits_share_no_seed(drawn: list[Drawn]) -> None:
    assert traps.splits(drawn).verdict == "kept"


def test_scanner_and_planes_say_nothing_of_the_depth(whole: list[Person]) -> None:
    names = set(whole[0].nuisance[0])
    assert {"noise", "shading", "matrix", "field strength", "axial field", "file order"} <= names
    constant = {name for name in names if len({row[name] for person in whole for row in person.nuisance}) == 1}
    assert not constant


def test_the_planned_study_is_the_one_that_is_rendered(tmp_path: Path) -> None:
    person = draw_anatomy(9_640_000)
    render_study(person, tmp_path, seed=4, protocol="small")
    plan = planned(person, 4, "small")
    for role, planes in (("axial_t2", plan.axial), ("sagittal_t2", plan.sagittal)):
        written = [dcmread(path, stop_before_pixels=True) for path in sorted((tmp_path / role).glob("*.dcm"))]
        assert len(written) == len(planes)
        for dataset, plane in zip(written, planes, strict=True):
            assert [float(x) for x in dataset.ImagePositionPatient] == pytest.approx(list(plane.origin), abs=1e-5)
    assert float(written[0].RepetitionTime) == pytest.approx(nuisance_of(plan)["TR"], abs=0.5)


def test_slices_lie_anywhere_about_the_apex_of_a_herniation() -> None:
    person = draw_anatomy(9_640_001)
    apex = person.curve.frame(person.discs[person.disc_index("L4-L5")].t)[0]
    offsets = []
    for seed in range(60):
        found = apex_offset(planned(person, seed, "angled"), apex)
        assert found is not None
        offsets.append(found[0])
    assert min(offsets) < -0.3
    assert max(offsets) > 0.3
    assert max(np.abs(offsets)) <= 0.51


def test_healthy_sides_differ(pictured: list[Pictured]) -> None:
    difference = np.array([person.difference_mm for person in pictured])
    assert np.std(difference) > 0.3
    assert not (difference == 0).any()


def test_a_plain_and_a_small_herniation_differ_by_less_than_people_do(pictured: list[Pictured]) -> None:
    assert {0.0, NO_EXTENT_MM} < {person.extent_mm for person in pictured}
    crops = np.stack([person.crop for person in pictured])
    assert crops.shape[1:] == (80, 80)
    spread = np.std(crops, axis=0).mean()
    small = np.array([person.extent_mm > NO_EXTENT_MM for person in pictured])
    apart = np.abs(crops[small].mean(axis=0) - crops[~small].mean(axis=0)).mean()
    assert apart < spread


def test_a_side_that_follows_the_vessels_is_found_out(drawn: list[Drawn], whole: list[Person]) -> None:
    given_away = [
        replace(
            person,
            herniations=tuple(
                (level, replace(herniation, u=abs(herniation.u) * (1 if person.signs["vessels"] > 0 else -1)))
                for level, herniation in person.herniations
            ),
        )
        for person in drawn
    ]
    assert traps.sides(given_away, whole).verdict == "not kept"


def test_a_depth_that_follows_the_noise_is_found_out(whole: list[Person]) -> None:
    given_away = [
        replace(
            person,
            nuisance=tuple(
                {**row, "noise": person.depths["L4-L5", "left"] + person.depths["L5-S1", "right"]}
                for row in person.nuisance
            ),
        )
        for person in whole
    ]
    found = traps.nuisance(given_away)
    assert found.verdict == "not kept"
    assert "noise, r +" in found.line()


def test_mirrored_halves_are_found_out(pictured: list[Pictured]) -> None:
    lit = np.zeros((80, 80), dtype=np.float32)
    lit[20:60, 10:20] = 2.0
    noise = np.random.default_rng(1)
    one_sided = [
        Pictured(number, 0.0, lit + noise.normal(0, 0.1, lit.shape).astype(np.float32), 40, float(number % 7) - 3)
        for number in range(40)
    ]
    assert symmetry(one_sided).verdict == "not kept"


def test_bodies_have_a_side_of_their_own() -> None:
    signs = [side_signs(draw_anatomy(seed)) for seed in range(40)]
    for name in signs[0]:
        assert 5 < sum(item[name] > 0 for item in signs) < 35, name


def test_what_chance_may_explain_is_not_decided() -> None:
    assert verdict(0.5, 0.4, 0.6, (0.46, 0.54)) == "kept"
    assert verdict(0.6, 0.5, 0.7, (0.46, 0.54)) == "not decided"
    assert verdict(0.6, 0.55, 0.65, (0.46, 0.54)) == "not kept"


def test_every_trap_says_its_figure_and_limit(
    drawn: list[Drawn], whole: list[Person], pictured: list[Pictured]
) -> None:
    for trap in (
        traps.gaps(whole),
        traps.lesions(drawn, whole),
        traps.level_identity(whole),
        traps.edges(drawn, [0.5, 0.6]),
    ):
        line = trap.line()
        assert line.lower().endswith(f": {trap.verdict}")
        assert "[" in line
    assert {level for level, _ in whole[0].depths} == set(LEVELS)
