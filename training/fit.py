"""The training loop: a recipe in, weights and a card out. Plain PyTorch, repeatable from its seed, resumable exactly.

A run lives in `<runs>/<recipe name>/`: `checkpoint.pt` (everything needed to go on), `best.safetensors`, `history.jsonl`.
Samples are drawn from a generator re-seeded with (seed, step), so a resumed run sees what an uninterrupted one would.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.networks import build
from models.runtime import choose_device
from models.weights import CARDS, WEIGHTS, Card, file_sha256, save_weights, write_card
from training.datasets import IGNORE, Sample
from training.losses import group_log_probabilities, grouped_dice_ce
from training.recipes import Recipe, dataset_module, recipe_sha256

_log = logging.getLogger(__name__)
Drawn = TypeVar("Drawn")
_EMA_CATCH_UP = 10.0
"""The average follows quickly at first: its decay at step n is at most (1 + n) / (10 + n)."""


class ResumeError(Exception):
    """A checkpoint that belongs to another recipe or is not there; the text says what to do."""


@dataclass(frozen=True)
class FitResult:
    """Where the best weights lie, their validation Dice (mean over classes and, by name, each class), and steps done."""

    weights: Path
    dice: float
    dice_by_class: dict[str, float]
    best_step: int
    steps: int
    finished: bool


@dataclass
class _State:
    """What changes during a run and is saved with it."""

    network: nn.Module
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    step: int = 0
    best_dice: float = -1.0
    best_step: int = 0
    best_by_class: dict[str, float] | None = None


Progress = Callable[[int, int, float], None]
"""Called after every step with step, steps and loss."""


def fit(
    recipe: Recipe,
    data: Path,
    runs: Path,
    *,
    device: str = "auto",
    threads: int = 1,
    resume: bool = False,
    stop_after: int | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Train the network of `recipe` on `data` and return its best weights.

    `resume` goes on from the checkpoint in `runs`; `stop_after` ends this call after so many steps in all (to go on later).
    Raises ResumeError, ConfigError, and whatever the dataset raises for missing data.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    where, _ = choose_device(device)
    folder = runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    state = _fresh_state(recipe, where)
    if resume:
        _restore(state, recipe, folder / "checkpoint.pt", where)
    settings = recipe.optimiser
    table = recipe.grouping_table()
    validation = list(dataset_module(recipe).build(recipe, "validation", np.random.default_rng(recipe.seed), data))
    until = min(settings.steps, stop_after or settings.steps)
    deadline = time.monotonic() + settings.minutes * 60 if settings.minutes else math.inf
    with (folder / "history.jsonl").open("a", encoding="utf-8") as history:
        for batch in _batches(recipe, data, state.step, until):
            loss = _train_step(state, batch, recipe, table, where)
            out_of_time = time.monotonic() > deadline
            if state.step % settings.validate_every == 0 or state.step == settings.steps or out_of_time:
                by_class = dice_by_class(state.average.module, validation, recipe, where)
                _keep_if_best(state, by_class, folder)
                history.write(json.dumps({"step": state.step, "loss": loss, "dice": by_class}) + "\n")
                history.flush()
                _save(state, recipe, folder / "checkpoint.pt")
                _log.info("step %d loss %.4f dice %s", state.step, loss, by_class)
            if progress is not None:
                progress(state.step, settings.steps, loss)
            if out_of_time:
                break
    _save(state, recipe, folder / "checkpoint.pt")
    if state.best_by_class is None:
        _keep_if_best(state, dice_by_class(state.average.module, validation, recipe, where), folder)
    return FitResult(
        weights=folder / "best.safetensors",
        dice=state.best_dice,
        dice_by_class=state.best_by_class or {},
        best_step=state.best_step,
        steps=state.step,
        finished=state.step >= settings.steps,
    )


def ship(recipe: Recipe, result: FitResult, command: str, *, cards: Path = CARDS, weights: Path = WEIGHTS) -> Card:
    """Copy the best weights of a run to where the program reads them and write the card; returns the card.

    Heads, constants and figures of an earlier card of that name are dropped: they belong to the earlier weights.
    """
    weights.mkdir(parents=True, exist_ok=True)
    cards.mkdir(parents=True, exist_ok=True)
    (weights / f"{recipe.name}.safetensors").write_bytes(result.weights.read_bytes())
    card = Card(
        name=recipe.name,
        network=recipe.network,
        input=recipe.input,
        classes=recipe.classes,
        sha256=file_sha256(result.weights),
        trained_on=recipe.trained_on,
        recipe=f"configs/training/{recipe.name}.toml sha256 {recipe_sha256(recipe)}",
        command=command,
        partner=recipe.partner,
        metrics={"choice_dice": result.dice_by_class, "steps": result.steps, "best_step": result.best_step},
    )
    write_card(card, cards)
    return card


def dry_run(recipe: Recipe, data: Path) -> tuple[float, tuple[int, ...]]:
    """One batch forward and backward on the CPU, nothing kept: its loss and the shape of its images."""
    torch.manual_seed(recipe.seed)
    state = _fresh_state(recipe, "cpu")
    batch = next(_batches(recipe, data, 0, 1))
    return _train_step(state, batch, recipe, recipe.grouping_table(), "cpu"), tuple(batch["image"].shape)


def collate(samples: list[Sample]) -> dict[str, Tensor]:
    """A batch: image (N, C, H, W) float32, target (N, H, W) int64, partial (N,) int64, weight (N,) float32."""
    return {
        "image": torch.from_numpy(np.stack([sample.image for sample in samples]).astype(np.float32)),
        "target": torch.from_numpy(np.stack([sample.target for sample in samples]).astype(np.int64)),
        "partial": torch.tensor([sample.partial for sample in samples], dtype=torch.int64),
        "weight": torch.tensor([sample.weight for sample in samples], dtype=torch.float32),
    }


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rate at a step counted from 0: linear warm-up, then a cosine down to zero at the last step."""
    settings = recipe.optimiser
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def dice_by_class(network: nn.Module, samples: list[Sample], recipe: Recipe, device: str = "cpu") -> dict[str, float]:
    """Dice of every group that the samples label, pooled over all pixels; "mean" is over those groups.

    A partially labelled group is named by its classes joined with "+". Inputs are padded to the network's multiple.
    """
    network.eval()
    overlap: dict[str, float] = {}
    size: dict[str, float] = {}
    table = recipe.grouping_table()
    with torch.inference_mode():
        for sample in samples:
            labels, known = _predict(network, sample, table, recipe.network.multiple, device)
            groups = np.array(table[sample.partial])
            truth = groups[np.maximum(sample.target, 0)]
            for group in range(1, int(groups.max()) + 1):
                name = "+".join(c for c, g in zip(recipe.classes, groups, strict=True) if g == group)
                name = name if sample.partial == 0 else f"{name} (partial)"
                guess_here, truth_here = (labels == group) & known, (truth == group) & known
                overlap[name] = overlap.get(name, 0.0) + float((guess_here & truth_here).sum())
                size[name] = size.get(name, 0.0) + float(guess_here.sum() + truth_here.sum())
    network.train()
    scores = {name: 2 * overlap[name] / size[name] for name in overlap if size[name] > 0}
    if scores:
        scores["mean"] = float(np.mean(list(scores.values())))
    return scores


def _predict(
    network: nn.Module, sample: Sample, table: tuple[tuple[int, ...], ...], multiple: int, device: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rows, columns = sample.target.shape
    padded = np.pad(sample.image, ((0, 0), (0, -rows % multiple), (0, -columns % multiple)), mode="edge")
    logits = network(torch.from_numpy(padded)[None].to(device)).float()
    log_probabilities = torch.log_softmax(logits, dim=1)
    groups = torch.tensor(table[sample.partial], device=log_probabilities.device)
    if sample.partial:
        log_probabilities = group_log_probabilities(log_probabilities, groups)
    labels = log_probabilities.argmax(dim=1)[0, :rows, :columns].cpu().numpy()
    return labels, sample.target != IGNORE


def _fresh_state(recipe: Recipe, device: str) -> _State:
    network = build(recipe.network)
    if recipe.start_from is not None:
        path = Path(recipe.start_from) / "best.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: the weights to start from are missing; fit that recipe first")
        weights = {key: value.float() for key, value in load_file(str(path)).items()}
        network.load_state_dict(widened(weights, network.state_dict()))
    network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.optimiser.ema_decay))
    settings = recipe.optimiser
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return _State(network=network, average=average, optimiser=optimiser)


def widened(weights: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network that saw slices alone, for one that sees three: the neighbours begin without influence."""
    result = dict(weights)
    for key, value in weights.items():
        if value.ndim == 4 and value.shape[1] == 1 and wanted[key].shape[1] == 3:
            result[key] = torch.zeros_like(wanted[key], device=value.device)
            result[key][:, 1] = value[:, 0]
    return result


def _batches(recipe: Recipe, data: Path, first: int, until: int) -> Iterator[dict[str, Tensor]]:
    """Batches number `first` .. `until` - 1."""
    rng = np.random.default_rng(recipe.seed)
    samples: Iterator[Sample] = dataset_module(recipe).build(recipe, "train", rng, data)

    def draw(step: int) -> dict[str, Tensor]:
        rng.bit_generator.state = np.random.default_rng([recipe.seed, step]).bit_generator.state
        return collate(list(islice(samples, recipe.optimiser.batch)))

    yield from drawn_ahead(draw, first, until)


def drawn_ahead(draw: Callable[[int], Drawn], first: int, until: int) -> Iterator[Drawn]:
    """What `draw` gives for `first` .. `until` - 1, the next one being drawn in a thread while the network works."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = pool.submit(draw, first) if first < until else None
        for step in range(first, until):
            assert upcoming is not None
            drawn = upcoming.result()
            upcoming = pool.submit(draw, step + 1) if step + 1 < until else None
            yield drawn


def _train_step(
    state: _State, batch: dict[str, Tensor], recipe: Recipe, table: tuple[tuple[int, ...], ...], device: str
) -> float:
    settings = recipe.optimiser
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(recipe, state.step)
    image = batch["image"].to(device, memory_format=torch.channels_last)
    kind = device.partition(":")[0]
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda" or settings.bfloat16):
        logits = state.network(image)
    loss = grouped_dice_ce(
        logits, batch["target"].to(device), batch["partial"].to(device), table, batch["weight"].to(device)
    )
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), settings.gradient_clip)
    state.optimiser.step()
    decay = min(settings.ema_decay, (1 + state.step) / (_EMA_CATCH_UP + state.step))
    state.average.multi_avg_fn = get_ema_multi_avg_fn(decay)
    state.average.update_parameters(state.network)
    state.step += 1
    return float(loss.detach())


def _keep_if_best(state: _State, by_class: dict[str, float], folder: Path) -> None:
    if by_class.get("mean", 0.0) > state.best_dice:
        state.best_dice = by_class.get("mean", 0.0)
        state.best_by_class = by_class
        state.best_step = state.step
        save_weights(state.average.module, folder / "best.safetensors")


def _save(state: _State, recipe: Recipe, path: Path) -> None:
    """Write the checkpoint beside the old one and swap, so that an interrupted write leaves the old one whole."""
    content = {
        "recipe_sha256": recipe_sha256(recipe),
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "best": [state.best_dice, state.best_step, state.best_by_class],
        "torch_rng": torch.get_rng_state(),
    }
    temporary = path.with_suffix(".new")
    torch.save(content, temporary)
    temporary.replace(path)


def _restore(state: _State, recipe: Recipe, path: Path, device: str) -> None:
    if not path.is_file():
        raise ResumeError(f"{path}: nothing to resume; start the run without --resume")
    content = torch.load(path, map_location=device, weights_only=True)
    if content["recipe_sha256"] != recipe_sha256(recipe):
        raise ResumeError(f"{path}: the checkpoint belongs to another recipe; restore that recipe or start anew")
    state.network.load_state_dict(content["network"])
    state.average.load_state_dict(content["average"])
    state.optimiser.load_state_dict(content["optimiser"])
    state.step = int(content["step"])
    state.best_dice, state.best_step, state.best_by_class = content["best"]
    torch.set_rng_state(content["torch_rng"].cpu())
