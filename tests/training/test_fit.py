"""The loop learns, repeats from its seed, resumes exactly, and the loss does not punish what nobody labelled."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file

from configs import ConfigError
from models import InputSpec, NetworkSpec, Segmenter, WeightsError
from models.networks import build
from training.datasets import IGNORE, Sample
from training.fit import ResumeError, dry_run, fit, ship, widened
from training.losses import grouped_dice_ce
from training.recipes import Recipe, load_recipe

CLASSES = ("background", "disc", "hernia", "sac")
TABLE = ((0, 1, 2, 3), (0, 1, 1, 2))


class _Settings(BaseModel):
    size: int = 32


def _sample(rng: np.random.Generator) -> Sample:
    """Two bright squares of different brightness on noise, each a class; the second half of them partially labelled."""
    target = np.zeros((32, 32), dtype=np.int64)
    row, column = rng.integers(2, 12, 2)
    target[row : row + 8, column : column + 8] = 1
    target[row + 9 : row + 17, column : column + 8] = 3
    image = np.array([0.0, 1.0, 0.5, -1.0])[target] + rng.normal(0, 0.1, target.shape)
    return Sample(image=image[None].astype(np.float32), target=target, partial=int(rng.integers(2)))


def _build(recipe: Recipe, split: str, rng: np.random.Generator, data: Path) -> Iterator[Sample]:
    if split == "train":
        while True:
            yield _sample(rng)
    for seed in range(3):
        yield _sample(np.random.default_rng(1000 + seed))


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    squares = types.ModuleType("training.datasets.squares")
    squares.Settings = _Settings  # type: ignore[attr-defined]
    squares.build = _build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "training.datasets.squares", squares)
    return Recipe.model_validate(
        {
            "name": "squares",
            "seed": 3,
            "dataset": "squares",
            "trained_on": "squares drawn by the test",
            "network": {"out_channels": 4, "channels": [8, 16], "residual_units": 1},
            "input": {"spacing_mm": 1.0},
            "classes": CLASSES,
            "groupings": {"outlines": [["background"], ["disc", "hernia"], ["sac"]]},
            "optimiser": {
                "steps": 24,
                "batch": 4,
                "learning_rate": 0.02,
                "warmup_steps": 2,
                "validate_every": 12,
                "ema_decay": 0.5,
            },
        }
    )


def test_network_learns_two_squares_and_its_shipped_weights_give_the_same_answer(
    recipe: Recipe, tmp_path: Path
) -> None:
    result = fit(recipe, tmp_path, tmp_path / "runs", device="cpu")
    assert result.finished
    assert result.dice_by_class["disc+hernia (partial)"] > 0.8
    card = ship(recipe, result, "test", cards=tmp_path / "cards", weights=tmp_path / "weights")
    segmenter = Segmenter.load("squares", "cpu", cards=tmp_path / "cards", weights=tmp_path / "weights")
    sample = _sample(np.random.default_rng(5))
    probabilities = segmenter.probabilities(sample.image[None])
    found = probabilities[0].argmax(0) == 3
    truth = sample.target == 3
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
    assert card.metrics["choice_dice"] == result.dice_by_class


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe: Recipe, tmp_path: Path) -> None:
    whole = fit(recipe, tmp_path, tmp_path / "whole", device="cpu")
    fit(recipe, tmp_path, tmp_path / "halves", device="cpu", stop_after=7)
    halves = fit(recipe, tmp_path, tmp_path / "halves", device="cpu", resume=True)
    one, two = load_file(whole.weights), load_file(halves.weights)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_network_that_gains_neighbours_begins_as_the_one_that_saw_slices_alone(recipe: Recipe) -> None:
    alone = build(recipe.network)
    spec = recipe.network.model_copy(update={"in_channels": 3})
    between = build(spec)
    between.load_state_dict(widened(alone.state_dict(), between.state_dict()))
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(between.eval()(images), alone.eval()(images[:, 1:2]), atol=1e-6)


def test_checkpoint_of_another_recipe_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path, tmp_path / "runs", device="cpu", stop_after=1)
    with pytest.raises(ResumeError, match="another recipe"):
        fit(recipe.model_copy(update={"seed": 4}), tmp_path, tmp_path / "runs", device="cpu", resume=True)


def test_dry_run_takes_one_batch_and_writes_nothing(recipe: Recipe, tmp_path: Path) -> None:
    loss, shape = dry_run(recipe, tmp_path)
    assert shape == (4, 1, 32, 32)
    assert 0 < loss < 10
    assert not list(tmp_path.iterdir())


def test_unknown_key_in_a_recipe_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('name = "wrong"\nflip = true\n')
    with pytest.raises(ConfigError, match="flip"):
        load_recipe(str(path))


def test_weights_changed_on_disk_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    result = fit(recipe, tmp_path, tmp_path / "runs", device="cpu", stop_after=1)
    ship(recipe, result, "test", cards=tmp_path, weights=tmp_path)
    path = tmp_path / "squares.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="SHA-256"):
        Segmenter.load("squares", "cpu", cards=tmp_path, weights=tmp_path)


def _logits_for(labels: torch.Tensor, strength: float = 12.0) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float() * strength


def test_hernia_called_where_only_the_disc_was_outlined_costs_nothing() -> None:
    outlined = torch.zeros((1, 16, 16), dtype=torch.int64)
    outlined[:, 4:8, 4:12] = 1
    guess = outlined.clone()
    guess[:, 6:8, 4:12] = 2
    partly = grouped_dice_ce(_logits_for(guess), outlined, torch.tensor([1]), TABLE)
    fully = grouped_dice_ce(_logits_for(guess), outlined, torch.tensor([0]), TABLE)
    assert float(partly) < 0.01
    assert float(fully) > 0.1


def test_sac_called_where_the_outline_says_background_costs() -> None:
    outlined = torch.zeros((1, 16, 16), dtype=torch.int64)
    guess = outlined.clone()
    guess[:, 2:6] = 3
    assert float(grouped_dice_ce(_logits_for(guess), outlined, torch.tensor([1]), TABLE)) > 0.5


def test_pixels_that_nobody_labelled_give_no_gradient() -> None:
    target = torch.zeros((1, 16, 16), dtype=torch.int64)
    target[:, 8:] = IGNORE
    logits = torch.randn((1, 4, 16, 16), requires_grad=True)
    grouped_dice_ce(logits, target, torch.tensor([0]), TABLE).backward()
    assert logits.grad is not None
    assert float(logits.grad[:, :, 8:].abs().max()) == 0
    assert float(logits.grad[:, :, :8].abs().max()) > 0


def test_grouping_must_name_every_class_once(recipe: Recipe) -> None:
    wrong = recipe.model_dump() | {"groupings": {"outlines": [["background"], ["disc"], ["sac"]]}}
    with pytest.raises(ValueError, match="exactly once"):
        Recipe.model_validate(wrong)


def test_background_group_is_number_zero_however_the_recipe_orders_it(recipe: Recipe) -> None:
    turned = recipe.model_dump() | {"groupings": {"outlines": [["disc", "hernia"], ["sac"], ["background"]]}}
    assert Recipe.model_validate(turned).grouping_table()[1] == (0, 1, 1, 2)


def test_network_description_refuses_one_level() -> None:
    with pytest.raises(ValueError, match="two levels"):
        NetworkSpec(out_channels=2, channels=(8,))


def test_input_percentiles_must_be_ordered() -> None:
    with pytest.raises(ValueError, match="below"):
        InputSpec(spacing_mm=1.0, low_percentile=99, high_percentile=1)
