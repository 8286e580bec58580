"""A study whose headers describe the mirrored body: networks and the whole reading give the mirrored answer within tolerance."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from configs import anatomy
from dicom_io import read_study
from inference.analyze import Engine, Reading, analyze
from inference.report import Finding, LevelRead
from training.phantom import StudyTruth

_OTHER = {"left": "right", "right": "left"}
_VALUE_MM = 0.3
_SHARE_OF_UNCERTAINTY = 0.5
"""Millimetres of the two readings may differ by the larger of these. They are not the same number, since the sagittal network
sees the slices before and after each slice the other way round, and the disc's place comes from it."""
_PLACE_MM = 0.6
_PROBABILITY = 0.05
_SAME_LABELS = {"sagittal": 0.94, "axial": 0.97}
"""Dice over all structures of the two label maps; the axial network is averaged with its own mirror image, the sagittal one is not."""


@pytest.fixture(scope="module")
def straight(small_study: tuple[Path, StudyTruth], engine: Engine) -> Reading:
    return analyze(read_study(small_study[0]), engine=engine)


@pytest.fixture(scope="module")
def mirrored(small_study: tuple[Path, StudyTruth], engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """The pixels as they are, every place and direction with the other sign from left to right."""
    folder = tmp_path_factory.mktemp("mirrored") / "study"
    shutil.copytree(small_study[0], folder)
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        place, turn = dataset.ImagePositionPatient, dataset.ImageOrientationPatient
        place[0], turn[0], turn[3] = -place[0], -turn[0], -turn[3]
        dataset.save_as(path)
    return analyze(read_study(folder), engine=engine)


def _key(finding: Finding, swap: bool) -> tuple[str, str, str | None]:
    side = _OTHER.get(finding.side or "", finding.side) if swap else finding.side
    return finding.level, finding.kind, side


def _same_labels(reading: Reading, other: Reading, number: int, swapped: dict[int, int]) -> float:
    """Dice of two label maps, the second brought onto the grid of the first, with `swapped` values exchanged."""
    one, two = reading.label_maps[number], other.label_maps[number]
    corners = one.grid.to_lps(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    index = two.grid.to_index(corners * [-1.0, 1.0, 1.0])
    steps = np.rint(index[1:] - index[0]).astype(int)
    assert np.allclose(index[1:] - index[0], steps, atol=1e-3), "the mirrored grid does not lie on the other"
    axes = tuple(int(np.flatnonzero(step)[0]) for step in steps)
    array = two.array.transpose(axes)
    array = array[tuple(slice(None, None, int(step[axis])) for step, axis in zip(steps, axes, strict=True))]
    values = np.arange(256, dtype=np.uint8)
    for before, after in swapped.items():
        values[before] = after
    array = values[array]
    both = one.array > 0, array > 0
    return 2 * float(((one.array == array) & both[0]).sum()) / float(both[0].sum() + both[1].sum())


def test_sagittal_network_labels_the_mirrored_stack_alike(straight: Reading, mirrored: Reading) -> None:
    assert straight.label_maps[0].plane == "sagittal"
    assert _same_labels(straight, mirrored, 0, {}) > _SAME_LABELS["sagittal"]


def test_axial_network_labels_the_mirrored_slices_alike_with_exchanged_sides(
    straight: Reading, mirrored: Reading
) -> None:
    value = anatomy().axial.value
    left, right = value("recess_left"), value("recess_right")
    maps = [number for number, item in enumerate(straight.label_maps) if item.plane == "axial"]
    assert maps
    for number in maps:
        assert (straight.label_maps[number].array == left).any()
        assert _same_labels(straight, mirrored, number, {left: right, right: left}) > _SAME_LABELS["axial"]
        assert _same_labels(straight, mirrored, number, {}) < 1.0


def test_discs_keep_their_names_places_and_grades(straight: Reading, mirrored: Reading) -> None:
    def by_name(reading: Reading) -> dict[str, LevelRead]:
        return {level.name: level for level in reading.report.levels}

    one, two = by_name(straight), by_name(mirrored)
    assert set(one) == set(two)
    for name, level in one.items():
        place = np.array(two[name].disc_centre_lps) * [-1.0, 1.0, 1.0]
        assert np.linalg.norm(place - np.array(level.disc_centre_lps)) < _PLACE_MM
        for ours, theirs in ((level.grades, two[name].grades), (level.pfirrmann, two[name].pfirrmann)):
            assert ours is not None
            assert theirs is not None
            assert max(abs(ours[question] - theirs[question]) for question in ours) < _PROBABILITY


def test_every_finding_stands_on_the_other_side_with_the_same_millimetres(straight: Reading, mirrored: Reading) -> None:
    one = {_key(finding, swap=True): finding for finding in straight.report.findings}
    two = {_key(finding, swap=False): finding for finding in mirrored.report.findings}
    assert set(one) == set(two)
    assert {side for _, kind, side in one if kind == "recess_stenosis"} == {"left", "right"}
    for key, ours in one.items():
        theirs = two[key]
        assert ours.severity == theirs.severity
        assert abs((ours.probability or 0) - (theirs.probability or 0)) < _PROBABILITY
        values = {item.name: item.value for item in theirs.measurements if item.unit == "mm"}
        for item in ours.measurements:
            if item.unit == "mm":
                allowed = max(_VALUE_MM, _SHARE_OF_UNCERTAINTY * (item.uncertainty or 0.0))
                assert abs(item.value - values[item.name]) < allowed, (key, item.name)


def test_what_is_withheld_is_withheld_on_the_other_side(straight: Reading, mirrored: Reading) -> None:
    ours = {(w.level, w.kind, _OTHER.get(w.side or "", w.side), w.code) for w in straight.report.withheld}
    assert ours == {(w.level, w.kind, w.side, w.code) for w in mirrored.report.withheld}
