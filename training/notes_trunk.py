"""The residual part of the mirror network: chance changes of its maps, its loss on what notes say, and its loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inference.canal_pose import canal_pose
from models.mirror import TRUNK_OUTPUTS, Trunk, cropped
from training.datasets.notes import BULGE, HERNIATION, NONE, UNLABELLED
from training.notes_recipe import MapAugmentation, NotesRecipe, Taught

_SIDED_WEIGHT = 0.25
"""Levels whose weight in the loss of the side is at least this are drawn as sided ones."""


def augmented(maps: Tensor, plan: MapAugmentation, rng: np.random.Generator) -> Tensor:
    """Cuts (N, C, 28, 40) of maps (N, C, 32, 48), turned, scaled, shifted, with other grey values, maps and patches missing.

    Nothing here mirrors: the network itself sees both ways.
    """
    count, channels, rows, columns = maps.shape
    blank = cropped(maps)
    height, width = blank.shape[-2:]

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32))

    step = canal_pose().maps.step_mm
    turn = draw(count) * math.radians(plan.rotation_deg)
    scale, stretch = torch.exp(draw(count) * plan.scale), torch.exp(draw(count) * plan.stretch)
    cosine, sine = torch.cos(turn) * scale, torch.sin(turn) * scale
    affine = torch.stack(
        [
            torch.stack(
                [
                    cosine * stretch * width / columns,
                    -sine * height / columns,
                    _shift(draw(count), plan, step, columns),
                ],
                1,
            ),
            torch.stack(
                [sine * width / rows, cosine / stretch * height / rows, _shift(draw(count), plan, step, rows)], 1
            ),
        ],
        dim=1,
    )
    grid = functional.affine_grid(affine, [count, channels, height, width], align_corners=False)
    result = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    image = result[:, :1].clamp(0, 1.5) ** torch.exp(draw(count, 1, 1, 1) * plan.gamma)
    image = image * (1 + draw(count, 1, 1, 1) * plan.gain) + draw(count, 1, 1, 1) * plan.offset
    slope = torch.linspace(-1, 1, width)[None, None, None] * draw(count, 1, 1, 1)
    slope = slope + torch.linspace(-1, 1, height)[None, None, :, None] * draw(count, 1, 1, 1)
    noise = torch.from_numpy(rng.normal(0, plan.noise, image.shape).astype(np.float32)) * draw(count, 1, 1, 1).abs()
    result = torch.cat([image * torch.exp(slope * plan.shading) + noise, result[:, 1:]], dim=1)
    result = result * (draw(count, channels, 1, 1).abs() >= plan.map_dropped)
    for number in np.flatnonzero(rng.random(count) < plan.cut_out):
        row, column = int(rng.integers(height - 4)), int(rng.integers(width - 8))
        result[number, :, row : row + 5, column : column + 7] = 0
    return result


def _shift(draw: Tensor, plan: MapAugmentation, step: float, size: int) -> Tensor:
    return draw * (plan.shift_mm / step) * 2 / size


def trunk_loss(
    straight: Tensor, mirrored: Tensor, data: Taught, rows: NDArray[np.int64], recipe: NotesRecipe
) -> Tensor:
    """Loss (scalar) of the trunk's outputs for pictures and for their mirror images; labels that a note does not give take no part."""
    at = {name: number for number, name in enumerate(TRUNK_OUTPUTS)}
    level = (straight + mirrored) / 2
    weight = data.tensor(data.side_weight, rows)
    entropy = functional.binary_cross_entropy_with_logits
    side = entropy(
        straight[:, at["here"]] - mirrored[:, at["here"]], data.tensor(data.side_target, rows), reduction="none"
    )
    loss = (side * weight).sum() / weight.sum().clamp(min=1)
    kinds = torch.from_numpy(data.kinds[rows])
    known = kinds != UNLABELLED
    by_kind = level[:, at["none"] : at["herniation"] + 1]
    loss = loss + functional.cross_entropy(by_kind[known], kinds[known])
    if bool((~known).any()):
        free = torch.logsumexp(functional.log_softmax(by_kind[~known], dim=1)[:, :HERNIATION], dim=1)
        loss = loss - recipe.labels.unmentioned * free.mean()
    extra = torch.zeros(())
    for name, labels in (("root", data.root), ("foramen", data.foramen)):
        left, right, anywhere = data.tensor(labels, rows).unbind(1)
        told = ((left + right > 0) | ((anywhere == 0) & known)).float()
        here = entropy(straight[:, at[f"{name}_here"]], left, reduction="none")
        there = entropy(mirrored[:, at[f"{name}_here"]], right, reduction="none")
        extra = extra + ((here + there) * told).mean() / 2 + entropy(level[known, at[name]], anywhere[known])
    extra = extra + entropy(level[known, at["sac"]], data.tensor(data.sac, rows)[known])
    return loss + recipe.labels.auxiliary * extra / 3


def fit_trunk(
    data: Taught,
    train: NDArray[np.int64],
    recipe: NotesRecipe,
    seed: int,
    progress: Callable[[int, float], None] | None,
) -> Trunk:
    """The residual part of one member: bfloat16 autocast on the CPU, averaged weights, the last step taken."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([recipe.seed, seed])
    plan = recipe.optimiser
    trunk = Trunk(recipe.network.in_channels, recipe.network.channels, recipe.network.dropout).train()
    average = AveragedModel(trunk, multi_avg_fn=get_ema_multi_avg_fn(plan.ema_decay))
    optimiser = torch.optim.AdamW(trunk.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    sided = (data.side_weight[train] >= _SIDED_WEIGHT) & (data.side_target[train] != 0.5)
    kinds = data.kinds[train]
    pools = [train[sided], *(train[kinds == kind] for kind in (HERNIATION, BULGE, NONE)), train]
    for step in range(plan.steps):
        warm = min(1.0, (step + 1) / plan.warmup_steps)
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / plan.steps))
        drawn = rng.choice(len(pools), plan.batch, p=recipe.labels.draws)
        rows = np.array([rng.choice(pools[number]) for number in drawn])
        cut = augmented(data.maps[rows], recipe.augmentation, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            straight, mirrored = trunk.both_ways(cut)
        loss = trunk_loss(straight, mirrored, data, rows, recipe)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trunk.parameters(), plan.gradient_clip)
        optimiser.step()
        average.update_parameters(trunk)
        if progress is not None:
            progress(step + 1, float(loss.detach()))
    result = average.module
    assert isinstance(result, Trunk)
    return result.eval()
