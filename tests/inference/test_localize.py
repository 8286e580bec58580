"""Discs are found where the phantom has them, whichever way the scanner stored the slices; what is no lumbar spine is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_io import read_study
from dicom_io.geometry import Grid, SourceInstance, Volume
from inference.column import column_faults, column_limits, find_column
from inference.localize import Localization, completes, locate_discs
from inference.upright import to_source, upright
from models import Segmenter
from training.phantom import StudyTruth, draw_anatomy, study_files

SEED = 910_007
PIXEL = 0.9375


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load("sagittal", "cpu")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, StudyTruth]:
    folder = tmp_path_factory.mktemp("phantom")
    truth = study_files(draw_anatomy(SEED), folder)
    stack = next(stack for stack in read_study(folder).stacks if stack.role == "sagittal_t2")
    return stack.volume, truth


@pytest.fixture(scope="module")
def found(study: tuple[Volume, StudyTruth], segmenter: Segmenter) -> Localization:
    return locate_discs(study[0], segmenter)


def _painted(discs: int = 6, step: float = 36.0, ap: float = 34.0, canal: float = 14.0) -> np.ndarray:
    """An upright label map of a straight column: bodies, discs of 8 mm, a canal 4 mm behind them."""
    rows = np.arange(300)[:, None] * PIXEL
    columns = np.arange(200)[None] * PIXEL
    label_map = np.zeros((300, 200), dtype=np.uint8)
    inside = np.abs(columns - 80) < ap / 2
    lowest = 230.0
    label_map[np.broadcast_to(inside & (rows < lowest) & (rows > lowest - discs * step), label_map.shape)] = 1
    for number in range(discs):
        label_map[np.broadcast_to(inside & (np.abs(rows - (lowest - number * step)) < 4), label_map.shape)] = 2
    behind = (columns > 80 + ap / 2 + 4) & (columns < 80 + ap / 2 + 4 + canal)
    label_map[np.broadcast_to(behind & (rows < lowest + 20), label_map.shape)] = 3
    return label_map


def test_phantom_discs_are_found_with_their_names_and_places(
    found: Localization, study: tuple[Volume, StudyTruth]
) -> None:
    assert found.lumbar
    for level in study[1].levels:
        disc = found.disc(level.name)
        assert disc is not None, level.name
        assert np.linalg.norm(disc.centre_lps - np.array(level.disc_centre_lps)) < 8
        assert float(disc.normal @ np.array(level.normal_lps)) > np.cos(np.radians(10))
        assert disc.posterior_margin_lps[1] > disc.centre_lps[1]


def test_label_map_lies_on_the_grid_of_the_source_with_the_disc_at_its_centre(
    found: Localization, study: tuple[Volume, StudyTruth]
) -> None:
    volume = study[0]
    assert found.label_map.shape == volume.grid.shape
    for disc in found.discs[:4]:
        index = np.rint(volume.grid.to_index(disc.centre_lps)).astype(int)
        assert found.label_map[tuple(index)] == 2


@pytest.mark.parametrize("turn", ["slices reversed", "head down", "back first", "rows and columns swapped"])
def test_storage_order_moves_no_disc(
    turn: str, found: Localization, study: tuple[Volume, StudyTruth], segmenter: Segmenter
) -> None:
    turned = _stored_otherwise(study[0], turn)
    again = locate_discs(turned, segmenter)
    assert [disc.name for disc in again.discs] == [disc.name for disc in found.discs]
    for one, two in zip(found.discs, again.discs, strict=True):
        assert np.linalg.norm(one.centre_lps - two.centre_lps) < 1.0


def _stored_otherwise(volume: Volume, turn: str) -> Volume:
    """The same pixels at the same places, in another index order."""
    array, affine = volume.array, np.array(volume.grid.affine)
    if turn == "rows and columns swapped":
        array, affine = array.transpose(0, 2, 1), affine[:, [0, 2, 1, 3]]
    else:
        axis = {"slices reversed": 0, "head down": 1, "back first": 2}[turn]
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
        array = np.flip(array, axis)
    return replace(volume, array=np.ascontiguousarray(array), grid=Grid(array.shape, affine))


def test_way_back_to_the_source_grid_is_the_inverse_of_turning_upright() -> None:
    rng = np.random.default_rng(4)
    affine = np.array([[4.0, 0, 0, -20], [0, 0, -0.7, 60], [0, 0.9, 0, -80], [0, 0, 0, 1]])
    array = np.kron(rng.integers(0, 2, (3, 12, 10)), np.ones((1, 8, 8))).astype(np.float32)
    instances = tuple(SourceInstance(str(number)) for number in range(3))
    volume = Volume(array, Grid(array.shape, affine), instances)
    turned = upright(volume, 0.8)
    assert turned.direction(1)[2] < -0.99
    assert turned.direction(2)[1] > 0.99
    classes = np.stack([1 - turned.planes, turned.planes], axis=1)
    back = to_source(classes, turned, array.shape)
    assert (back == array).mean() > 0.93


def test_noise_is_not_taken_for_a_lumbar_spine(study: tuple[Volume, StudyTruth], segmenter: Segmenter) -> None:
    noise = np.random.default_rng(0).normal(100, 20, study[0].array.shape).astype(np.float32)
    result = locate_discs(replace(study[0], array=noise), segmenter)
    assert not result.lumbar
    assert result.lumbar_reason
    assert not result.discs


def test_axial_slices_are_refused_by_their_plane(study: tuple[Volume, StudyTruth], segmenter: Segmenter) -> None:
    affine = np.array([[0, 0, 0.6, 0], [0, 0.6, 0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1]])
    array = np.zeros((3, 64, 64), dtype=np.float32)
    volume = Volume(array, Grid(array.shape, affine), tuple(SourceInstance(str(n)) for n in range(3)))
    assert "axial" in locate_discs(volume, segmenter).lumbar_reason


def test_image_that_ends_below_the_lowest_disc_makes_the_names_uncertain(
    study: tuple[Volume, StudyTruth], found: Localization, segmenter: Segmenter
) -> None:
    volume = study[0]
    lowest = volume.grid.to_index(found.discs[1].centre_lps)
    direction = 1 if volume.grid.affine[2, 1] < 0 else -1
    end = round(lowest[1]) + direction * round(14 / volume.grid.spacing[1])
    keep = slice(0, end) if direction > 0 else slice(end, None)
    affine = np.array(volume.grid.affine)
    affine[:3, 3] += affine[:3, 1] * (keep.start or 0)
    array = np.ascontiguousarray(volume.array[:, keep])
    cut = locate_discs(replace(volume, array=array, grid=Grid(array.shape, affine)), segmenter)
    assert cut.numbering == "uncertain"
    assert any("cut off" in reason for reason in cut.reasons)
    assert cut.discs[0].alternative_name == "L4-L5"
    assert cut.discs[0].confidence < found.discs[0].confidence


def test_painted_column_is_measured_in_millimetres() -> None:
    column = find_column(_painted(), PIXEL)
    assert column is not None
    assert column_faults(column) == ()
    assert len(column.discs) == 6
    assert column.discs[0].centre[0] > column.discs[-1].centre[0]
    assert column.discs[0].ap_mm == pytest.approx(34, abs=1.5)
    assert column.discs[0].height_mm == pytest.approx(8, abs=1)


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ({"discs": 3}, "only 3"),
        ({"ap": 17.0, "step": 19.0, "discs": 8}, "17 mm|18 mm"),
        ({"canal": 34.0}, "wide"),
    ],
)
def test_column_that_is_not_lumbar_says_why(column: dict[str, float], fault: str) -> None:
    faults = column_faults(find_column(_painted(**column), PIXEL))  # type: ignore[arg-type]
    assert faults
    assert any(part in text for text in faults for part in fault.split("|"))


def test_discs_without_bodies_between_them_are_no_column() -> None:
    label_map = _painted()
    label_map[label_map == 1] = 0
    assert any("bodies" in text for text in column_faults(find_column(label_map, PIXEL)))


def test_what_looks_like_a_disc_below_the_sacrum_is_no_lowest_disc() -> None:
    label_map = _painted()
    rows, columns = np.arange(300)[:, None] * PIXEL, np.arange(200)[None] * PIXEL
    label_map[(np.abs(rows - 280) < 4) & (np.abs(columns - 80) < 15)] = 2
    column, usual = find_column(label_map, PIXEL), find_column(_painted(), PIXEL)
    assert column is not None
    assert usual is not None
    assert [tuple(disc.centre) for disc in column.discs] == [tuple(disc.centre) for disc in usual.discs]
    assert column_faults(column) == ()
    assert column.gaps == ()


def test_a_disc_that_the_picture_cuts_is_not_held_against_the_others() -> None:
    label_map = _painted()
    cut = label_map[np.arange(300) * PIXEL - (230 - 5 * 36) > -1.5].copy()
    across = np.flatnonzero(cut[0] == 2)
    cut[: round(6 / PIXEL), across[:-14]] = 1
    column = find_column(cut, PIXEL)
    assert column is not None
    assert len(column.discs) == 6
    assert column.discs[-1].ap_mm < column.discs[1].ap_mm / column_limits().ap_ratio
    assert column_faults(column) == ()


def test_missed_disc_leaves_a_gap() -> None:
    label_map = _painted()
    third = np.arange(300) * PIXEL
    label_map[np.abs(third - (230 - 2 * 36)) < 4.5] = np.where(
        label_map[np.abs(third - (230 - 2 * 36)) < 4.5] == 2, 1, label_map[np.abs(third - (230 - 2 * 36)) < 4.5]
    )
    column = find_column(label_map, PIXEL)
    assert column is not None
    assert column.gaps == (1,)


def _without_lumbosacral(found: Localization) -> Localization:
    discs = tuple(disc for disc in found.discs if disc.name != "L5-S1")
    return replace(found, discs=discs, numbering="uncertain", ambiguous="a whole body lies below the lowest disc found")


def test_another_stack_completes_a_column_only_where_both_name_the_same_discs(found: Localization) -> None:
    missing = _without_lumbosacral(found)
    assert missing.lumbosacral_missed
    assert not found.lumbosacral_missed
    assert completes(found, missing)
    assert not completes(missing, missing)
    assert not completes(replace(found, numbering="uncertain"), missing)
    assert not completes(replace(found, middle_uncertain=True), missing)
    assert not completes(replace(found, lumbar=False), missing)
    names = [disc.name for disc in found.discs]
    shifted = [replace(disc, name=name) for disc, name in zip(found.discs[1:], names, strict=False)]
    assert not completes(replace(found, discs=tuple(shifted)), missing)
