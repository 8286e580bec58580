"""Taught by notes: sides follow the mirror exactly, patients stay in one fold, what a note does not say takes no part."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inference.canal_pose import MAPS, canal_pose, pose_of, posed_maps
from inference.provenance import NOTES
from inference.segment import class_names
from models.calibration import logistic
from models.mirror import SCORES, MirrorEnsemble, trunk_scores
from models.mirror_scores import MirrorReader
from models.networks import build
from training.datasets.notes import (
    BULGE,
    HERNIATION,
    LEVELS,
    NONE,
    SAME_NOTE,
    UNLABELLED,
    Noted,
    folds_of,
    noted_levels,
)
from training.evaluate_notes import Scored, presence_lines, side_lines
from training.fit_notes import run_ensemble
from training.notes_linear import fit_linear, logistic_weights, side_head
from training.notes_recipe import notes_recipe, taught
from training.notes_trunk import augmented, fit_trunk, trunk_loss

DATA = Path(os.environ.get("RECESS_DATA") or "../shared/data")
SIZE = (canal_pose().maps.rows, canal_pose().maps.columns)


def blob(row: float, column: float, height: float, width: float, size: int = 160) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    inside = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2
    return logistic(6 * (1 - inside))


def window(bump_column: float = 92.0) -> tuple[np.ndarray, np.ndarray]:
    """A disc with a bump behind it on the patient's left, a sac, two facets and flavum: image (H, W), probabilities (8, H, W)."""
    parts = {
        "disc": blob(60, 80, 34, 46),
        "herniated_material": 0.9 * blob(96, bump_column, 6, 7),
        "thecal_sac": blob(105, 79, 11, 13),
        "recess_left": blob(104, 100, 5, 4),
        "recess_right": blob(104, 60, 5, 4),
        "facets": blob(115, 112, 12, 14) + blob(117, 46, 12, 14),
        "flavum": blob(122, 92, 7, 4) + blob(122, 67, 7, 4),
    }
    names = class_names()
    probabilities = np.zeros((len(names), 160, 160))
    for name, part in parts.items():
        probabilities[names.index(name)] = np.clip(part - probabilities.sum(axis=0).clip(0), 0, 1)
    probabilities[0] = np.clip(1 - probabilities.sum(axis=0), 0, 1)
    image = 0.3 + 0.5 * probabilities[0] + 0.1 * np.random.default_rng(0).random((160, 160))
    return image.astype(np.float32), probabilities.astype(np.float32)


def mirrored(probabilities: np.ndarray) -> np.ndarray:
    names = list(class_names())
    order = [
        names.index({"recess_left": "recess_right", "recess_right": "recess_left"}.get(name, name)) for name in names
    ]
    return probabilities[order][..., ::-1]


def noted(patient: str, level: str = "L4-L5", kind: int = NONE, side: int = 0, even: bool = False) -> Noted:
    return Noted(patient, level, kind, side, even, (False,) * 3, (False,) * 3, False)


def made_up(count: int) -> tuple[list[Noted], np.ndarray]:
    """Levels with a bump of disc on their side (herniation), in the middle (bulge), or none; maps with noise."""
    rng = np.random.default_rng(5)
    levels, maps = [], rng.normal(0.3, 0.05, (count, len(MAPS), *SIZE)).astype(np.float32)
    for number in range(count):
        kind = (NONE, BULGE, HERNIATION, HERNIATION)[number % 4]
        side = 0 if kind != HERNIATION else (1, -1)[number // 4 % 2]
        if kind == HERNIATION:
            maps[number, MAPS.index("disc"), 10:15, 24 + 6 * side - 3 : 24 + 6 * side + 3] += 0.6
        elif kind == BULGE:
            maps[number, MAPS.index("disc"), 10:12] += 0.6
        levels.append(noted(f"{number:04d}", kind=kind, side=side, even=kind == NONE))
    return levels, maps


def test_a_mirrored_slice_gives_the_mirrored_maps() -> None:
    image, probabilities = window()
    straight = posed_maps(image, probabilities, class_names(), 0.6)
    turned = posed_maps(image[:, ::-1], mirrored(probabilities), class_names(), 0.6)
    assert straight.shape == (len(MAPS), *SIZE)
    assert np.allclose(straight, turned[..., ::-1], atol=1e-5)


def test_the_posterior_margin_and_the_middle_of_the_canal_come_to_their_places() -> None:
    image, probabilities = window()
    pose = pose_of(probabilities, class_names(), 0.6)
    assert abs(pose.column - 79.5) < 3
    assert 90 < pose.row < 105
    maps = posed_maps(image, probabilities, class_names(), 0.6)
    front = canal_pose().maps.rows_in_front
    disc = maps[1] + maps[2]
    assert disc[front - 4, SIZE[1] // 2] > 0.5 > disc[front + 4, SIZE[1] // 2]


def test_material_on_the_patients_left_lies_in_the_high_columns() -> None:
    image, probabilities = window(bump_column=94.0)
    material = posed_maps(image, probabilities, class_names(), 0.6)[MAPS.index("herniated_material")]
    assert material[:, SIZE[1] // 2 :].sum() > 3 * material[:, : SIZE[1] // 2].sum()


def test_a_blank_slice_is_posed_in_the_middle_of_its_window() -> None:
    pose = pose_of(np.zeros((8, 160, 160), dtype=np.float32), class_names(), 0.6)
    assert (pose.column, pose.turn) == (79.5, 0.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_with_any_weights_swaps_the_side_and_keeps_the_rest_when_mirrored(seed: int) -> None:
    torch.manual_seed(seed)
    network = build(notes_recipe().network).eval()
    assert isinstance(network, MirrorEnsemble)
    maps = torch.rand(3, len(MAPS), *SIZE)
    with torch.inference_mode():
        straight, turned = network(maps), network(maps.flip(-1))
    assert straight.shape == (3, len(SCORES))
    assert torch.allclose(straight[:, 0], -turned[:, 0], atol=1e-5)
    assert torch.allclose(straight[:, 1:], turned[:, 1:], atol=1e-5)
    assert straight[:, 0].abs().max() > 1e-4


def test_augmentation_never_mirrors() -> None:
    maps = torch.zeros(16, len(MAPS), *SIZE)
    maps[:, 1:, :, SIZE[1] // 2 + 6 :] = 1.0
    plan = notes_recipe().augmentation.model_copy(update={"map_dropped": 0.0, "cut_out": 0.0})
    cut = augmented(maps, plan, np.random.default_rng(0))
    half = cut.shape[-1] // 2
    assert cut.shape[-2:] == (28, 40)
    assert bool((cut[:, 1:, :, half:].mean((1, 2, 3)) > cut[:, 1:, :, :half].mean((1, 2, 3)) + 0.3).all())


def test_a_level_that_the_note_does_not_mention_moves_nothing_but_its_small_share() -> None:
    recipe = notes_recipe()
    levels = [noted("0001", kind=UNLABELLED), noted("0002", kind=HERNIATION, side=1)]
    data = taught(levels, np.zeros((2, len(MAPS), *SIZE), dtype=np.float32), recipe)
    outputs = torch.randn(2, 9, requires_grad=True)
    trunk_loss(outputs, outputs * 0.5, data, np.array([0, 1]), recipe).backward()
    assert outputs.grad is not None
    silent = outputs.grad[0]
    assert silent[0] == 0
    assert bool((silent[4:] == 0).all())
    assert 0 < float(silent[1:4].abs().sum()) < 2 * recipe.labels.unmentioned


def test_the_side_of_a_root_teaches_only_where_no_herniation_has_a_side() -> None:
    recipe = notes_recipe()
    left = Noted("0001", "L4-L5", HERNIATION, 1, False, (False, True, True), (False,) * 3, False)
    unsided = Noted("0002", "L4-L5", BULGE, 0, False, (False, True, True), (True, False, True), False)
    data = taught([left, unsided], np.zeros((2, len(MAPS), *SIZE), dtype=np.float32), recipe)
    assert data.side_target.tolist() == [1.0, 0.0]
    assert data.side_weight.tolist() == [1.0, recipe.labels.root_side]


def test_both_parts_learn_the_side_and_the_kind_from_made_up_maps() -> None:
    recipe = notes_recipe()
    short = recipe.optimiser.model_copy(update={"steps": 40, "batch": 16, "warmup_steps": 5, "ema_decay": 0.8})
    recipe = recipe.model_copy(update={"optimiser": short})
    levels, maps = made_up(64)
    data, train = taught(levels, maps, recipe), np.arange(48)
    linear = fit_linear(data, levels, train, recipe, 0)
    trunk = fit_trunk(data, train, recipe, 0, None)
    sides, kinds = data.side[48:], data.kinds[48:]
    with torch.inference_mode():
        cut = data.maps[48:][..., 2:30, 4:44]
        for scores in (linear(data.maps[48:]), trunk_scores(*trunk.both_ways(cut))):
            found = scores.numpy()
            assert (np.sign(found[sides != 0, 0]) == sides[sides != 0]).all()
            assert found[kinds == HERNIATION, 1].min() > found[kinds == NONE, 1].max()


def test_logistic_regression_agrees_with_the_head_fitted_feature_by_feature() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(200, 3))
    truth = (features @ [2.0, -1.0, 0.0] + 0.5 + rng.logistic(size=200) > 0).astype(float)
    weights, intercept = logistic_weights(features, truth, 1e-4, intercept=True)
    chance = 1 / (1 + np.exp(-(features @ weights + intercept)))
    assert np.allclose(features.T @ (truth - chance), 0, atol=0.5)
    assert weights[0] > 1 > 0 > weights[1]
    assert abs(float((truth - chance).sum())) < 1e-3


def test_a_run_is_measured_only_when_all_its_members_are_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"member-0.*recess-train fit notes"):
        run_ensemble(tmp_path)
    recipe = notes_recipe()
    torch.manual_seed(3)
    made = build(recipe.network)
    assert isinstance(made, MirrorEnsemble)
    (tmp_path / recipe.name).mkdir()
    for number in range(recipe.folds):
        save_file(made.member(number).state_dict(), str(tmp_path / recipe.name / f"member-{number}.safetensors"))
    maps = torch.rand(2, len(MAPS), *SIZE)
    with torch.inference_mode():
        assert torch.equal(run_ensemble(tmp_path)(maps), made.eval()(maps))


def test_the_head_of_the_side_is_even_at_zero_and_the_same_for_both_sides() -> None:
    head = side_head(np.array([2.0, 1.0, -1.0, -0.3, 0.2]), np.array([True, True, False, False, False]), "test")
    assert head.probability({"side": 0.0}) == pytest.approx(0.5)
    assert head.probability({"side": 1.3}) == pytest.approx(1 - head.probability({"side": -1.3}))
    assert head.probability({"side": 1.3}) > 0.6


def test_patients_and_word_identical_notes_stay_in_one_fold_and_sided_levels_are_spread() -> None:
    first, second = SAME_NOTE[0]
    people = [f"{number:04d}" for number in range(1000, 1040)] + [first, second]
    levels = [
        noted(patient, level, kind=HERNIATION if int(patient) % 2 else NONE, side=int(patient) % 2)
        for patient in people
        for level in LEVELS
    ]
    fold = folds_of(levels, 5, 3)
    where = defaultdict(set)
    for item, number in zip(levels, fold, strict=True):
        where[item.patient].add(int(number))
    assert all(len(numbers) == 1 for numbers in where.values())
    assert where[first] == where[second]
    sided = np.bincount(fold[[item.side != 0 for item in levels]], minlength=5)
    assert sided.min() > 0
    assert sided.max() - sided.min() <= 3


def scored(score: Sequence[float], sides: Sequence[int], kinds: Sequence[int], band: float) -> Scored:
    levels = tuple(
        noted(f"{n:04d}", kind=kind, side=side) for n, (side, kind) in enumerate(zip(sides, kinds, strict=True))
    )
    table = np.zeros((3, len(levels), 3))
    table[:, :, 0] = score
    table[:, :, 1] = table[:, :, 2] = np.array(kinds)
    return Scored(levels, table, np.zeros(len(levels), dtype=np.int64), np.full((1, 3), band))


def test_figures_count_wrong_sides_and_what_was_withheld() -> None:
    result = scored([2, -2, 0.1, 3, 0, 1], [1, -1, -1, 1, 0, 1], [2, 2, 1, 2, 0, 1], band=0.5)
    lines = side_lines(result)
    assert "side, one-sided: right 4/5 = 0.800" in lines[0]
    assert "withheld 1 of 5: right 4/4 = 1.000" in lines[1]
    assert "AUC 1.000" in presence_lines(result)[0]
    assert "3 against 1" in presence_lines(result)[0]


def test_the_shipped_network_reads_the_shipped_axial_network_and_swaps_sides() -> None:
    reader = MirrorReader.load(NOTES)
    image, probabilities = window(bump_column=97.0)
    straight = posed_maps(image, probabilities, class_names(), 0.6)
    left, right = reader.read(straight), reader.read(straight[..., ::-1])
    assert left.left_probability > 0.6
    assert left.left_probability == pytest.approx(1 - right.left_probability, abs=1e-5)
    assert left.herniation_probability == pytest.approx(right.herniation_probability, abs=1e-5)


@pytest.mark.skipif(not (DATA / "axial").is_dir(), reason="no folder of training data; set RECESS_DATA")
def test_labels_keep_the_counts_that_the_table_gives() -> None:
    levels = noted_levels(DATA / "axial")
    kinds = np.array([item.kind for item in levels])
    assert (len(levels), len({item.patient for item in levels})) == (1353, 451)
    assert [(kinds == kind).sum() for kind in (HERNIATION, BULGE, NONE)] == [116, 422, 183]
    assert sum(item.side != 0 and item.kind == HERNIATION for item in levels) == 70
    assert sum(item.side != 0 for item in levels) == 95
    with (DATA / "axial" / "labels_patients.csv").open(encoding="utf-8", newline="") as file:
        free = {row["patient"].zfill(4) for row in csv.DictReader(file) if row["no_herniation_stated"] == "1"}
    assert {item.patient for item in levels if item.kind == NONE} <= free
