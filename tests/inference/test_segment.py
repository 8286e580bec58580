"""Which slices belong to a disc, and that sides and places come from geometry whatever the order of the source."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.assemble import outlined_as_decided
from inference.recess_depth import bin_depths, read_depths
from inference.report import Finding, HerniationType
from inference.segment import class_names, recentred_margin, sample_window, slice_windows
from inference.window_reading import mirrored_average, read_windows
from models.intensity import InputSpec, normalise
from tests.inference.axial_scene import MARGIN, PIXEL_MM, disc, paint, painted_reading, stack

ORDERS = list(itertools.product([False, True], repeat=3))
UP = np.array([0.0, 0.0, 1.0])
DISC, MATERIAL = (class_names().index(name) for name in ("disc", "herniated_material"))


@pytest.mark.parametrize(("slices", "rows", "columns"), ORDERS)
def test_labels_lie_on_the_painted_side_for_every_order_of_the_source(slices: bool, rows: bool, columns: bool) -> None:
    source = stack(flip_slices=slices, flip_rows=rows, flip_columns=columns)
    labels = painted_reading(source, depth_left=3.0, depth_right=8.0).label_map
    assert labels is not None
    left = np.argwhere(labels.array == class_names().index("recess_left"))
    right = np.argwhere(labels.array == class_names().index("recess_right"))
    assert len(right) > 2 * len(left) > 0
    assert source.volume.grid.to_lps(left)[:, 0].min() > MARGIN[0]
    assert source.volume.grid.to_lps(right)[:, 0].max() < MARGIN[0]


@pytest.mark.parametrize(("slices", "rows", "columns"), ORDERS)
def test_label_map_agrees_with_the_painting_at_source_pixels(slices: bool, rows: bool, columns: bool) -> None:
    source = stack(flip_slices=slices, flip_rows=rows, flip_columns=columns)
    reading = painted_reading(source)
    assert reading.label_map is not None
    index = reading.slices[0].index
    grid = source.volume.grid
    rows_, columns_ = np.mgrid[: grid.shape[1], : grid.shape[2]]
    points = grid.to_lps(np.stack([np.full(rows_.shape, index), rows_, columns_], axis=-1))
    here, truth = reading.label_map.array[index], paint(points)
    for number in range(1, len(class_names())):
        if (truth == number).sum() < 30:
            continue
        overlap = 2 * ((here == number) & (truth == number)).sum() / ((here == number).sum() + (truth == number).sum())
        assert overlap > 0.93, class_names()[number]


def test_only_slices_near_the_disc_are_read_from_feet_to_head() -> None:
    offsets = [item.offset_mm for item in painted_reading().slices]
    assert offsets == sorted(offsets)
    assert min(offsets) >= -11
    assert max(offsets) <= 6.5
    assert any(abs(value) < 2.1 for value in offsets)


def test_a_disc_outside_the_stack_has_no_slices() -> None:
    assert slice_windows(stack().volume, MARGIN + 120.0 * UP, UP, PIXEL_MM) == []


def test_offset_is_measured_along_the_disc_normal_not_along_the_table() -> None:
    tilt = np.radians(30.0)
    normal = np.array([0.0, -np.sin(tilt), np.cos(tilt)])
    for index, offset, _ in slice_windows(stack().volume, MARGIN, normal, PIXEL_MM):
        height = stack().volume.grid.to_lps(np.array([index, 0.0, 0.0]))[2]
        assert offset * np.cos(tilt) == pytest.approx(height - MARGIN[2])


def test_window_shows_the_grey_values_of_its_place() -> None:
    source = stack(flip_columns=True)
    grid = source.volume.grid
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    source.volume.array[...] = grid.to_lps(index)[..., 0]
    number, _, window = slice_windows(source.volume, MARGIN, UP, PIXEL_MM)[0]
    image = sample_window(source.volume, number, window)
    rows, columns = np.mgrid[: window.size, : window.size]
    inside = grid.contains(window.to_lps(rows, columns), margin=-3.0)
    assert inside.mean() > 0.8
    assert np.allclose(image[inside], window.to_lps(rows, columns)[..., 0][inside], atol=0.05)


def test_averaging_with_the_mirror_image_makes_sides_exchangeable() -> None:
    rng = np.random.default_rng(3)
    names = class_names()
    straight = rng.random((1, len(names), 6, 6)).astype(np.float32)
    mirrored = rng.random((1, len(names), 6, 6)).astype(np.float32)
    one = mirrored_average(straight, mirrored, names)
    other = mirrored_average(mirrored, straight, names)
    left, right = names.index("recess_left"), names.index("recess_right")
    assert np.allclose(one[:, left], other[:, right, :, ::-1])
    assert np.allclose(one[:, names.index("disc")], other[:, names.index("disc"), :, ::-1])


class Painter:
    """Stands for a network: every pixel's share of the disc is where the picture lies in the scale it was given."""

    def __init__(self, unit: Any, partner: Painter | None = None) -> None:
        self.card: Any = SimpleNamespace(
            input=InputSpec(spacing_mm=0.6, unit=unit), classes=class_names(), constants={}
        )
        self.members = (self, *(partner.members if partner is not None else ()))

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        share = 1 / (1 + np.exp(-images[:, :1]))
        return np.concatenate([1 - share, share, *[np.zeros_like(share)] * 6], axis=1).astype(np.float32)


def test_a_partner_reads_every_window_on_its_own_scale_and_is_averaged_in() -> None:
    windows = np.random.default_rng(3).uniform(size=(2, 32, 32)).astype(np.float32)
    alone, partner = Painter("percentiles"), Painter("deviation")
    scaled = np.stack([normalise(window, partner.card.input) for window in windows])
    own: NDArray[np.float32] = read_windows(windows, alone)
    expected = (own + read_windows(scaled, partner)) / 2
    both = read_windows(windows, Painter("percentiles", partner))
    assert np.allclose(both, expected, atol=1e-6)
    assert not np.allclose(both, own, atol=1e-2)


def test_a_network_that_needs_neighbours_reads_stacks_and_no_slice_alone() -> None:
    windows = np.random.default_rng(3).uniform(size=(4, 32, 32)).astype(np.float32)
    between = Painter("deviation")
    between.card.input = between.card.input.model_copy(update={"context_mm": 4.0})
    pair = Painter("percentiles", between)
    alone = read_windows(windows, Painter("percentiles"))
    assert np.array_equal(read_windows(windows, pair), alone)
    stack = read_windows(windows, pair, step_mm=4.0)
    before = np.stack([normalise(window, between.card.input) for window in windows[[0, 0, 1, 2]]])
    expected = read_windows(before, Painter("deviation"))  # a Painter looks at the first of its channels
    assert np.allclose(stack, (alone + expected) / 2, atol=1e-6)


class Teller:
    """Stands for a recess network that is sure of one depth whatever it sees."""

    def __init__(self, place: int, partner: Teller | None = None) -> None:
        self.card: Any = SimpleNamespace(input=InputSpec(spacing_mm=PIXEL_MM), constants={})
        self.place, self.partner = place, partner

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        shares = np.full((len(images), 19, *images.shape[2:]), 1e-9, dtype=np.float32)
        shares[:, self.place] = 1.0
        return shares


def test_the_depth_is_the_mean_of_both_networks_and_less_sure_where_they_differ() -> None:
    slices = painted_reading().slices
    alone = read_depths(slices, Teller(4))["left"]
    both = read_depths(slices, Teller(4, Teller(8)))["left"]
    depths = bin_depths(19)
    assert alone.value == pytest.approx(depths[4], abs=1e-3)
    assert both.value == pytest.approx((depths[4] + depths[8]) / 2, abs=1e-3)
    assert both.sd > alone.sd + 1.0


@pytest.mark.parametrize("kind", ["none", "bulge", "protrusion"])
def test_material_is_outlined_only_where_a_herniation_is_called(kind: HerniationType) -> None:
    reading = painted_reading(stack(), hernia_left=5.0)
    found = Finding(
        id="F1", level="L4-L5", side="left", kind="herniation", type=kind, severity="normal_mild", basis="painted"
    )
    assert reading.label_map is not None
    assert (material := reading.label_map.array == MATERIAL).any()
    (decided,) = outlined_as_decided([reading], [found])
    assert decided.label_map is not None
    assert (decided.label_map.array[material] == (MATERIAL if found.flagged else DISC)).all()
    assert np.array_equal(decided.label_map.array[~material], reading.label_map.array[~material])


def test_withheld_herniations_keep_their_outline() -> None:
    reading = painted_reading(stack(), hernia_left=5.0)
    assert reading.label_map is not None
    (decided,) = outlined_as_decided([reading], [])
    assert decided.label_map is not None
    assert np.array_equal(decided.label_map.array, reading.label_map.array)


def test_nothing_is_labelled_outside_the_slices_that_were_read() -> None:
    reading = painted_reading()
    assert reading.label_map is not None
    read = {item.index for item in reading.slices}
    for index in set(range(reading.label_map.array.shape[0])) - read:
        assert not reading.label_map.array[index].any()


def test_a_level_with_other_discs_normal_against_the_slices_is_not_read() -> None:
    sagittal_like = np.array([1.0, 0.0, 0.0])
    assert slice_windows(stack().volume, MARGIN, sagittal_like, PIXEL_MM) == []


def test_misplaced_disc_is_moved_to_where_the_sac_says_it_is() -> None:
    wrong = MARGIN + np.array([7.0, -9.0, 0.0])
    level = disc(posterior_margin_lps=wrong)
    reading = painted_reading(level=level)
    moved = recentred_margin(reading.slices, level, reading.classes)
    assert moved is not None
    assert np.linalg.norm(moved - MARGIN) < 1.0


def test_disc_that_lies_well_stays_where_it_is() -> None:
    level = disc(posterior_margin_lps=MARGIN + np.array([1.5, -2.0, 0.0]))
    reading = painted_reading(level=level)
    assert recentred_margin(reading.slices, level, reading.classes) is None
