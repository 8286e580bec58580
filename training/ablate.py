"""What each ingredient of the axial network is worth: the same small budget with one ingredient switched, on real test slices.

Nothing is chosen on a real slice: the averaged weights of the last step are measured. Plan: configs/training/ablate_axial.toml.
A variant that is finished is not run again; its result lies as JSON in the run folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file

from configs import config_path, load_toml
from models.networks import build
from models.runtime import Segmenter
from models.weights import Card
from training.datasets.axial import Settings, load_outlines
from training.datasets.axial_crops import render_crops
from training.evaluate_axial import score
from training.fit import fit
from training.intervals import bootstrap_interval
from training.recipes import Optimiser, Recipe, load_recipe, recipe_sha256
from training.self_training import label_slices

_STRUCTURES = ("disc", "sac")

Result = dict[str, Any]
"""One finished variant: name, title, seed, steps, hash of its recipe, and the Dice of every test slice."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(_Part):
    """What is switched: entries of the recipe's [data] that are replaced."""

    title: str
    data: dict[str, Any] = Field(default_factory=dict)


class SelfTraining(_Part):
    teacher: str
    slices: int = Field(gt=0)
    least_probability: float = Field(gt=0, lt=1)


class Ablation(_Part):
    """The plan: which recipe, the budget of each run, seeds, simulated persons, and what is switched."""

    name: str
    recipe: str
    seeds: tuple[int, ...]
    people: int = Field(gt=0)
    optimiser: Optimiser
    self_training: SelfTraining
    variants: dict[str, Variant]


def axial_plan(steps: int | None = None) -> Ablation:
    """The shipped plan, or the same with another number of steps."""
    plan = load_toml(config_path("training", "ablate_axial.toml"), Ablation)
    if steps is None:
        return plan
    optimiser = plan.optimiser.model_copy(update={"steps": steps, "validate_every": steps})
    return plan.model_copy(update={"optimiser": optimiser})


def variant_recipe(plan: Ablation, name: str, seed: int, folder: Path) -> Recipe:
    """The recipe of one variant and seed, with simulated crops and self-taught slices in `folder`."""
    recipe = load_recipe(plan.recipe)
    switched = plan.variants[name].data
    data = {**recipe.data, "crops": str(folder / "crops"), "validation_crops": 0, **switched}
    if switched.get("unlabelled_share"):
        data["unlabelled"] = str(taught_file(plan, seed, folder))
    return recipe.model_copy(update={"name": f"{name}-{seed}", "seed": seed, "optimiser": plan.optimiser, "data": data})


def taught_file(plan: Ablation, seed: int, folder: Path) -> Path:
    """Where the slices lie that the teacher with this seed labelled."""
    return folder / f"{plan.self_training.teacher}-{seed}" / "self_taught.npz"


def ablate_axial(
    plan: Ablation,
    data: Path,
    runs: Path,
    *,
    threads: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Result]:
    """Train and measure what is not finished in `runs`; returns the results of all variants and seeds."""
    folder = runs / plan.name
    render_crops(folder / "crops", "train", plan.people)
    return [
        _measured(plan, name, seed, data, folder, threads, progress) for seed in plan.seeds for name in plan.variants
    ]


def _measured(
    plan: Ablation,
    name: str,
    seed: int,
    data: Path,
    folder: Path,
    threads: int,
    progress: Callable[[str, int, int], None] | None,
) -> Result:
    recipe = variant_recipe(plan, name, seed, folder)
    path = folder / f"{recipe.name}.json"
    if path.is_file():
        kept: Result = json.loads(path.read_text(encoding="utf-8"))
        if kept["recipe_sha256"] == recipe_sha256(recipe):
            return kept
    if recipe.data.get("unlabelled") and not taught_file(plan, seed, folder).is_file():
        teacher = variant_recipe(plan, plan.self_training.teacher, seed, folder)
        settings = plan.self_training
        label_slices(
            trained(teacher, folder), data, settings.slices, settings.least_probability, taught_file(plan, seed, folder)
        )

    def show(step: int, steps: int, loss: float) -> None:
        if progress is not None:
            progress(recipe.name, step, steps)

    fit(recipe, data, folder, device="cpu", threads=threads, progress=show)
    slices = [item for item in load_outlines(data, Settings()) if item.split == "test"]
    result: Result = {
        "variant": name,
        "title": plan.variants[name].title,
        "seed": seed,
        "steps": recipe.optimiser.steps,
        "recipe_sha256": recipe_sha256(recipe),
        "slices": [
            {
                "name": entry.item.name,
                "patient": entry.item.patient,
                "weighting": entry.item.weighting,
                "quality": entry.item.quality,
                "body_level": entry.item.body_level,
                "disc": entry.disc_dice,
                "sac": entry.sac_dice,
            }
            for entry in score(trained(recipe, folder), slices)
        ],
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def trained(recipe: Recipe, folder: Path) -> Segmenter:
    """The network that a run of `recipe` in `folder` left, on the CPU. FileNotFoundError when there is none."""
    path = folder / recipe.name / "best.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no weights of that run; fit it first")
    network = build(recipe.network)
    network.load_state_dict({key: value.float() for key, value in load_file(str(path)).items()})
    card = Card(
        name=recipe.name,
        network=recipe.network,
        input=recipe.input,
        classes=recipe.classes,
        trained_on=recipe.trained_on,
        recipe=recipe.name,
        command="recess-train ablate axial",
    )
    return Segmenter.of(card, network, "cpu")


def told(result: Result) -> list[Mapping[str, Any]]:
    """The slices that are counted: T1 of quality good and fair, as in the card's first figure."""
    return [item for item in result["slices"] if item["weighting"] == "t1" and item["quality"] != "poor"]


def figures(results: Sequence[Result], variant: str, structure: str) -> tuple[float, float, float, list[float]]:
    """Dice of a structure: mean over slices and seeds, its 95 % interval over patients, and the mean of each seed."""
    per_slice, patients = _per_slice(results, variant, structure)
    low, high = bootstrap_interval(per_slice.mean(axis=0), patients)
    return float(per_slice.mean()), low, high, per_slice.mean(axis=1).tolist()


def difference(results: Sequence[Result], variant: str, base: str, structure: str) -> tuple[float, float, float]:
    """Dice of `variant` minus that of `base` on the same slices, with its 95 % interval over patients."""
    (ours, patients), (theirs, _) = (_per_slice(results, name, structure) for name in (variant, base))
    apart = ours.mean(axis=0) - theirs.mean(axis=0)
    low, high = bootstrap_interval(apart, patients)
    return float(apart.mean()), low, high


def _per_slice(results: Sequence[Result], variant: str, structure: str) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Dice (seeds, slices) of one variant, and whose the slices are."""
    mine = [told(item) for item in results if item["variant"] == variant]
    values = np.array([[entry[structure] for entry in part] for part in mine], dtype=np.float64)
    return values, [entry["patient"] for entry in mine[0]]


def lines_of(results: Sequence[Result]) -> list[str]:
    """What the command prints: Dice of disc and sac of every variant, and how far it is from the first one."""
    names = list(dict.fromkeys(item["variant"] for item in results))
    seeds = sorted({item["seed"] for item in results})
    count = len(told(results[0]))
    lines = [
        f"axial, {results[0]['steps']} steps, seeds {', '.join(map(str, seeds))}; {count} T1 slices of quality good and fair, "
        "test split; Dice (95 % over patients), [each seed], difference on the same slices"
    ]
    for name in names:
        title = next(item["title"] for item in results if item["variant"] == name)
        parts = []
        for structure in _STRUCTURES:
            mean, low, high, each = figures(results, name, structure)
            part = f"{structure} {mean:.3f} ({low:.3f} to {high:.3f}) [{', '.join(f'{value:.3f}' for value in each)}]"
            if name != names[0]:
                apart, least, most = difference(results, name, names[0], structure)
                part += f", {apart:+.3f} ({least:+.3f} to {most:+.3f})"
            parts.append(part)
        lines.append(f"{title}: " + "; ".join(parts))
    return lines
