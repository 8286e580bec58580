"""Trains the recess-depth network on simulated stacks: three slices in, a distribution over depths per side out.

Scale is never changed by augmentation (the answer is in mm); mirroring swaps the two depths. Loss: cross-entropy against the two
bins around the true depth, and the distance of the expected depth from it. Numbers: configs/training/axial_recess.toml.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import ndimage
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from configs import config_path, load_toml
from inference.recess_depth import BEHIND_MARGIN_MM, BIN_MM, SIZE, bin_depths, chosen_slices, network_input, regions
from models.intensity import InputSpec, normalise
from models.networks import NetworkSpec, build
from models.weights import CARDS, WEIGHTS, Card, file_sha256, save_weights, write_card
from training.datasets.axial import Augmentation, degraded
from training.datasets.axial_crops import PIXEL_MM, Crops, Split, load_crops
from training.fit import drawn_ahead
from training.recipes import Optimiser

_log = logging.getLogger(__name__)
_ALONE_SHARE = 0.08
"""Samples in which a neighbouring slice is missing, as at the end of a stack."""
_OFFSET_ERROR_MM = 1.0
"""The disc's place along its normal is known no better than this (one standard deviation)."""
_EXPECTATION_WEIGHT = 0.35


class RecessRecipe(BaseModel):
    """Everything that decides a training run of the recess network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    seed: int
    trained_on: str
    largest_mm: float
    crops_splits: tuple[Split, ...] = Field(min_length=1)
    """Three slices around the recess of each disc, or whole stacks."""
    partner: str | None = None
    """Recipe of the network that the card names as this one's partner (models/weights.py)."""
    network: NetworkSpec
    input: InputSpec
    optimiser: Optimiser
    augmentation: Augmentation

    @model_validator(mode="after")
    def _millimetres_stay(self) -> RecessRecipe:
        if self.augmentation.scale != (1.0, 1.0) or self.augmentation.stretch:
            raise ValueError("augmentation must not change the scale: the answer is in mm")
        if abs(BIN_MM * (self.network.out_channels - 1) - self.largest_mm) > 1e-6:
            raise ValueError("the bins must end at largest_mm")
        return self


def recess_recipe(name: str = "axial_recess") -> RecessRecipe:
    """A shipped recipe. ConfigError when there is none of that name, or it does not fit."""
    return load_toml(config_path("training", f"{name}.toml"), RecessRecipe)


def stacks_of(crops: Crops) -> list[NDArray[np.int64]]:
    """Members of every stack, from the feet to the head."""
    order = np.lexsort((crops.offsets, crops.stacks))
    return [np.asarray(part) for part in np.split(order, np.flatnonzero(np.diff(crops.stacks[order])) + 1)]


def stack_sample(
    crops: Crops, members: NDArray[np.int64], recipe: RecessRecipe, rng: np.random.Generator | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Channels (7, SIZE, SIZE) and depths (2,) left and right in mm of one stack; `rng` None leaves everything as it is."""
    plan = recipe.augmentation
    error = float(rng.normal(0, _OFFSET_ERROR_MM)) if rng else 0.0
    offsets = crops.offsets[members] + error
    picked = list(chosen_slices(offsets.tolist()))
    if rng is not None and rng.random() < _ALONE_SHARE:
        picked[int(rng.choice([0, 2]))] = picked[1]
    angle = float(np.radians(rng.uniform(-1, 1) * plan.rotation_deg)) if rng else 0.0
    shift = rng.uniform(-plan.shift_mm, plan.shift_mm, 2) if rng else np.zeros(2)
    mirrored = bool(rng is not None and rng.random() < 0.5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    grid = np.mgrid[:SIZE, :SIZE].astype(np.float64) - (SIZE - 1) / 2
    if mirrored:
        grid[1] = -grid[1]
    place = np.einsum("ij,jrc->irc", turn * (recipe.input.spacing_mm / PIXEL_MM), grid)
    pictures = []
    for k in picked:
        centre = crops.anchors[members[k]] + (np.array([BEHIND_MARGIN_MM, 0.0]) + shift) / PIXEL_MM
        position = place + centre[:, None, None]
        picture = ndimage.map_coordinates(
            crops.images[members[k]].astype(np.float32), list(position), order=1, mode="nearest"
        )
        pictures.append(normalise(picture, recipe.input))
    if rng is not None:
        changed = degraded(np.stack(pictures), recipe.input.spacing_mm, plan, rng)
        # a slice that stands for a missing neighbour is the same picture, noise and all
        pictures = [changed[picked.index(k)] for k in picked]
    depths = crops.truth[members[0], :2].astype(np.float32)
    depths = depths[::-1] if mirrored else depths
    return network_input(pictures, offsets[picked].tolist(), recipe.input), np.ascontiguousarray(depths)


def two_bins(depths: Tensor, count: int) -> Tensor:
    """Shares (..., count) on the two bins around each depth (...), so that their expectation is the depth."""
    place = (depths / BIN_MM).clamp(0, count - 1)
    low = place.floor().long().clamp(max=count - 2)
    high_share = (place - low).unsqueeze(-1)
    shares = torch.zeros(*depths.shape, count)
    shares.scatter_(-1, low.unsqueeze(-1), 1 - high_share)
    return shares.scatter_add_(-1, low.unsqueeze(-1) + 1, high_share)


def side_logits(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean logits (N, 2, bins) over each side's region of pixel-wise ones (N, bins, H, W); masks (2, H, W) float."""
    return torch.einsum("nkhw,shw->nsk", logits, masks) / masks.sum(dim=(1, 2))[None, :, None]


def loss_of(logits: Tensor, depths: Tensor, masks: Tensor) -> Tensor:
    """Training loss (scalar) of pixel-wise logits against depths (N, 2) in mm."""
    pooled = side_logits(logits.float(), masks)
    log_shares = torch.log_softmax(pooled, dim=-1)
    count = log_shares.shape[-1]
    cross_entropy = -(two_bins(depths, count) * log_shares).sum(-1).mean()
    expected = (log_shares.exp() * torch.from_numpy(bin_depths(count)).float()).sum(-1)
    distance = nn.functional.smooth_l1_loss(expected, depths.clamp(max=BIN_MM * (count - 1)), beta=0.5)
    return cross_entropy + _EXPECTATION_WEIGHT * distance


def predict(network: nn.Module, inputs: NDArray[np.float32], masks: Tensor) -> NDArray[np.float64]:
    """Expected depths (N, 2) in mm, averaged over windows and their mirror images."""
    network.eval()
    means = []
    with torch.inference_mode():
        for start in range(0, len(inputs), 32):
            part = torch.from_numpy(inputs[start : start + 32])
            both = []
            for turned in (False, True):
                image = part.clone()
                if turned:
                    image[:, :6] = image[:, :6].flip(-1)
                shares = torch.softmax(side_logits(network(image).float(), masks), dim=-1)
                expected = shares @ torch.from_numpy(bin_depths(shares.shape[-1])).float()
                both.append(expected.flip(-1) if turned else expected)
            means.append(((both[0] + both[1]) / 2).numpy())
    network.train()
    return np.concatenate(means).astype(np.float64)


def _batches(crops: Crops, recipe: RecessRecipe) -> Iterator[tuple[Tensor, Tensor]]:
    stacks = stacks_of(crops)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([recipe.seed, step])
        samples = [
            stack_sample(crops, stacks[int(rng.integers(len(stacks)))], recipe, rng)
            for _ in range(recipe.optimiser.batch)
        ]
        return torch.from_numpy(np.stack([s[0] for s in samples])), torch.from_numpy(np.stack([s[1] for s in samples]))

    yield from drawn_ahead(draw, 0, recipe.optimiser.steps)


def fit_recess(
    recipe: RecessRecipe, crops_folder: Path, runs: Path, *, threads: int = 1, minutes: float | None = None
) -> Path:
    """Train, keep the weights with the least validation error, and return their file."""
    settings = recipe.optimiser
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    folder = runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    validation_crops = load_crops(crops_folder, "validation")
    validation = [stack_sample(validation_crops, members, recipe, None) for members in stacks_of(validation_crops)]
    inputs, truth = np.stack([s[0] for s in validation]), np.stack([s[1] for s in validation])
    masks = torch.from_numpy(regions(recipe.input.spacing_mm)).float()
    network = build(recipe.network).train()
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay))
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    start, best, path = time.monotonic(), math.inf, folder / "best.safetensors"
    total = settings.steps
    for step, (images, depths) in enumerate(_batches(load_crops(crops_folder, *recipe.crops_splits), recipe)):
        spent = (time.monotonic() - start) / (60 * minutes) if minutes else 0.0
        share = max(spent, step / total)
        warm = min(1.0, (step + 1) / settings.warmup_steps)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bfloat16):
            logits = network(images.to(memory_format=torch.channels_last))
        loss = loss_of(logits, depths, masks)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimiser.step()
        average.multi_avg_fn = get_ema_multi_avg_fn(min(settings.ema_decay, (1 + step) / (10 + step)))
        average.update_parameters(network)
        last = share >= 1 or step + 1 == total
        if (step + 1) % settings.validate_every == 0 or last:
            error = predict(average.module, inputs, masks) - truth
            mean = float(np.abs(error).mean())
            _log.info(
                "step %d loss %.3f validation mean abs error %.3f mm bias %+.3f",
                step + 1,
                float(loss.detach()),
                mean,
                error.mean(),
            )
            with (folder / "history.jsonl").open("a", encoding="utf-8") as history:
                history.write(json.dumps({"step": step + 1, "loss": float(loss.detach()), "error_mm": mean}) + "\n")
            if mean < best:
                best = mean
                save_weights(average.module, path)
        if last:
            break
    return path


def ship_recess(
    recipe: RecessRecipe, weights_file: Path, command: str, *, cards: Path = CARDS, weights: Path = WEIGHTS
) -> Card:
    """Install the weights of a run and write their card; fits of earlier weights are dropped."""
    (weights / f"{recipe.name}.safetensors").write_bytes(weights_file.read_bytes())
    card = Card(
        name=recipe.name,
        network=recipe.network,
        input=recipe.input,
        classes=tuple(f"{depth:g} mm" for depth in bin_depths(recipe.network.out_channels)),
        sha256=file_sha256(weights_file),
        trained_on=recipe.trained_on,
        recipe=f"configs/training/{recipe.name}.toml",
        command=command,
        partner=recipe.partner,
    )
    write_card(card, cards)
    return card


def main() -> None:
    """`python -m training.fit_recess CROPS [--recipe axial_recess] [--runs runs] [--minutes 30] [--threads 1] [--ship]`."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--recipe", default="axial_recess")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ship", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = recess_recipe(given.recipe)
    path = fit_recess(recipe, given.crops, given.runs, threads=given.threads, minutes=given.minutes)
    if given.ship:
        command = f"python -m training.fit_recess {given.crops} --recipe {recipe.name}"
        command += f" --minutes {given.minutes:g}" if given.minutes else ""
        ship_recess(recipe, path, f"{command} --threads {given.threads} --ship")


if __name__ == "__main__":
    main()
