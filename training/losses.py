"""Soft Dice plus cross-entropy for samples that do not all carry the same labels.

Where only some classes were outlined, the network's class probabilities are summed into the groups that were told apart
(Fang and Yan 2020, marginal loss for partial labels). Dice is pooled over the batch, so absent classes do no harm.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.datasets import IGNORE

_SMOOTH = 1.0
"""Pixels added to both sides of the Dice quotient: keeps a class absent from the batch from dividing by zero."""


def group_log_probabilities(log_probabilities: Tensor, groups: Tensor) -> Tensor:
    """Log probabilities (N, K, H, W) of classes summed into groups -> (N, G, H, W); `groups` (K,) is each class's group."""
    count = int(groups.max()) + 1
    return torch.stack([torch.logsumexp(log_probabilities[:, groups == group], dim=1) for group in range(count)], dim=1)


def grouped_dice_ce(
    logits: Tensor,
    target: Tensor,
    partial: Tensor,
    table: tuple[tuple[int, ...], ...],
    weight: Tensor | None = None,
    dice_share: float = 0.5,
) -> Tensor:
    """Loss (scalar) of logits (N, K, H, W) against class numbers (N, H, W); `partial` (N,) picks a row of `table`.

    `table` is `Recipe.grouping_table()`: group of every class, group 0 holding the background. Targets equal to IGNORE are
    left out. `weight` (N,) scales samples. ValueError when `partial` names a grouping that is not there.
    """
    if int(partial.max()) >= len(table) or int(partial.min()) < 0:
        raise ValueError(f"a sample uses grouping {int(partial.max())}, the recipe has {len(table)}")
    log_probabilities = functional.log_softmax(logits.float(), dim=1)
    if weight is None:
        weight = torch.ones(len(target), device=logits.device)
    total = logits.new_zeros((), dtype=torch.float32)
    for index, row in enumerate(table):
        chosen = partial == index
        if not bool(chosen.any()):
            continue
        groups = torch.tensor(row, device=logits.device)
        log_grouped = (
            log_probabilities[chosen] if index == 0 else group_log_probabilities(log_probabilities[chosen], groups)
        )
        labels = target[chosen]
        known = labels != IGNORE
        labels = groups[labels.clamp(min=0)]
        share = weight[chosen]
        picked = log_grouped.gather(1, labels[:, None])[:, 0]
        pixel_weight = known * share[:, None, None]
        cross_entropy = -(picked * pixel_weight).sum() / pixel_weight.sum().clamp(min=1.0)
        dice = _pooled_dice(log_grouped.exp(), labels, pixel_weight)
        fraction = share.sum() / weight.sum().clamp(min=1e-6)
        total = total + fraction * ((1 - dice_share) * cross_entropy + dice_share * (1 - dice))
    return total


def _pooled_dice(probabilities: Tensor, labels: Tensor, pixel_weight: Tensor) -> Tensor:
    """Mean over foreground groups of soft Dice, summed over the whole batch."""
    count = probabilities.shape[1]
    truth = functional.one_hot(labels, count).movedim(-1, 1) * pixel_weight[:, None]
    guess = probabilities * pixel_weight[:, None]
    overlap = (probabilities * truth).sum(dim=(0, 2, 3))[1:]
    size = (truth + guess).sum(dim=(0, 2, 3))[1:]
    return ((2 * overlap + _SMOOTH) / (size + _SMOOTH)).mean()
