"""The linear part of the mirror network: penalised logistic regressions, each penalty chosen inside the training folds."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import LogisticHead
from models.mirror import LinearScores, presence_features, side_features
from training.datasets.notes import BULGE, HERNIATION, NONE, Noted, folds_of
from training.intervals import roc_auc
from training.notes_recipe import NotesRecipe, Taught

_log = logging.getLogger(__name__)
INNER_FOLDS = 4
_NEWTON_STEPS = 15


def logistic_weights(
    features: NDArray[np.float64], truth: NDArray[np.float64], penalty: float, *, intercept: bool
) -> tuple[NDArray[np.float64], float]:
    """L2-penalised logistic regression with few rows and many features, by Newton steps on the dual: weights (F,), intercept.

    `penalty` is in units of the mean squared length of the rows.
    """
    centre = features.mean(axis=0) if intercept else np.zeros(features.shape[1])
    centred = features - centre
    gram = centred @ centred.T
    ridge = penalty * float(np.diag(gram).mean())
    dual, offset = np.zeros(len(truth)), 0.0
    for _ in range(_NEWTON_STEPS):
        score = np.clip(gram @ dual + offset, -30, 30)
        chance = 1 / (1 + np.exp(-score))
        curvature = np.maximum(chance * (1 - chance), 1e-3)
        working = score + (truth - chance) / curvature
        system = gram + ridge * np.diag(1 / curvature)
        ones, plain = np.linalg.solve(system, np.stack([np.ones(len(truth)), working], axis=1)).T
        offset = float(plain.sum() / ones.sum()) if intercept else 0.0
        new = plain - offset * ones
        done = float(np.abs(new - dual).max()) < 1e-6 * max(float(np.abs(new).max()), 1e-12)
        dual = new
        if done:
            break
    weights = centred.T @ dual
    return weights, offset - float(centre @ weights)


def fit_linear(
    data: Taught, levels: Sequence[Noted], train: NDArray[np.int64], recipe: NotesRecipe, inner_seed: int
) -> LinearScores:
    """The linear scores of one member, each with the penalty of the highest AUC in folds inside `train`."""
    linear = LinearScores(recipe.network.in_channels, *data.maps.shape[-2:])
    sides = side_features(data.maps).numpy().astype(np.float64)
    presence = presence_features(data.maps).numpy().astype(np.float64)
    inner = folds_of([levels[row] for row in train], INNER_FOLDS, inner_seed)
    sided = data.side[train] != 0
    weights = [
        chosen_weights(
            sides,
            train[sided],
            data.side[train][sided] > 0,
            inner[sided],
            recipe.linear.side_penalties,
            intercept=False,
        )
    ]
    for other in (NONE, BULGE):
        used = np.isin(data.kinds[train], (other, HERNIATION))
        truth = data.kinds[train][used] == HERNIATION
        weights.append(
            chosen_weights(presence, train[used], truth, inner[used], recipe.linear.presence_penalties, intercept=True)
        )
    with torch.no_grad():
        linear.side.weight.copy_(torch.from_numpy(weights[0][0])[None])
        linear.presence.weight.copy_(torch.from_numpy(np.stack([weights[1][0], weights[2][0]])))
        linear.presence.bias.copy_(torch.tensor([weights[1][1], weights[2][1]]))
    return linear.eval()


def chosen_weights(
    features: NDArray[np.float64],
    rows: NDArray[np.int64],
    truth: NDArray[np.bool_],
    inner: NDArray[np.int64],
    penalties: Sequence[float],
    *,
    intercept: bool,
) -> tuple[NDArray[np.float64], float]:
    """Weights fitted on all `rows` with the penalty that ranks best when each inner fold is predicted by the others."""
    target = truth.astype(np.float64)
    best = (-1.0, penalties[0])
    for penalty in penalties:
        score = np.zeros(len(rows))
        for fold in np.unique(inner):
            held = inner == fold
            weights, offset = logistic_weights(features[rows[~held]], target[~held], penalty, intercept=intercept)
            score[held] = features[rows[held]] @ weights + offset
        auc = roc_auc(np.stack([score, target], axis=1))
        best = max(best, (auc, penalty))
    _log.info("penalty %.2f, AUC inside the training folds %.3f", best[1], best[0])
    return logistic_weights(features[rows], target, best[1], intercept=intercept)


def side_head(scores: NDArray[np.float64], left: NDArray[np.bool_], fitted_on: str) -> LogisticHead:
    """Probability of "left" from the side score, without an intercept: a score of zero is even odds."""
    both = np.concatenate([scores, -scores])[:, None]
    truth = np.concatenate([left, ~left]).astype(np.float64)
    weights, _ = logistic_weights(both, truth, 0.01, intercept=False)
    return LogisticHead(
        features=("side",), mean=(0.0,), scale=(1.0,), weights=(float(weights[0]),), intercept=0.0, fitted_on=fitted_on
    )
