"""From a network's scores or measured features to probabilities, with numbers that stand in the model's card.

Temperature: Guo et al. 2017. Platt: 1999. The logistic head is a plain standardised logistic regression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator


class LogisticHead(BaseModel):
    """Logistic regression on named features: standardise by `mean` and `scale`, weigh, add `intercept`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    fitted_on: str

    @model_validator(mode="after")
    def _lengths_agree(self) -> LogisticHead:
        if not len(self.features) == len(self.mean) == len(self.scale) == len(self.weights):
            raise ValueError("features, mean, scale and weights differ in length")
        if min(self.scale, default=1.0) <= 0:
            raise ValueError("every scale must be positive")
        return self

    def probability(self, values: Mapping[str, float]) -> float:
        """Probability (0..1) for one case. KeyError names a feature that is missing; a nan counts as the mean."""
        row = np.array([values[name] for name in self.features], dtype=np.float64)
        row = (row - np.array(self.mean)) / np.array(self.scale)
        row = np.where(np.isfinite(row), row, 0.0)
        return float(logistic(row @ np.array(self.weights) + self.intercept))


def logistic(score: NDArray[Any] | float) -> NDArray[np.float64]:
    """1 / (1 + exp(-score)), safe for large scores."""
    clipped = np.clip(np.asarray(score, dtype=np.float64), -60.0, 60.0)
    return np.asarray(1.0 / (1.0 + np.exp(-clipped)))


def platt(score: NDArray[Any] | float, slope: float, intercept: float) -> NDArray[np.float64]:
    """Platt scaling: probability of a score, logistic(slope * score + intercept)."""
    return logistic(slope * np.asarray(score, dtype=np.float64) + intercept)


def with_temperature(probabilities: NDArray[Any], temperature: float, axis: int = 1) -> NDArray[np.float32]:
    """Class probabilities softened (temperature > 1) or sharpened (< 1) along `axis`; they still sum to one."""
    if temperature <= 0:
        raise ValueError("the temperature must be positive")
    logits = np.log(np.clip(probabilities, 1e-7, 1.0)) / temperature
    logits -= logits.max(axis=axis, keepdims=True)
    raised = np.exp(logits)
    return (raised / raised.sum(axis=axis, keepdims=True)).astype(np.float32)
