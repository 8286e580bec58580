"""Conditions of the simulated spine: each changes what it is about, by as much as it says, and leaves the drawn person as it was."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from training.phantom import Anatomy, draw_anatomy
from training.phantom.conditions import CONDITIONS, laminectomy, scoliosis, slip, synovial_cyst
from training.phantom.scene import obstacle_of
from training.phantom.tissues import lesion_field, solids

SEED = 9_300_000


@pytest.fixture(scope="module")
def person() -> Anatomy:
    return draw_anatomy(SEED)


def _made(person: Anatomy, name: str, seed: int = 1) -> Anatomy:
    return CONDITIONS[name](person, np.random.default_rng(seed))


def test_a_drawn_person_has_no_lesion(person: Anatomy) -> None:
    assert person.lesions == ()


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_gives_another_person_and_spares_the_drawn_one(person: Anatomy, name: str) -> None:
    before = draw_anatomy(SEED)
    made = _made(person, name)
    assert any(getattr(made, field.name) is not getattr(person, field.name) for field in fields(Anatomy))
    assert person.discs == before.discs
    assert person.vertebrae == before.vertebrae
    assert np.array_equal(person.curve.table, before.curve.table)


def test_a_slip_moves_what_lies_above_it_forward_by_its_size(person: Anatomy) -> None:
    made = slip(person, np.random.default_rng(1), millimetres=6.0)
    moved = made.curve.table[:, :3] - person.curve.table[:, :3]
    size = np.linalg.norm(moved, axis=1)
    assert size[0] == pytest.approx(0, abs=1e-4)
    assert size[-1] == pytest.approx(6.0, abs=1e-3)
    assert moved[-1, 1] < 0, "to the front is -y"


def test_a_scoliosis_has_the_angle_that_was_asked_for(person: Anatomy) -> None:
    made = scoliosis(person, np.random.default_rng(2), cobb_deg=30.0)

    def leans(one: Anatomy) -> np.ndarray:
        normals = np.array([one.curve.frame(disc.t)[1][2] for disc in one.discs[3:9]])
        return np.degrees(np.arctan2(normals[:, 0], normals[:, 2]))

    assert np.ptp(leans(made) - leans(person)) == pytest.approx(30.0, abs=6.0)


def test_points_find_their_way_back_in_a_bent_spine(person: Anatomy) -> None:
    for name in ("slip", "scoliosis", "wedge fracture"):
        curve = _made(person, name).curve
        points = np.array([[5.0, -12.0, disc.t] for disc in person.discs[4:9]])
        assert curve.to_uvt(curve.to_lps(points)) == pytest.approx(points, abs=0.4)


def test_a_laminectomy_leaves_no_bone_behind_the_sac(person: Anatomy) -> None:
    disc = person.discs[person.disc_index("L4-L5")]
    behind = np.linspace(disc.apex - 2, disc.apex + 20, 40, dtype=np.float32)
    place = np.full_like(behind, disc.arch_u), behind, np.full_like(behind, disc.t)
    assert (solids(person, *place)["bone"] < 0).any()
    assert not (solids(laminectomy(person, np.random.default_rng(1)), *place)["bone"] < 0).any()


def test_a_cyst_takes_room_from_the_sac(person: Anatomy) -> None:
    made = synovial_cyst(person, np.random.default_rng(1))
    (cyst,) = made.lesions
    u, v, t = (np.array([value], dtype=np.float32) for value in cyst.centre)
    assert obstacle_of(solids(made, u, v, t))[0] < 0
    assert lesion_field(cyst, u, v, t)[0] < -3


def test_extra_and_missing_segments_change_one_disc(person: Anatomy) -> None:
    six, four = _made(person, "six lumbar vertebrae"), _made(person, "four lumbar vertebrae")
    extra, remnant = six.discs[six.disc_index("S1-S2")], four.discs[four.disc_index("L5-S1")]
    assert extra.height_posterior > 4
    assert extra.depth > 0.8 * person.discs[person.disc_index("L5-S1")].depth
    assert remnant.height_posterior < 3
    assert [disc.t for disc in six.discs] == [disc.t for disc in person.discs]
