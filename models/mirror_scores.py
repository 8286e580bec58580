"""Runs the shipped mirror network on posed maps and carries its scores to probabilities by the fits of its card.

It reads maps made by one axial network: with any other it is not used. A few milliseconds on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.weights import CARDS, WEIGHTS, Card, WeightsError, load_card, load_network, model_names, with_partners

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
    def load(cls, name: str, *, cards: Path = CARDS, weights: Path = WEIGHTS) -> MirrorReader:
        """The shipped network `name`. WeightsError when it is missing, or was taught on the maps of another network."""
        card = load_card(name, cards)
        taught, shipped = reads(card), _installed(card, cards)
        if taught != shipped:
            raise WeightsError(
                f"{name} was taught on maps of {_named(taught)}, but {_named(shipped)} is installed; "
                f"restore both from one release, or run recess-train fit {name} --ship"
            )
        return cls(card, load_network(card, weights))

    @classmethod
    def load_fitting(cls, name: str) -> MirrorReader | None:
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


def fits(name: str) -> bool:
    """Whether a network of that name ships and was taught on the maps of the networks that ship."""
    if name not in model_names():
        return False
    card = load_card(name)
    return reads(card) == _installed(card, CARDS)


def reads(card: Card) -> dict[str, str]:
    """Name and SHA-256 of each network whose maps the network of `card` was taught on. WeightsError when the card names none."""
    named = card.metrics.get("reads")
    if not named:
        raise WeightsError(f"card {card.name!r} does not say on whose maps the network was taught")
    return {str(name): str(digest) for name, digest in named.items()}


def _installed(card: Card, cards: Path) -> dict[str, str]:
    """SHA-256 by name of the networks whose maps `card` is given as they are installed, their partners among them."""
    return {one.name: one.sha256 for other in reads(card) for one in with_partners(other, cards, alone=True)}


def _named(networks: dict[str, str]) -> str:
    return " and ".join(f"{name} {digest[:12]}" for name, digest in networks.items())
