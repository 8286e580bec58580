"""Runs the shipped mirror network on posed maps and carries its scores to probabilities by the fits of its card.

It reads maps made by one axial network: with any other it is not used. A few milliseconds on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.weights import CARDS, WEIGHTS, Card, WeightsError, load_card, load_network, model_names

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class MirrorScores:
    """Probabilities (0..1) of a protrusion or worse and of the left side, and whether the asymmetry is large enough to name a side."""

    herniation_probability: float
    left_probability: float
    side_told: bool


@dataclass(frozen=True)
class MirrorReader:
    """The network and its card."""

    card: Card
    network: nn.Module

    @classmethod
    def load(cls, name: str = "notes", *, cards: Path = CARDS, weights: Path = WEIGHTS) -> MirrorReader:
        """The shipped network. WeightsError when it is missing, or was taught on the maps of another axial network."""
        card = load_card(name, cards)
        taught, shipped = reads(card), load_card("axial", cards).sha256
        if taught != shipped:
            raise WeightsError(
                f"{name} was taught on maps of the axial network {taught[:12]}, but {shipped[:12]} is installed; "
                f"restore both from one release, or run recess-train fit {name} --ship"
            )
        return cls(card, load_network(card, weights))

    @classmethod
    def load_fitting(cls, name: str = "notes") -> MirrorReader | None:
        """The shipped network, or None where none ships or it was taught on the maps of another axial network.

        WeightsError when it is damaged.
        """
        return cls.load(name) if fits(name) else None

    def scores(self, maps: NDArray[Any]) -> NDArray[np.float64]:
        """Log odds (N, 3) of posed maps (N, C, rows, columns), in the order of the card's classes."""
        import torch

        with torch.inference_mode():
            found = self.network(torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32)))
        return np.asarray(found.double().numpy())

    def read(self, maps: NDArray[Any]) -> MirrorScores:
        """Probabilities for one slice's posed maps (C, rows, columns)."""
        values = dict(zip(self.card.classes, self.scores(maps[None])[0].tolist(), strict=True))
        return MirrorScores(
            herniation_probability=self.card.heads["herniation"].probability(values),
            left_probability=self.card.heads["side"].probability(values),
            side_told=abs(values["side"]) > self.card.constants["side_band"],
        )


def fits(name: str = "notes") -> bool:
    """Whether a network of that name ships and was taught on the maps of the shipped axial network."""
    return name in model_names() and reads(load_card(name)) == load_card("axial").sha256


def reads(card: Card) -> str:
    """SHA-256 of the axial network whose maps the network of `card` was taught on."""
    return str(card.metrics.get("reads", {}).get("axial", ""))
