"""What decides a training run on radiologists' notes, and the labels that such a run learns from.

Numbers: configs/training/notes.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from configs import config_path, load_toml
from models.networks import NetworkSpec
from training.datasets.notes import Noted


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Loop(_Part):
    steps: int
    batch: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    ema_decay: float
    gradient_clip: float = 5.0


class Penalties(_Part):
    side_penalties: tuple[float, ...]
    presence_penalties: tuple[float, ...]


class LabelWeights(_Part):
    root_side: float
    foramen_side: float
    no_side: float
    unmentioned: float
    auxiliary: float
    draws: tuple[float, float, float, float, float]


class Abstention(_Part):
    free_levels_below: float


class MapAugmentation(_Part):
    rotation_deg: float
    scale: float
    stretch: float
    shift_mm: float
    gamma: float
    gain: float
    offset: float
    shading: float
    noise: float
    map_dropped: float
    cut_out: float


class NotesRecipe(_Part):
    """Everything that decides a training run on notes."""

    name: str
    seed: int
    folds: int
    trained_on: str
    network: NetworkSpec
    optimiser: Loop
    linear: Penalties
    labels: LabelWeights
    abstention: Abstention
    augmentation: MapAugmentation


def notes_recipe() -> NotesRecipe:
    """The shipped recipe."""
    return load_toml(config_path("training", "notes.toml"), NotesRecipe)


@dataclass(frozen=True)
class Taught:
    """Labelled maps as arrays: kinds (N,), side (N,) +1/-1/0, side targets and their weights (N,), auxiliary labels (N, 3) bool."""

    maps: Tensor
    kinds: NDArray[np.int64]
    side: NDArray[np.int64]
    side_target: NDArray[np.float64]
    side_weight: NDArray[np.float64]
    root: NDArray[np.bool_]
    foramen: NDArray[np.bool_]
    sac: NDArray[np.bool_]

    def tensor(self, values: NDArray[np.float64] | NDArray[np.bool_], rows: NDArray[np.int64]) -> Tensor:
        """Labels of some levels as float32."""
        return torch.from_numpy(values[rows].astype(np.float32))


def taught(levels: Sequence[Noted], maps: NDArray[np.float32], recipe: NotesRecipe) -> Taught:
    """Labels of the levels, with the side taken from roots or foramina (weighing less) where no herniation has one."""
    side = np.array([item.side for item in levels])
    root, foramen = np.array([item.root for item in levels]), np.array([item.foramen for item in levels])
    target, weight = np.where(side != 0, (side + 1) / 2, 0.5), (side != 0).astype(np.float64)
    for named, share in ((root, recipe.labels.root_side), (foramen, recipe.labels.foramen_side)):
        lean = named[:, 0].astype(int) - named[:, 1].astype(int)
        new = (weight == 0) & (lean != 0)
        target, weight = np.where(new, (lean + 1) / 2, target), np.where(new, share, weight)
    even = np.array([item.even for item in levels]) & (weight == 0)
    return Taught(
        maps=torch.from_numpy(maps),
        kinds=np.array([item.kind for item in levels]),
        side=side,
        side_target=target,
        side_weight=np.where(even, recipe.labels.no_side, weight),
        root=root,
        foramen=foramen,
        sac=np.array([item.sac for item in levels]),
    )
