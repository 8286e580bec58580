"""Trains the mirror network on radiologists' notes: one pair of linear and residual scores for every fold of the patients.

Member k never sees fold k, so the figures of `training.evaluate_notes` come from the shipped weights themselves. Penalties are chosen
by cross-validation inside the training folds; nothing is chosen on a held-out fold. Numbers: configs/training/notes.toml.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from configs import config_path, load_toml
from inference.canal_pose import canal_pose
from models.calibration import LogisticHead
from models.intensity import InputSpec
from models.mirror import (
    SCORES,
    TRUNK_OUTPUTS,
    LinearScores,
    MirrorEnsemble,
    Trunk,
    cropped,
    presence_features,
    side_features,
)
from models.networks import NetworkSpec, build
from models.weights import CARDS, WEIGHTS, Card, load_card, save_weights, write_card
from training.datasets.notes import BULGE, HERNIATION, NONE, UNLABELLED, Noted, cached_maps, folds_of, noted_levels
from training.intervals import roc_auc

_log = logging.getLogger(__name__)
INNER_FOLDS = 4
_SIDED_WEIGHT = 0.25
"""Levels whose weight in the loss of the side is at least this are drawn as sided ones."""
_NEWTON_STEPS = 15


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


def fit_notes(
    data_folder: Path,
    runs: Path,
    *,
    threads: int = 1,
    device: str = "auto",
    progress: Callable[[int, int, float], None] | None = None,
) -> MirrorEnsemble:
    """Train all members, each on the patients outside its fold. A member that is found complete in `runs` is taken from there."""
    recipe = notes_recipe()
    torch.set_num_threads(threads)
    folder = data_folder / "axial"
    levels = noted_levels(folder)
    data = taught(levels, cached_maps(levels, folder, runs / recipe.name, device), recipe)
    fold = folds_of(levels, recipe.folds, recipe.seed)
    ensemble = build(recipe.network)
    assert isinstance(ensemble, MirrorEnsemble)
    for number in range(recipe.folds):
        path = runs / recipe.name / f"member-{number}.safetensors"
        member = ensemble.member(number)
        if path.is_file():
            member.load_state_dict(load_file(str(path)))
            continue
        start = time.monotonic()
        train = np.flatnonzero(fold != number)
        member.linear.load_state_dict(fit_linear(data, levels, train, recipe, recipe.seed + number).state_dict())

        def show(step: int, loss: float, number: int = number) -> None:
            if progress is not None:
                progress(number * recipe.optimiser.steps + step, recipe.folds * recipe.optimiser.steps, loss)

        member.trunk.load_state_dict(fit_trunk(data, train, recipe, number, show).state_dict())
        save_file(member.state_dict(), str(path))
        _log.info("member %d in %.0f s", number, time.monotonic() - start)
    return ensemble.eval()


def ship_notes(
    ensemble: MirrorEnsemble, data_folder: Path, runs: Path, *, cards: Path = CARDS, weights: Path = WEIGHTS
) -> Card:
    """Install the weights and write the card: the band of the side, and heads fitted on held-out scores."""
    from training.evaluate_notes import FITTED_ON, figures_of, held_out_scores

    recipe = notes_recipe()
    digest = save_weights(ensemble, weights / f"{recipe.name}.safetensors")
    card = Card(
        name=recipe.name,
        network=recipe.network,
        input=InputSpec(spacing_mm=canal_pose().maps.step_mm),
        classes=SCORES,
        sha256=digest,
        trained_on=recipe.trained_on,
        recipe="configs/training/notes.toml",
        command="recess-train fit notes --threads 1 --ship",
        metrics={"reads": {"axial": load_card("axial", CARDS).sha256}},
    )
    write_card(card, cards)
    scored = held_out_scores(data_folder, runs, cards=cards, weights=weights)
    heads = {"herniation": scored.herniation_head(), "side": scored.side_head()}
    card = card.model_copy(
        update={
            "heads": heads,
            "constants": {"side_band": scored.band},
            "calibrated_on": FITTED_ON,
            "metrics": {
                **card.metrics,
                "cross_validated": {
                    "command": "recess-train evaluate notes",
                    "figures": figures_of(scored, data_folder),
                },
            },
        }
    )
    write_card(card, cards)
    return card


def side_head(scores: NDArray[np.float64], left: NDArray[np.bool_], fitted_on: str) -> LogisticHead:
    """Probability of "left" from the side score, without an intercept: a score of zero is even odds."""
    both = np.concatenate([scores, -scores])[:, None]
    truth = np.concatenate([left, ~left]).astype(np.float64)
    weights, _ = logistic_weights(both, truth, 0.01, intercept=False)
    return LogisticHead(
        features=("side",), mean=(0.0,), scale=(1.0,), weights=(float(weights[0]),), intercept=0.0, fitted_on=fitted_on
    )


def main() -> None:
    """`python -m training.fit_notes DATA [--runs runs] [--threads 1] [--ship]`."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ship", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    ensemble = fit_notes(given.data, given.runs, threads=given.threads)
    if given.ship:
        ship_notes(ensemble, given.data, given.runs)


if __name__ == "__main__":
    main()
