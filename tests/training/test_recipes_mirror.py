"""No recipe that ships mirrors a picture without exchanging the sides of what is said about it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import training.datasets.augment
import training.datasets.axial
import training.disc_grades
import training.notes_recipe
from configs import config_path

_RECIPES = sorted(config_path("training", "axial.toml").parent.glob("*.toml"))
_WORDS = ("mirror", "flip", "reflect")
_PLANS: tuple[type[BaseModel], ...] = (
    training.datasets.axial.Augmentation,
    training.datasets.augment.Strength,
    training.disc_grades.Augmentation,
    training.notes_recipe.MapAugmentation,
)


def _entries(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _entries(value, f"{path}.{key}" if path else key)
    else:
        yield path, content


@pytest.mark.parametrize("path", _RECIPES, ids=lambda path: path.stem)
def test_a_recipe_that_mirrors_says_that_sides_are_exchanged(path: Path) -> None:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    told = {key: value for key, value in _entries(content) if any(word in key.lower() for word in _WORDS)}
    assert all(value in {"never", "swap_sides"} for value in told.values()), told


def test_mirroring_is_an_entry_of_the_axial_augmentation_alone_and_knows_no_third_way() -> None:
    found = {
        (plan.__module__, name) for plan in _PLANS for name in plan.model_fields if any(word in name for word in _WORDS)
    }
    assert found == {("training.datasets.axial", "mirror")}
    assert training.datasets.axial.Augmentation.model_json_schema()["properties"]["mirror"]["enum"] == [
        "never",
        "swap_sides",
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_sagittal_window_keeps_its_front_in_front_and_its_head_above(seed: int) -> None:
    target = np.zeros((200, 160), dtype=np.int16)
    target[60:140, 60:100] = 1
    image = np.linspace(0, 1, 160, dtype=np.float32)[None, None].repeat(200, 1)
    image = np.concatenate([image, np.linspace(0, 1, 200, dtype=np.float32)[None, :, None].repeat(160, 2)])
    seen, labels = training.datasets.augment.place(
        image, target, (96, 96), training.datasets.augment.Strength(), np.random.default_rng(seed)
    )
    inside = labels == 1
    along, down = np.gradient(seen[0], axis=1)[inside].mean(), np.gradient(seen[1], axis=0)[inside].mean()
    assert along > 0
    assert down > 0
