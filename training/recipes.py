"""Recipes: everything that decides a training run, as TOML in `configs/training`; an unknown key is an error.

The part under [data] belongs to the dataset module, which checks it with its own `Settings`.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from configs import ConfigError, config_path, load_toml
from models.intensity import InputSpec
from models.networks import NetworkSpec


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimiser(_Strict):
    """The loop: AdamW with warm-up and cosine decay, exponential average of the weights, early choice on validation."""

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    gradient_clip: float = Field(default=5.0, gt=0)
    validate_every: int = Field(default=200, gt=0)
    bfloat16: bool = False
    """Forward passes in bfloat16 on the CPU too (CUDA always autocasts); about 1.7 times as fast where the processor has it."""
    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock budget; the loop stops there and keeps the best weights so far."""


class Recipe(_Strict):
    """One training run. `groupings` name how partially labelled samples merge classes: name -> groups of class names.

    Grouping number 0 is always full labelling; the others are numbered from 1 in the order of the file.
    """

    name: str
    seed: int
    dataset: str
    trained_on: str
    network: NetworkSpec
    input: InputSpec
    classes: tuple[str, ...]
    optimiser: Optimiser
    groupings: dict[str, tuple[tuple[str, ...], ...]] = Field(default_factory=dict)
    start_from: str | None = None
    """Run folder whose best weights this run starts from; the network must be the same, but for neighbours that it may see in addition."""
    partner: str | None = None
    """Recipe of the network that the card names as this one's partner (models/weights.py)."""
    data: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if len(self.classes) != self.network.out_channels:
            raise ValueError(f"{len(self.classes)} classes for a network with {self.network.out_channels} outputs")
        for name, groups in self.groupings.items():
            listed = [item for group in groups for item in group]
            if sorted(listed) != sorted(self.classes):
                raise ValueError(f"grouping {name!r} must name every class exactly once")
        return self

    def grouping_index(self, name: str) -> int:
        """Number of a grouping for `Sample.partial`; "full" is 0. KeyError when there is none."""
        if name == "full":
            return 0
        names = list(self.groupings)
        if name not in names:
            raise KeyError(name)
        return names.index(name) + 1

    def grouping_table(self) -> tuple[tuple[int, ...], ...]:
        """For every grouping, the group number of each class; the group that holds the background is number 0."""
        table = [tuple(range(len(self.classes)))]
        for groups in self.groupings.values():
            ordered = sorted(groups, key=lambda group: self.classes[0] not in group)
            table.append(tuple(next(i for i, group in enumerate(ordered) if item in group) for item in self.classes))
        return tuple(table)


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe by the name of a shipped file (`sagittal`) or by path. ConfigError says what does not fit."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = config_path("training", f"{name_or_path}.toml")
    recipe = load_toml(path, Recipe)
    module = dataset_module(recipe)
    try:
        module.Settings.model_validate(recipe.data)
    except ValueError as error:
        raise ConfigError(f"{path}: [data] {error}") from error
    return recipe


def dataset_module(recipe: Recipe) -> ModuleType:
    """The module `training.datasets.<dataset>`; it has `Settings` (pydantic) and `build`. ConfigError when there is none."""
    name = f"training.datasets.{recipe.dataset}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(f"recipe {recipe.name!r}: no dataset module {name}") from error


def recipe_sha256(recipe: Recipe) -> str:
    """Hash over all values of a recipe; a checkpoint carries it, so that a run resumes only its own recipe."""
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()
