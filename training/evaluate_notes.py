"""Axial reading of real T1 slices against a radiologist's notes: is a herniation there, and on which side?

Every level is scored by the member of the mirror network that saw no slice of its fold, so the figures are cross-validated by patient
and come from the shipped weights. Notes: Sudirman et al., CC BY 4.0. One slice a level; the notes are one reader's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import LogisticHead
from models.mirror import SCORES, MirrorEnsemble, presence_features, side_features
from models.weights import CARDS, WEIGHTS, load_card, load_network
from training.calibrate_axial import logistic_head
from training.datasets.notes import (
    BULGE,
    HERNIATION,
    LEVELS,
    NONE,
    UNLABELLED,
    Noted,
    cached_maps,
    folds_of,
    noted_levels,
)
from training.intervals import bootstrap_interval, roc_auc

FITTED_ON = "real axial T1 slices with notes, cross-validated by patient"
PARTS = ("linear", "residual", "mean of both")
_BATCH = 64


@dataclass(frozen=True)
class Scored:
    """Held-out scores of all levels: of each part and their mean (3, N, 3) in the order of PARTS and SCORES, and folds (N,).

    `bands` (folds, 3): the size of a side score that, by each part, the given share of the training folds' free levels stay below.
    """

    levels: tuple[Noted, ...]
    scores: NDArray[np.float64]
    fold: NDArray[np.int64]
    bands: NDArray[np.float64]

    @property
    def kinds(self) -> NDArray[np.int64]:
        """Kinds (N,) of all levels."""
        return np.array([item.kind for item in self.levels])

    @property
    def sides(self) -> NDArray[np.int64]:
        """+1 left, -1 right, 0 neither (N,)."""
        return np.array([item.side for item in self.levels])

    @property
    def patients(self) -> NDArray[np.object_]:
        """Patients (N,)."""
        return np.array([item.patient for item in self.levels], dtype=object)

    @property
    def band(self) -> float:
        """Mean band of the mean of both parts: what the shipped ensemble uses."""
        return float(self.bands[:, -1].mean())

    def herniation_head(self) -> LogisticHead:
        """Probability of a protrusion or worse, among levels that a note names or states free."""
        known = self.kinds != UNLABELLED
        rows = self.scores[-1][known, 1:]
        head = logistic_head(SCORES[1:], rows, self.kinds[known] == HERNIATION)
        return head.model_copy(update={"fitted_on": FITTED_ON})

    def side_head(self) -> LogisticHead:
        """Probability that a one-sided herniation lies on the left."""
        from training.notes_linear import side_head

        sided = self.sides != 0
        return side_head(self.scores[-1][sided, 0], self.sides[sided] > 0, FITTED_ON)


def held_out_scores(
    data: Path,
    runs: Path,
    *,
    cards: Path = CARDS,
    weights: Path = WEIGHTS,
    device: str = "auto",
    ensemble: MirrorEnsemble | None = None,
) -> Scored:
    """Score every level with the member of `ensemble`, else of the shipped one, that was not taught on its fold."""
    from training.notes_recipe import notes_recipe

    recipe = notes_recipe()
    if ensemble is None:
        shipped = load_network(load_card(recipe.name, cards), weights)
        assert isinstance(shipped, MirrorEnsemble)
        ensemble = shipped
    folder = data / "axial"
    levels = noted_levels(folder)
    maps = torch.from_numpy(cached_maps(levels, folder, runs / recipe.name, device))
    fold = folds_of(levels, recipe.folds, recipe.seed)
    free = np.array([item.kind == NONE for item in levels])
    scores = np.zeros((len(PARTS), len(levels), len(SCORES)))
    bands = np.zeros((recipe.folds, len(PARTS)))
    for number in range(recipe.folds):
        held, taught_free = np.flatnonzero(fold == number), np.flatnonzero((fold != number) & free)
        scores[:, held] = _part_scores(ensemble, number, maps[held])
        sizes = np.abs(_part_scores(ensemble, number, maps[taught_free])[:, :, 0])
        bands[number] = np.quantile(sizes, recipe.abstention.free_levels_below, axis=1)
    return Scored(tuple(levels), scores, fold, bands)


def _part_scores(ensemble: MirrorEnsemble, number: int, maps: torch.Tensor) -> NDArray[np.float64]:
    member = ensemble.member(number).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(maps), _BATCH):
            linear, residual = member.parts(maps[start : start + _BATCH])
            found.append(torch.stack([linear, residual, (linear + residual) / 2]).double().numpy())
    return np.concatenate(found, axis=1)


def evaluate_notes(data: Path, runs: Path = Path("runs"), *, device: str = "auto", of_run: bool = False) -> str:
    """Lines of text: presence and side with n and 95 % intervals by patient, with what was withheld.

    `of_run` measures the members that a run left in `runs` in place of the shipped ones; FileNotFoundError when one is missing.
    """
    from training.fit_notes import run_ensemble

    ensemble = run_ensemble(runs) if of_run else None
    lines = figures_of(held_out_scores(data, runs, device=device, ensemble=ensemble), data)
    return "\n".join([f"members of the run in {runs}" if of_run else "shipped members", *lines])


def figures_of(scored: Scored, data: Path) -> list[str]:
    """The lines of `evaluate_notes` for scores that are there."""
    count = f"{len(scored.levels)} levels of {len(set(scored.patients))} patients"
    lines = [f"mirror network on real axial T1 against notes, cross-validated by patient, {count}"]
    for part, name in enumerate(PARTS):
        lines.append(f"{name}:")
        lines += [f"  {line}" for line in (*presence_lines(scored, part), *side_lines(scored, part))]
    lines += [f"calibrated probability: {line}" for line in calibration_lines(scored)]
    lines.append("mean of both, patients with no slice among the outlines that taught the axial network:")
    lines += [f"  {line}" for line in _untaught_lines(scored, data / "axial")]
    return lines


def presence_lines(scored: Scored, part: int = -1) -> list[str]:
    """Protrusion or worse against stated free, at all levels and each, and against bulge-only levels."""
    kinds, levels = scored.kinds, np.array([item.level for item in scored.levels])
    lines = []
    for label, other, column in (("stated free", NONE, 1), ("bulge only", BULGE, 2)):
        for level in ("all levels", *LEVELS):
            used = np.isin(kinds, (other, HERNIATION)) & ((levels == level) | (level == "all levels"))
            if level != "all levels" and label == "bulge only":
                continue
            rows = np.stack([scored.scores[part][used, column], kinds[used] == HERNIATION], axis=1)
            if len(np.unique(rows[:, 1])) < 2:
                continue
            low, high = bootstrap_interval(rows, list(scored.patients[used]), roc_auc)
            lines.append(
                f"protrusion or worse against {label}, {level}: AUC {roc_auc(rows):.3f} (95 % {low:.3f} to {high:.3f}; "
                f"{int(rows[:, 1].sum())} against {int((rows[:, 1] == 0).sum())})"
            )
    return lines


def side_lines(scored: Scored, part: int = -1) -> list[str]:
    """Side of one-sided herniations: all, protrusions and worse, bulges; and with the uncertain ones withheld."""
    score, kinds = scored.scores[part][:, 0], scored.kinds
    band = scored.bands[scored.fold, part]
    lines = []
    groups = (
        ("one-sided", kinds >= BULGE),
        ("one-sided protrusion or worse", kinds == HERNIATION),
        ("one-sided bulge", kinds == BULGE),
    )
    for label, group in groups:
        used = group & (scored.sides != 0)
        if not used.any():
            continue
        right = np.sign(score[used]) == scored.sides[used]
        rows = np.stack([score[used], scored.sides[used] > 0], axis=1)
        low, high = bootstrap_interval(rows, list(scored.patients[used]), roc_auc)
        lines.append(
            f"side, {label}: {_share(right, list(scored.patients[used]))}; AUC {roc_auc(rows):.3f} ({low:.3f} to {high:.3f})"
        )
        named = np.abs(score[used]) > band[used]
        people = list(scored.patients[used][named])
        lines.append(
            f"side, {label}, withheld {int((~named).sum())} of {int(used.sum())}: {_share(right[named], people)}"
        )
    return lines


def held_out_chances(scored: Scored) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Levels (M,) that the notes name or state free, and their probability (M,) of a protrusion or worse.

    Each fold's probabilities come from a head that was fitted on the other folds' scores.
    """
    known = np.flatnonzero(scored.kinds != UNLABELLED)
    truth = scored.kinds[known] == HERNIATION
    chance = np.zeros(len(known))
    rows = scored.scores[-1][known, 1:]
    for number in np.unique(scored.fold):
        held = scored.fold[known] == number
        head = logistic_head(SCORES[1:], rows[~held], truth[~held])
        chance[held] = [head.probability(dict(zip(SCORES[1:], row, strict=True))) for row in rows[held]]
    return known, chance


def calibration_lines(scored: Scored) -> list[str]:
    """Calibration of the probability of a protrusion or worse, each fold by a head fitted on the other folds' scores."""
    known, chance = held_out_chances(scored)
    truth = scored.kinds[known] == HERNIATION
    edges = np.quantile(chance, np.linspace(0, 1, 6))
    place = np.clip(np.searchsorted(edges, chance, side="right") - 1, 0, 4)
    error = sum(abs(chance[place == k].mean() - truth[place == k].mean()) * (place == k).mean() for k in range(5))
    both = np.stack([chance, truth], axis=1)
    brier = float(np.mean((chance - truth) ** 2))
    low, high = bootstrap_interval(both, list(scored.patients[known]), roc_auc)
    called = chance >= 0.5
    return [
        f"{len(known)} levels that the notes name or state free, {int(truth.sum())} with protrusion or worse: AUC "
        f"{roc_auc(both):.3f} (95 % {low:.3f} to {high:.3f}), calibration error {error:.3f} in fifths, Brier {brier:.3f}; "
        f"called at 0.5: sensitivity {called[truth].mean():.2f}, specificity {1 - called[~truth].mean():.2f}"
    ]


def _untaught_lines(scored: Scored, folder: Path) -> list[str]:
    """The first figures again without the patients whose outlined slices the axial network learned from."""
    outlines = json.loads((folder / "outlines.json").read_text(encoding="utf-8"))["slices"].values()
    seen = {item["patient"] for item in outlines if item["split"] == "train"}
    kept = np.array([item.patient not in seen for item in scored.levels])
    part = Scored(
        tuple(item for item, keep in zip(scored.levels, kept, strict=True) if keep),
        scored.scores[:, kept],
        scored.fold[kept],
        scored.bands,
    )
    return [presence_lines(part)[0], *side_lines(part)[:2]]


def _share(right: NDArray[np.bool_], patients: Sequence[str]) -> str:
    low, high = bootstrap_interval(right.astype(float), patients)
    return f"right {int(right.sum())}/{len(right)} = {right.mean():.3f} (95 % {low:.3f} to {high:.3f})"


def linear_over_splits(data: Path, runs: Path, splits: int, device: str = "auto") -> str:
    """The linear part taught anew on other divisions of the patients: how much the figures depend on the division."""
    from training.notes_linear import INNER_FOLDS, chosen_weights
    from training.notes_recipe import notes_recipe, taught

    recipe = notes_recipe()
    levels = noted_levels(data / "axial")
    labelled = taught(levels, cached_maps(levels, data / "axial", runs / recipe.name, device), recipe)
    sided, focal = labelled.side != 0, np.isin(labelled.kinds, (NONE, HERNIATION))
    maps = labelled.maps
    tasks = (
        (side_features(maps).double().numpy(), sided, labelled.side > 0, recipe.linear.side_penalties),
        (
            presence_features(maps).double().numpy(),
            focal,
            labelled.kinds == HERNIATION,
            recipe.linear.presence_penalties,
        ),
    )
    figures = []
    for split in range(splits):
        fold = folds_of(levels, recipe.folds, split)
        scores = np.zeros((len(levels), 2))
        for number in range(recipe.folds):
            held, train = fold == number, np.flatnonzero(fold != number)
            inner = folds_of([levels[row] for row in train], INNER_FOLDS, split)
            for column, (features, used, truth, penalties) in enumerate(tasks):
                mine = used[train]
                weights, offset = chosen_weights(
                    features, train[mine], truth[train][mine], inner[mine], penalties, intercept=column == 1
                )
                scores[held, column] = features[held] @ weights + offset
        right = float((np.sign(scores[sided, 0]) == labelled.side[sided]).mean())
        rows = np.stack([scores[focal, 1], labelled.kinds[focal] == HERNIATION], axis=1)
        figures.append((right, roc_auc(np.stack([scores[sided, 0], labelled.side[sided] > 0], axis=1)), roc_auc(rows)))
    names = ("side right", "AUC of the side", "AUC of protrusion or worse against stated free")
    parts = [
        f"{name} {np.mean(column):.3f} ({min(column):.3f} to {max(column):.3f})"
        for name, column in zip(names, zip(*figures, strict=True), strict=True)
    ]
    return f"linear part over {splits} divisions of the patients, mean (least to most): " + ", ".join(parts)


def main() -> None:
    """`python -m training.evaluate_notes DATA [--runs runs] [--splits N]`: figures on the notes in the folder of data."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--splits", type=int, help="teach the linear part anew on so many divisions instead")
    given = parser.parse_args()
    if given.splits:
        print(linear_over_splits(given.data, given.runs, given.splits, given.device))  # noqa: T201
    else:
        print(evaluate_notes(given.data, given.runs, device=given.device))  # noqa: T201


if __name__ == "__main__":
    main()
