"""Axial training data: sides survive augmentation, partial outlines are used as such, millimetres keep their size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from inference.recess_depth import bin_depths, regions
from inference.segment import class_names
from training.datasets import IGNORE
from training.datasets.axial import (
    Augmentation,
    Outlined,
    Placement,
    Settings,
    build,
    crop_sample,
    degraded,
    load_outlines,
    neighbours_of,
    placed,
    polygon_mask,
    real_sample,
    swap_sides,
    with_neighbours,
)
from training.datasets.axial_crops import FIRST_SEED, TRUTH, Crops, load_crops, seeds_of
from training.fit_recess import recess_recipe, side_logits, stack_sample, stacks_of, two_bins
from training.recipes import Recipe, load_recipe

LEFT, RIGHT = class_names().index("recess_left"), class_names().index("recess_right")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("axial")


@pytest.fixture(scope="module")
def crops() -> Crops:
    """Three slices of one stack: a bright bar labelled left recess on the patient's left, 3 mm deep left and 7 mm right."""
    labels = np.zeros((3, 208, 208), dtype=np.uint8)
    labels[:, 100:110, 118:126] = LEFT
    labels[:, 100:110, 82:90] = RIGHT
    images = np.where(labels == LEFT, 220, 40).astype(np.uint8)
    truth = np.zeros((3, len(TRUTH)))
    truth[:, :2] = (3.0, 7.0)
    return Crops(
        images=images,
        labels=labels,
        anchors=np.full((3, 2), 103.5),
        affines=np.repeat(np.eye(4)[None], 3, axis=0),
        stacks=np.array([10, 10, 10]),
        offsets=np.array([2.0, -6.5, -2.3]),
        margins=np.zeros((3, 3)),
        normals=np.tile([0.0, 0.0, 1.0], (3, 1)),
        truth=truth,
        recess_points=np.zeros((3, 2, 3)),
    )


def outlined(**changes: object) -> Outlined:
    square = np.array([[40.0, 40.0], [120.0, 40.0], [120.0, 90.0], [40.0, 90.0]])
    sac = np.array([[70.0, 92.0], [90.0, 92.0], [90.0, 110.0], [70.0, 110.0]])
    plain = Outlined("x", "1", "train", "t1", "good", False, np.zeros((160, 160), np.float32), 0.6, square, sac)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_shipped_recipes_mirror_only_with_exchanged_sides(recipe: Recipe) -> None:
    for plan in (Settings.model_validate(recipe.data).augmentation, recess_recipe().augmentation):
        assert plan.mirror in {"never", "swap_sides"}
    for word in ("flip", "mirror"):
        assert [name for name in Augmentation.model_fields if word in name] in ([], ["mirror"])
    with pytest.raises(ValidationError):
        Augmentation.model_validate({"mirror": "always"})


def test_mirrored_crop_shows_the_bright_recess_on_the_other_side_with_the_other_name(
    crops: Crops, recipe: Recipe
) -> None:
    plain = placed(0.6, 0.6, crops.anchors[0])
    straight = crop_sample(crops, 0, plain)
    mirrored = crop_sample(crops, 0, Placement(plain.centre, plain.matrix, None, mirrored=True))
    middle = straight.target.shape[1] / 2
    for sample, bright in ((straight, LEFT), (mirrored, RIGHT)):
        assert sample.image[0][sample.target == bright].mean() > 150
        assert np.nonzero(sample.target == LEFT)[1].min() > middle > np.nonzero(sample.target == RIGHT)[1].max()


def test_neighbours_are_those_of_the_same_stack_from_feet_to_head(crops: Crops) -> None:
    assert neighbours_of(crops).tolist() == [[2, 0], [1, 2], [1, 0]]
    apart = replace(crops, stacks=np.array([10, 10, 20]))
    assert neighbours_of(apart).tolist() == [[1, 0], [1, 0], [2, 2]]


def test_a_crop_stands_between_its_neighbours_each_in_its_own_window(crops: Crops) -> None:
    images = np.stack([np.roll(crops.images[0], 9 * number, axis=1) for number in range(3)])
    moved = replace(crops, images=images, anchors=crops.anchors + np.array([[0, 0], [0, 9], [0, 18]]))
    placement = placed(0.6, 0.6, moved.anchors[2])
    alone = crop_sample(moved, 2, placement)
    sample = with_neighbours(alone, moved, 2, placement, np.array([1, 0]))
    assert sample.image.shape == (3, *alone.target.shape)
    assert np.array_equal(sample.image[1], alone.image[0])
    assert np.array_equal(sample.image[0], sample.image[1])
    slipped = with_neighbours(alone, moved, 2, placement, np.array([1, 0]), np.array([[0.0, 5.0], [0.0, 0.0]]))
    assert np.array_equal(slipped.image[0][:, :-5], sample.image[0][:, 5:])


def test_slices_of_one_stack_are_changed_alike_and_get_noise_of_their_own() -> None:
    picture = np.random.default_rng(1).uniform(0.2, 0.8, (64, 64)).astype(np.float32)
    quiet = Augmentation(noise=0.0)
    for seed in range(8):
        one, other = degraded(np.stack([picture, picture]), 0.6, quiet, np.random.default_rng(seed))
        assert np.array_equal(one, other)
        assert np.array_equal(one, degraded(picture, 0.6, quiet, np.random.default_rng(seed)))
    loud = [degraded(np.stack([picture] * 2), 0.6, Augmentation(), np.random.default_rng(seed)) for seed in range(8)]
    assert sum(not np.array_equal(one, other) for one, other in loud) >= 5


def test_exchanging_sides_twice_changes_nothing() -> None:
    labels = np.arange(8)
    assert not np.array_equal(swap_sides(labels), labels)
    assert np.array_equal(swap_sides(swap_sides(labels)), labels)


def test_pixels_beyond_a_crop_belong_to_nobody(crops: Crops, recipe: Recipe) -> None:
    far = Placement(np.array([20.0, 20.0]), np.eye(2))
    target = crop_sample(crops, 0, far).target
    assert (target == IGNORE).mean() > 0.3


def test_polygon_counts_pixels_by_their_centres() -> None:
    rows, columns = np.mgrid[:10, :10]
    square = np.array([[1.5, 2.5], [5.5, 2.5], [5.5, 4.5], [1.5, 4.5]])
    mask = polygon_mask(square, rows, columns)
    assert mask.sum() == 8
    assert mask[3:5, 2:6].all()


@pytest.mark.parametrize(
    ("changes", "grouping"),
    [
        ({}, "outlines"),
        ({"quality": "fair"}, "outlines"),
        ({"quality": "poor"}, "disc_only"),
        ({"body_level": True}, "sac_only"),
    ],
)
def test_what_an_outliner_could_not_tell_is_not_taught(
    changes: dict[str, object], grouping: str, recipe: Recipe
) -> None:
    item = outlined(**changes)
    sample = real_sample(item, placed(0.6, 0.6, item.anchor[::-1]), recipe)
    assert sample.partial == recipe.grouping_index(grouping)


def test_outlined_disc_keeps_its_area_in_the_window(recipe: Recipe) -> None:
    item = outlined(pixel_mm=0.75)
    sample = real_sample(item, placed(0.75, 0.6, item.anchor[::-1]), recipe)
    disc = (sample.target == class_names().index("disc")).sum() * 0.6**2
    assert disc == pytest.approx(80 * 50 * 0.75**2, rel=0.02)


def test_seeds_of_training_validation_and_whole_studies_are_far_apart() -> None:
    first = sorted(FIRST_SEED.values())
    assert min(np.diff(first)) >= 500_000


def test_a_split_that_would_run_into_the_next_is_refused() -> None:
    following = min(first for first in FIRST_SEED.values() if first > FIRST_SEED["study"])
    room = following - FIRST_SEED["study"]
    assert seeds_of("study", room)[-1] == following - 1
    with pytest.raises(ValueError, match="run into the seeds of another"):
        seeds_of("study", room + 1)


def test_depths_change_sides_with_the_mirror_and_never_with_anything_else(crops: Crops) -> None:
    recipe, members = recess_recipe(), stacks_of(crops)[0]
    assert crops.offsets[members].tolist() == sorted(crops.offsets)
    seen = set()
    for seed in range(12):
        channels, depths = stack_sample(crops, members, recipe, np.random.default_rng(seed))
        bright = np.percentile(channels[1, :, 52:], 99) > np.percentile(channels[1, :, :44], 99)
        assert tuple(depths) == ((3.0, 7.0) if bright else (7.0, 3.0))
        seen.add(bright)
    assert seen == {True, False}


def test_neighbours_differ_in_noise_alone_and_a_missing_one_is_the_middle_slice_again(crops: Crops) -> None:
    recipe, members = recess_recipe(), stacks_of(crops)[0]
    seen = set()
    for seed in range(24):
        before, middle, after = stack_sample(crops, members, recipe, np.random.default_rng(seed))[0][:3]
        seen |= {np.array_equal(before, middle), np.array_equal(after, middle)}
        assert np.median(np.abs(before - middle)) < 0.15
    assert seen == {True, False}


def test_splits_are_loaded_one_behind_the_other_and_a_missing_one_is_named(crops: Crops, tmp_path: Path) -> None:
    arrays = {name: getattr(crops, name) for name in crops.__dataclass_fields__}
    for split, stack in (("stacks", 15), ("stacks_second", 30)):
        np.savez(tmp_path / f"{split}-0.npz", **(arrays | {"stacks": np.full(3, stack)}))
    assert load_crops(tmp_path, "stacks", "stacks_second").stacks.tolist() == [15] * 3 + [30] * 3
    assert load_crops(tmp_path, "stacks").stacks.tolist() == [15] * 3
    with pytest.raises(FileNotFoundError, match="validation"):
        load_crops(tmp_path, "stacks", "validation")


def test_recess_recipe_that_changes_the_scale_is_refused() -> None:
    content = recess_recipe().model_dump()
    content["augmentation"]["scale"] = (0.9, 1.1)
    with pytest.raises(ValidationError, match="scale"):
        type(recess_recipe()).model_validate(content)


def test_two_bins_around_a_depth_have_it_as_their_mean() -> None:
    torch = pytest.importorskip("torch")
    depths = torch.tensor([[0.0, 0.3], [3.7, 13.4], [20.0, 6.0]])
    shares = two_bins(depths, 19)
    means = shares @ torch.from_numpy(bin_depths(19)).float()
    assert torch.allclose(shares.sum(-1), torch.ones(3, 2))
    assert torch.allclose(means, depths.clamp(max=13.5), atol=1e-4)


def test_each_side_is_decided_by_its_own_half_of_the_window() -> None:
    torch = pytest.importorskip("torch")
    left, right = regions(0.6)
    assert not (left & right).any()
    assert np.array_equal(left, right[:, ::-1])
    logits = torch.zeros(1, 2, *left.shape)
    logits[0, 1, :, left.shape[1] // 2 :] = 5.0
    pooled = side_logits(logits, torch.from_numpy(regions(0.6)).float())
    assert pooled[0, 0, 1] == 5.0
    assert pooled[0, 1, 1] == 0.0


def test_real_outlines_are_split_by_patient(recess_data: Path) -> None:
    slices = load_outlines(recess_data, Settings())
    splits: dict[str, set[str]] = {}
    for item in slices:
        splits.setdefault(item.patient, set()).add(item.split)
    assert {len(found) for found in splits.values()} == {1}
    counts = {split: sum(item.split == split for item in slices) for split in ("train", "validation", "test")}
    assert counts == {"train": 98, "validation": 35, "test": 61}


def test_disc_of_a_real_slice_lies_in_its_window(recess_data: Path, recipe: Recipe) -> None:
    alone = recipe.model_copy(update={"data": {**recipe.data, "crops": None}})
    for sample in build(alone, "validation", np.random.default_rng(0), recess_data):
        disc = sample.target == class_names().index("disc")
        edge = np.concatenate([disc[0], disc[-1], disc[:, 0], disc[:, -1]])
        assert disc.sum() > 2000
        assert not edge.any()
