"""Runs a shipped grader on pictures: one calibrated probability per question of its card.

The card's `classes` are the questions; Platt scaling (1999) by the constants `<question>_slope` and `<question>_intercept`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import platt
from models.networks import GraderSpec
from models.runtime import choose_device
from models.weights import CARDS, WEIGHTS, Card, WeightsError, load_card, load_network

_BATCH = 64


@dataclass(frozen=True)
class Grader:
    """A grader ready to run on `device`."""

    card: Card
    device: str
    network: Any

    @classmethod
    def load(cls, name: str, device: str = "auto", *, cards: Path = CARDS, weights: Path = WEIGHTS) -> Grader:
        """The shipped grader `name` on `device`. Raises WeightsError or DeviceUnavailableError."""
        card = load_card(name, cards)
        if not isinstance(card.network, GraderSpec):
            raise WeightsError(f"card {name!r} describes a network that segments, not a grader")
        resolved, _ = choose_device(device)
        return cls(card, resolved, load_network(card, weights).to(resolved))

    def logits(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        """Raw scores (N, questions) of pictures (N, C, H, W). ValueError for another number of channels."""
        import torch

        pictures = np.ascontiguousarray(pictures, dtype=np.float32)
        if pictures.ndim != 4 or pictures.shape[1] != self.card.network.in_channels:
            raise ValueError(f"pictures of shape {pictures.shape}; expected (N, {self.card.network.in_channels}, H, W)")
        with torch.inference_mode():
            parts = [self.network(part.to(self.device)) for part in torch.from_numpy(pictures).split(_BATCH)]
            scores: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
        return scores

    def probabilities(self, pictures: NDArray[Any]) -> list[dict[str, float]]:
        """Calibrated probability of every question for each of the pictures (N, C, H, W)."""
        constants = self.card.constants
        return [
            {
                name: float(platt(score, constants.get(f"{name}_slope", 1.0), constants.get(f"{name}_intercept", 0.0)))
                for name, score in zip(self.card.classes, row, strict=True)
            }
            for row in self.logits(pictures)
        ]
