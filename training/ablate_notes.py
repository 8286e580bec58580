"""What the axial network's maps are worth to the network that notes teach: its residual part on some of its channels.

Cross-validated by patient with the folds and the loss of the shipped recipe, at a small equal budget. Plan:
configs/training/ablate_notes.toml. A variant that is finished is not run again; its result lies as JSON in the run folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from configs import config_path, load_toml
from models.mirror import cropped, trunk_scores
from training.datasets.notes import HERNIATION, NONE, cached_maps, folds_of, noted_levels
from training.intervals import bootstrap_interval, roc_auc
from training.notes_recipe import Taught, notes_recipe, taught
from training.notes_trunk import fit_trunk

Result = dict[str, Any]
"""One finished variant: name, title, steps, hash of plan and recipe, and rows (patient, kind, side, scores) of every level."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Channels(_Part):
    title: str
    channels: tuple[int, ...]


class NotesAblation(_Part):
    """The plan: steps of each member, and the channels that each variant sees."""

    name: str
    steps: int = Field(gt=0)
    variants: dict[str, Channels]


def notes_plan(steps: int | None = None) -> NotesAblation:
    """The shipped plan, or the same with another number of steps."""
    plan = load_toml(config_path("training", "ablate_notes.toml"), NotesAblation)
    return plan if steps is None else plan.model_copy(update={"steps": steps})


def ablate_notes(
    plan: NotesAblation,
    data_folder: Path,
    runs: Path,
    *,
    threads: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Result]:
    """Train and measure what is not finished in `runs`; returns the results of all variants."""
    recipe = notes_recipe()
    recipe = recipe.model_copy(update={"optimiser": recipe.optimiser.model_copy(update={"steps": plan.steps})})
    torch.set_num_threads(threads)
    levels = noted_levels(data_folder / "axial")
    maps = cached_maps(levels, data_folder / "axial", runs / recipe.name, "cpu")
    fold = folds_of(levels, recipe.folds, recipe.seed)
    results = []
    for name, variant in plan.variants.items():
        path = runs / plan.name / f"{name}.json"
        digest = hashlib.sha256((recipe.model_dump_json() + variant.model_dump_json()).encode()).hexdigest()
        kept: Result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if kept.get("sha256") != digest:
            seen = np.zeros_like(maps)
            seen[:, variant.channels] = maps[:, variant.channels]
            data = taught(levels, seen, recipe)
            scores = np.zeros((len(levels), 3))
            for number in range(recipe.folds):

                def show(step: int, loss: float, number: int = number, name: str = name) -> None:
                    if progress is not None:
                        progress(name, number * plan.steps + step, recipe.folds * plan.steps)

                trunk = fit_trunk(data, np.flatnonzero(fold != number), recipe, number, show)
                held = np.flatnonzero(fold == number)
                with torch.inference_mode():
                    scores[held] = trunk_scores(*trunk.both_ways(cropped(data.maps[held]))).double().numpy()
            kept = {
                "variant": name,
                "title": variant.title,
                "steps": plan.steps,
                "sha256": digest,
                "levels": _rows(data, [item.patient for item in levels], scores),
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(kept) + "\n", encoding="utf-8")
        results.append(kept)
    return results


def _rows(data: Taught, patients: Sequence[str], scores: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    return [
        {"patient": patient, "kind": int(kind), "side": int(side), "scores": [round(value, 5) for value in row]}
        for patient, kind, side, row in zip(patients, data.kinds, data.side, scores.tolist(), strict=True)
    ]


def presence(result: Result) -> tuple[float, float, float, int]:
    """AUC of protrusion or worse against levels stated free, its 95 % interval over patients, and the number of levels."""
    used = [item for item in result["levels"] if item["kind"] in (NONE, HERNIATION)]
    return _auc([(item["scores"][1], item["kind"] == HERNIATION) for item in used], [item["patient"] for item in used])


def side(result: Result) -> tuple[float, float, float, int]:
    """AUC of the side of one-sided herniations, its 95 % interval over patients, and the number of herniations."""
    used = [item for item in result["levels"] if item["side"] != 0]
    return _auc([(item["scores"][0], item["side"] > 0) for item in used], [item["patient"] for item in used])


def _auc(rows: Sequence[tuple[float, bool]], patients: Sequence[str]) -> tuple[float, float, float, int]:
    values = np.array(rows, dtype=np.float64)
    low, high = bootstrap_interval(values, patients, roc_auc)
    return roc_auc(values), low, high, len(values)


def lines_of(results: Sequence[Result]) -> list[str]:
    """What the command prints: AUC of presence and side for every variant."""
    lines = [
        f"notes, residual part, {results[0]['steps']} steps a member, cross-validated by patient; AUC (95 % over patients)"
    ]
    for result in results:
        parts = []
        for name, found in (("protrusion or worse against stated free", presence(result)), ("side", side(result))):
            auc, low, high, count = found
            parts.append(f"{name} {auc:.3f} ({low:.3f} to {high:.3f}, n = {count})")
        lines.append(f"{result['title']}: " + "; ".join(parts))
    return lines
