"""Ablation: variants differ in what they say and in nothing else, a finished one is kept, figures are of the same slices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inference.segment import class_names
from training.ablate import (
    Result,
    ablate_axial,
    axial_plan,
    difference,
    figures,
    lines_of,
    variant_recipe,
)
from training.ablate_notes import notes_plan
from training.ablate_plot import draw
from training.datasets import IGNORE
from training.datasets.axial import Placement, Settings, labelled_sample, load_self_taught, painted_flat
from training.datasets.axial_crops import TRUTH, Crops
from training.recipes import recipe_sha256

LEFT, RIGHT = class_names().index("recess_left"), class_names().index("recess_right")


def result(variant: str, seed: int, sac: list[float]) -> Result:
    slices = [
        {"name": f"s{n}", "patient": f"p{n}", "weighting": "t1", "quality": "good", "disc": 0.9, "sac": value}
        for n, value in enumerate(sac)
    ]
    slices.append({**slices[0], "weighting": "t2", "sac": 0.0})
    slices.append({**slices[0], "quality": "poor", "sac": 0.0})
    return {"variant": variant, "title": variant, "seed": seed, "steps": 3, "slices": slices}


def test_every_variant_has_the_same_budget_and_switches_only_what_it_names(tmp_path: Path) -> None:
    plan = axial_plan()
    base = variant_recipe(plan, "all", 101, tmp_path)
    plain = Settings.model_validate(base.data).model_dump()
    for name, variant in plan.variants.items():
        recipe = variant_recipe(plan, name, 101, tmp_path)
        settings = Settings.model_validate(recipe.data).model_dump()
        changed = {key for key in settings if settings[key] != plain[key]}
        assert changed == set(variant.data) | ({"unlabelled"} if name == "self_taught" else set())
        assert recipe.model_copy(update={"name": base.name, "data": base.data}) == base


def test_no_variant_mirrors_without_exchanging_sides(tmp_path: Path) -> None:
    plan = axial_plan()
    for name in plan.variants:
        settings = Settings.model_validate(variant_recipe(plan, name, 101, tmp_path).data)
        assert settings.augmentation.mirror == "swap_sides"


def test_a_finished_variant_is_kept_and_one_of_another_budget_is_not(tmp_path: Path) -> None:
    plan = axial_plan(3).model_copy(update={"people": 1, "seeds": (101,)})
    plan = plan.model_copy(update={"variants": {"all": plan.variants["all"]}})
    folder = tmp_path / plan.name
    (folder / "crops").mkdir(parents=True)
    (folder / "crops" / "train-1000000.npz").touch()
    done = {
        **result("all", 101, [0.5]),
        "recipe_sha256": recipe_sha256(variant_recipe(plan, "all", 101, folder)),
    }
    (folder / "all-101.json").write_text(json.dumps(done))
    nowhere = tmp_path / "no data"
    assert ablate_axial(plan, nowhere, tmp_path) == [done]
    longer = plan.model_copy(update={"optimiser": axial_plan(4).optimiser})
    with pytest.raises(FileNotFoundError, match="no data"):
        ablate_axial(longer, nowhere, tmp_path)


def test_figures_count_good_and_fair_t1_and_compare_slice_by_slice(tmp_path: Path) -> None:
    results = [
        result("all", 1, [0.8, 0.9]),
        result("all", 2, [0.82, 0.92]),
        result("without", 1, [0.7, 0.8]),
        result("without", 2, [0.72, 0.82]),
    ]
    mean, low, high, each = figures(results, "all", "sac")
    assert mean == pytest.approx(0.86)
    assert low < mean < high
    assert each == pytest.approx([0.85, 0.87])
    assert difference(results, "without", "all", "sac") == pytest.approx((-0.1, -0.1, -0.1))
    lines = lines_of(results)
    assert "2 T1 slices" in lines[0]
    assert "sac 0.760" in lines[2]
    assert "-0.100" in lines[2]
    draw(tmp_path / "plot.png", results, [])
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_flat_pictures_have_one_grey_for_every_label() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2, 20, 20)).astype(np.uint8)
    labels = rng.integers(0, 4, (2, 20, 20)).astype(np.uint8)
    blank = np.zeros((2, 3))
    crops = Crops(
        images=images,
        labels=labels,
        anchors=blank[:, :2],
        affines=np.zeros((2, 4, 4)),
        stacks=np.zeros(2, dtype=np.int64),
        offsets=np.zeros(2),
        margins=blank,
        normals=blank,
        truth=np.zeros((2, len(TRUTH))),
        recess_points=np.zeros((2, 2, 3)),
    )
    flat = painted_flat(crops)
    for picture, seen, before in zip(flat.images, labels, images, strict=True):
        for value in range(4):
            (grey,) = np.unique(picture[seen == value])
            assert grey == pytest.approx(before[seen == value].mean(), abs=0.51)


def test_what_a_network_was_unsure_of_teaches_nothing_and_its_sides_follow_the_mirror(tmp_path: Path) -> None:
    labels = np.zeros((1, 160, 160), dtype=np.int8)
    labels[0, 70:80, 100:110], labels[0, 70:80, 50:60], labels[0, :20] = LEFT, RIGHT, IGNORE
    images = np.where(labels == LEFT, 1.0, 0.2).astype(np.float16)
    np.savez(
        tmp_path / "t.npz", images=images, labels=labels, anchor=[80.0, 79.5], pixel_mm=0.6, patients=np.array(["7"])
    )
    taught = load_self_taught(tmp_path / "t.npz")
    middle = np.array([79.5, 79.5])
    for mirrored in (False, True):
        placement = Placement(middle, np.eye(2), None, mirrored)
        sample = labelled_sample(taught.images[0], taught.labels[0], placement, str(taught.patients[0]))
        assert (sample.target[:20] == IGNORE).all()
        assert sample.image[0][sample.target == (RIGHT if mirrored else LEFT)].mean() > 0.9
        assert np.nonzero(sample.target == LEFT)[1].min() > 80 > np.nonzero(sample.target == RIGHT)[1].max()


def test_variants_of_the_notes_see_channels_that_there_are() -> None:
    plan = notes_plan()
    for variant in plan.variants.values():
        assert set(variant.channels) <= set(range(7))
    assert set(plan.variants["picture"].channels) | set(plan.variants["maps"].channels) == set(range(7))
