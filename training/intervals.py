"""Uncertainty of measured figures: 95 % bootstrap intervals that draw whole patients, and the area under the ROC curve.

Patients are drawn, not discs or slices, because what comes from one patient is not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

_DRAWS = 2000
_SEED = 7
"""Fixed, so that a printed interval repeats."""


def bootstrap_interval(
    values: Sequence[float] | NDArray[Any],
    patients: Sequence[Any],
    statistic: Callable[[NDArray[Any]], float] | None = None,
    draws: int = _DRAWS,
) -> tuple[float, float]:
    """95 % interval of `statistic` (default: the mean) of rows of `values` (n,) or (n, k), patients drawn with replacement.

    Draws where the statistic is not a number (an AUC without positives) are left out. ValueError without rows.
    """
    rows = np.asarray(values, dtype=np.float64)
    if len(rows) == 0 or len(rows) != len(patients):
        raise ValueError("an interval needs at least one row and one patient per row")
    measure = statistic or (lambda part: float(np.mean(part)))
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    members = [np.flatnonzero(index == number) for number in range(len(names))]
    rng = np.random.default_rng(_SEED)
    results = []
    for _ in range(draws):
        chosen = np.concatenate([members[number] for number in rng.integers(len(names), size=len(names))])
        results.append(measure(rows[chosen]))
    finite = np.array(results)[np.isfinite(results)]
    low, high = np.percentile(finite, (2.5, 97.5))
    return float(low), float(high)


def roc_auc(scored: NDArray[Any]) -> float:
    """Area under the ROC curve of rows (score, truth 0/1), ties counted half; nan when one class is missing."""
    score, truth = scored[:, 0], scored[:, 1] > 0
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def with_interval(values: Sequence[float] | NDArray[Any], patients: Sequence[Any], digits: int = 3) -> str:
    """Mean with its interval and the number of patients, as it is printed."""
    low, high = bootstrap_interval(values, patients)
    return (
        f"{np.mean(values):.{digits}f} (95 % {low:.{digits}f} to {high:.{digits}f}, n = {len(set(patients))} patients)"
    )
