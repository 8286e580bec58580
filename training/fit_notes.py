"""Trains the mirror network on radiologists' notes: one pair of linear and residual scores for every fold of the patients.

Member k never sees fold k, so the figures of `training.evaluate_notes` come from the shipped weights themselves. Penalties are chosen
by cross-validation inside the training folds; nothing is chosen on a held-out fold. Numbers: configs/training/notes.toml.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from inference.canal_pose import canal_pose
from models.intensity import InputSpec
from models.mirror import SCORES, MirrorEnsemble
from models.networks import build
from models.weights import CARDS, WEIGHTS, Card, save_weights, with_partners, write_card
from training.datasets.notes import cached_maps, folds_of, noted_levels
from training.notes_linear import fit_linear
from training.notes_recipe import notes_recipe, taught
from training.notes_trunk import fit_trunk

_log = logging.getLogger(__name__)


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


def run_ensemble(runs: Path) -> MirrorEnsemble:
    """The members that a run left in `runs`. FileNotFoundError when one is missing."""
    recipe = notes_recipe()
    ensemble = build(recipe.network)
    assert isinstance(ensemble, MirrorEnsemble)
    for number in range(recipe.folds):
        path = runs / recipe.name / f"member-{number}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: that member is missing; run recess-train fit {recipe.name} --runs {runs}")
        ensemble.member(number).load_state_dict(load_file(str(path)))
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
        metrics={"reads": {other.name: other.sha256 for other in with_partners("axial", alone=True)}},
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
