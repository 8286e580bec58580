"""Millimetres from painted probabilities: as painted, below the pixel, on the right side, or withheld with the right code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_io.study import Stack
from inference.herniation import Herniation, canal_middle
from inference.measure import Canal, measure_level
from inference.recess_depth import Depth
from inference.segment import AxialReading, reading
from inference.sizes import Missing, Size, slices_between
from tests.inference.axial_scene import MARGIN, disc, painted_reading, stack


def size(value: Size | Missing) -> Size:
    assert isinstance(value, Size), value
    return value


@pytest.mark.parametrize(("left", "right"), [(5.0, 7.0), (2.3, 6.1), (1.1, 3.7), (8.4, 2.0)])
def test_recess_depth_is_the_painted_one_to_a_fraction_of_a_pixel(left: float, right: float) -> None:
    sizes = measure_level(painted_reading(depth_left=left, depth_right=right), {})
    assert size(sizes.recess["left"]).value == pytest.approx(left, abs=0.15)
    assert size(sizes.recess["right"]).value == pytest.approx(right, abs=0.15)


def test_closed_recess_measures_zero_and_is_not_withheld() -> None:
    sizes = measure_level(painted_reading(depth_left=0.0), {})
    assert size(sizes.recess["left"]).value == pytest.approx(0.0, abs=0.1)
    assert size(sizes.recess["right"]).value == pytest.approx(6.0, abs=0.15)


def test_points_of_a_recess_are_as_far_apart_as_its_depth_and_lie_on_its_side() -> None:
    sizes = measure_level(painted_reading(depth_left=4.2), {})
    for side, sign in (("left", 1), ("right", -1)):
        found = size(sizes.recess[side])
        first, second = found.points
        assert np.linalg.norm(second - first) == pytest.approx(found.value, abs=1e-6)
        assert sign * ((first + second) / 2 - MARGIN)[0] > 6
        assert (second - first)[1] > 0


@pytest.mark.parametrize("order", [{"flip_rows": True}, {"flip_columns": True}, {"flip_slices": True}])
def test_order_of_the_source_does_not_change_a_millimetre(order: dict[str, bool]) -> None:
    plain = measure_level(painted_reading(depth_left=3.0), {})
    turned = measure_level(painted_reading(stack(**order), depth_left=3.0), {})
    for side in ("left", "right"):
        assert size(turned.recess[side]).value == pytest.approx(size(plain.recess[side]).value, abs=0.05)


def test_slices_tilted_against_the_disc_are_corrected_by_the_cosine() -> None:
    straight = painted_reading(depth_left=5.0)
    tilted = replace(straight, slices=tuple(replace(item, tilt_deg=30.0) for item in straight.slices))
    expected = size(measure_level(straight, {}).recess["left"]).value * np.cos(np.radians(30))
    assert size(measure_level(tilted, {}).recess["left"]).value == pytest.approx(expected, abs=0.01)


def test_depth_of_the_recess_network_is_taken_before_the_extent_of_the_label() -> None:
    depths = {"left": Depth(2.9, 0.5, (2.8, 3.0)), "right": Depth(7.1, 0.4, (7.0, 7.2))}
    sizes = measure_level(replace(painted_reading(), depths=depths), {})
    assert size(sizes.recess["left"]).value == 2.9
    assert size(sizes.recess["right"]).sd == 0.4


def test_a_wide_recess_is_not_drawn_on_a_slice_that_shows_none() -> None:
    depths = {side: Depth(7.1, 0.4, (7.0, 7.2)) for side in ("left", "right")}
    painted = replace(painted_reading(), depths=depths)
    inside = slices_between(painted, *reading().slices.recess_mm)
    assert len(inside) > 1
    unlabelled = inside[0].probabilities.copy()
    unlabelled[painted.channel("recess_left")] = 0.0
    hidden = replace(inside[0], probabilities=unlabelled)
    slices = tuple(hidden if item is inside[0] else item for item in painted.slices)
    site = size(measure_level(replace(painted, slices=slices), {}).recess["left"]).slice
    assert site.probabilities[painted.channel("recess_left")].max() > 0.5


def test_a_recess_is_drawn_where_it_is_outlined_as_deep_as_it_is_said_to_be() -> None:
    depths = {side: Depth(6.0, 0.4, (6.0, 6.0)) for side in ("left", "right")}
    painted = replace(painted_reading(depth_left=6.0), depths=depths)
    channel, slices = painted.channel("recess_left"), []
    for item in painted.slices:
        probabilities = item.probabilities.copy()
        rows, columns = np.nonzero(probabilities[channel] > 0.5)
        if len(rows):
            edge = int(columns.max()) + 1
            probabilities[channel, int(rows.min()) : int(rows.min()) + 2, edge] = 0.6
        slices.append(replace(item, probabilities=probabilities))
    found = size(measure_level(replace(painted, slices=tuple(slices)), {}).recess["left"])
    outlined = found.slice.probabilities[channel] > 0.5
    for point in found.points + 0.1 * (np.mean(found.points, axis=0) - found.points):
        row, column = np.rint(found.slice.window.to_pixel(point)).astype(int)
        assert outlined[row, column]


def test_window_and_mirror_image_that_disagree_give_no_millimetre() -> None:
    depths = {"left": Depth(4.0, 0.5, (1.0, 7.0)), "right": Depth(7.1, 0.4, (7.0, 7.2))}
    sizes = measure_level(replace(painted_reading(), depths=depths), {})
    assert isinstance(sizes.recess["left"], Missing)
    assert sizes.recess["left"].reason == "measures disagree"
    assert isinstance(sizes.recess["right"], Size)


@pytest.mark.parametrize(
    ("extent", "left", "right", "withheld"),
    [
        (7.0, 6.0, 5.0, True),
        (7.0, 4.0, 5.0, False),
        (4.0, 6.0, 5.0, False),
        (0.0, 6.0, 5.0, False),
        (7.0, 6.0, 1.5, False),
        (7.0, 1.5, 0.5, False),
    ],
)
def test_a_recess_that_a_large_herniation_leaves_wider_than_the_other_is_withheld(
    extent: float, left: float, right: float, withheld: bool
) -> None:
    depths = {"left": Depth(left, 0.4, (left, left)), "right": Depth(right, 0.4, (right, right))}
    recess = measure_level(replace(painted_reading(hernia_left=extent, depth_left=8.0), depths=depths), {}).recess
    assert isinstance(recess["right"], Size)
    assert isinstance(recess["left"], Missing) == withheld
    if isinstance(recess["left"], Missing):
        assert recess["left"].code == "MM_IMPLAUSIBLE"


def test_a_depth_that_is_hardly_known_is_withheld_and_that_of_the_other_side_stays() -> None:
    depths = {"left": Depth(4.0, 1.7, (3.9, 4.1)), "right": Depth(7.1, 1.5, (7.0, 7.2))}
    sizes = measure_level(replace(painted_reading(), depths=depths), {})
    assert isinstance(sizes.recess["left"], Missing)
    assert sizes.recess["left"].code == "LOW_QUALITY"
    assert size(sizes.recess["right"]).value == 7.1


def test_slope_of_the_card_carries_label_areas_to_square_millimetres() -> None:
    plain = measure_level(painted_reading(), {}).canal
    carried = measure_level(painted_reading(), {"canal_area.slope": 0.9, "canal_area.intercept": 5.0}).canal
    assert isinstance(plain, Canal)
    assert isinstance(carried, Canal)
    assert carried.area.value == pytest.approx(0.9 * plain.area.value + 5.0)


@pytest.mark.parametrize("area", [60.0, 150.0, 230.0])
def test_sac_area_and_diameter_are_the_painted_circle(area: float) -> None:
    canal = measure_level(painted_reading(sac_area=area), {}).canal
    assert isinstance(canal, Canal)
    assert canal.area.value == pytest.approx(area, rel=0.03)
    assert canal.ap.value == pytest.approx(2 * np.sqrt(area / np.pi), abs=0.35)


def test_herniation_on_the_left_is_found_there_with_its_extent_and_zone() -> None:
    found = measure_level(painted_reading(hernia_left=5.0, depth_left=6.0), {}).herniation
    assert isinstance(found, Herniation)
    assert (found.type, found.side, found.zone) == (
        "protrusion",
        "left",
        "foraminal" if found.offset_mm > 12.5 else "subarticular",
    )
    assert found.extent.value == pytest.approx(5.0, abs=0.6)
    assert found.base_mm == pytest.approx(8.0, abs=1.5)
    assert found.offset_mm == pytest.approx(13.0, abs=0.5)


def test_extent_does_not_hang_on_how_much_of_the_disc_one_slice_shows() -> None:
    reading = painted_reading(hernia_left=5.0, depth_left=6.0)
    whole = measure_level(reading, {}).herniation
    disc = reading.channel("disc")
    slices = []
    for item in reading.slices:
        thin = item.probabilities.copy()
        if item.offset_mm < -2.0:  # the endplate is cut here: the back of the disc is not seen
            thin[disc, item.window.size // 2 :] = 0.0
        slices.append(replace(item, probabilities=thin))
    cut = measure_level(replace(reading, slices=tuple(slices)), {}).herniation
    assert isinstance(whole, Herniation)
    assert isinstance(cut, Herniation)
    assert cut.extent.value == pytest.approx(whole.extent.value, abs=0.1)
    assert cut.type == whole.type


def test_side_does_not_follow_a_disc_that_an_oblique_slice_shows_on_one_side_only() -> None:
    reading = painted_reading(hernia_left=5.0, depth_left=6.0)
    disc = reading.channel("disc")
    for item in reading.slices:
        whole = canal_middle(reading, item)
        half = item.probabilities.copy()
        half[disc, :, : item.window.size // 2 + 20] = 0.0
        assert canal_middle(reading, replace(item, probabilities=half)) == pytest.approx(whole, abs=0.1)


def test_no_herniated_material_is_type_none_and_not_withheld() -> None:
    found = measure_level(painted_reading(), {}).herniation
    assert isinstance(found, Herniation)
    assert found.type == "none"


def test_farther_than_wide_is_an_extrusion() -> None:
    found = measure_level(painted_reading(hernia_left=11.0, depth_left=12.0), {}).herniation
    assert isinstance(found, Herniation)
    assert found.type == "extrusion"


def code_of(reading: AxialReading, side: str = "left") -> str:
    value = measure_level(reading, {}).recess[side]
    assert isinstance(value, Missing), value
    return value.code


def without(reading: AxialReading, low: float, high: float) -> AxialReading:
    return replace(reading, slices=tuple(item for item in reading.slices if not low <= item.offset_mm <= high))


def test_missing_slices_in_the_recess_range_withhold_the_depth() -> None:
    assert code_of(without(painted_reading(), -9.0, 2.0)) in {"NOT_COVERED", "SLICE_MISSING"}


def test_stack_that_ends_above_the_disc_does_not_cover_the_level() -> None:
    assert code_of(without(painted_reading(), -20.0, 3.0)) == "NOT_COVERED"


def test_slices_far_apart_are_a_gap_and_give_no_depth() -> None:
    coarse: Stack = stack(spacing=9.0, slices=5)
    assert code_of(painted_reading(coarse)) == "SLICE_MISSING"


def test_slices_far_apart_give_neither_sac_nor_herniation() -> None:
    sizes = measure_level(painted_reading(stack(spacing=9.0, slices=5)), {})
    assert all(
        isinstance(value, Missing) and value.code == "SLICE_MISSING" for value in (sizes.canal, sizes.herniation)
    )


def test_very_oblique_slices_give_no_millimetre() -> None:
    reading = painted_reading()
    oblique = replace(reading, slices=tuple(replace(item, tilt_deg=60.0) for item in reading.slices))
    sizes = measure_level(oblique, {})
    assert all(isinstance(value, Missing) for value in (*sizes.recess.values(), sizes.canal, sizes.herniation))


def test_a_sac_far_from_where_the_sagittal_slices_place_it_gives_no_millimetre() -> None:
    near, far = (replace(painted_reading(), recentred_mm=distance) for distance in (20.0, 30.0))
    assert isinstance(measure_level(near, {}).canal, Canal)
    sizes = measure_level(far, {})
    values = (*sizes.recess.values(), sizes.canal, sizes.herniation)
    assert all(isinstance(value, Missing) and value.code == "PLANES_DISAGREE" for value in values)


def test_picture_without_a_disc_is_out_of_distribution() -> None:
    reading = painted_reading()
    empty = np.zeros_like(reading.slices[0].probabilities)
    empty[0] = 1.0
    blank = replace(reading, slices=tuple(replace(item, probabilities=empty) for item in reading.slices))
    assert code_of(blank) == "OOD"


def test_undecided_network_is_not_measured() -> None:
    reading = painted_reading()
    slices = tuple(
        replace(item, probabilities=0.5 * item.probabilities + 0.5 / len(reading.classes)) for item in reading.slices
    )
    assert code_of(replace(reading, slices=slices)) == "LOW_QUALITY"


def test_reading_of_another_disc_height_finds_other_slices() -> None:
    higher = disc(posterior_margin_lps=MARGIN + np.array([0, 0, 8.0]))
    assert {item.index for item in painted_reading(level=higher).slices} != {
        item.index for item in painted_reading().slices
    }
