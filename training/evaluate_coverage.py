"""Risk against coverage: how often (or by how much) the readings err when only the surest part of them is given.

Readings are ordered by their own confidence, surest first; the risk at a coverage is the mean error of that share of them. Notes and
disc grades are scored by members that did not see the patient; recess depth is held against the exact truth of simulated studies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs import anatomy
from inference.disc_grades import PFIRRMANN, QUESTIONS
from models.calibration import platt
from training.intervals import bootstrap_interval

if TYPE_CHECKING:
    from models.runtime import Segmenter

SURE = 0.95
"""The coverage at which the risk is printed: at most one reading in twenty may be withheld."""
_SHARES = (0.5, 0.8, SURE)
_SEED = 11
_NOTES = "Notes and pictures: Sudirman et al. (Mendeley Data 10.17632/k57fr854j2, /zbf6b4pttk, /s6bgczr8s2), CC BY 4.0."
_SPIDER = "Disc gradings and pictures: SPIDER, van der Graaf et al. 2024 (10.1038/s41597-024-03090-w), CC BY 4.0."


@dataclass(frozen=True)
class Curve:
    """Readings of one kind: confidence (N,) (larger is surer, any scale), error (N,) and whose they are (N,)."""

    name: str
    confidence: NDArray[np.float64]
    error: NDArray[np.float64]
    patients: NDArray[Any]
    unit: str = ""
    """Empty for a share of wrong readings, else the unit of the error."""


def risks(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Risk (N,) at coverages 1/N, 2/N, ... 1 of rows (confidence, error); equally sure readings share their mean error."""
    order = np.argsort(-rows[:, 0], kind="stable")
    confidence, error = rows[order, 0], rows[order, 1]
    _, place, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    shared = np.bincount(place, weights=error) / counts
    return np.asarray(np.cumsum(shared[place]) / np.arange(1, len(rows) + 1))


def area(rows: NDArray[np.float64]) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman and El-Yaniv 2017)."""
    return float(risks(rows).mean())


def risk_at(rows: NDArray[np.float64], coverage: float) -> float:
    """Risk of the surest `coverage` of the rows."""
    return float(risks(rows)[max(int(np.ceil(coverage * len(rows))) - 1, 0)])


def curve_text(curve: Curve) -> str:
    """One line: risk of all, at some coverages, and the area, each with its 95 % interval by patient."""
    rows = np.stack([curve.confidence, curve.error], axis=1)
    people = curve.patients.tolist()
    digits = 2 if curve.unit else 3
    parts = [f"all {float(curve.error.mean()):.{digits}f}"]
    for share in _SHARES[::-1]:
        low, high = bootstrap_interval(rows, people, lambda part, share=share: risk_at(part, share))  # type: ignore[misc]
        parts.append(f"at {share:.0%} {risk_at(rows, share):.{digits}f} (95 % {low:.{digits}f} to {high:.{digits}f})")
    low, high = bootstrap_interval(rows, people, area)
    parts.append(f"area under the curve {area(rows):.3f} ({low:.3f} to {high:.3f})")
    what = f"mean absolute error in {curve.unit}" if curve.unit else "share wrong"
    return f"{curve.name}, {what}: {', '.join(parts)}; n = {len(rows)} of {len(set(people))} patients"


def evaluate_coverage(
    data: Path, runs: Path, *, count: int = 60, device: str = "auto", plot: Path | None = None
) -> str:
    """Lines of text for every curve that can be drawn from `data` and `runs`; `plot` receives them as PNG.

    The grades are taught anew once (minutes) and their scores kept under `runs`; simulated studies are read where `runs` holds them.
    """
    curves = [*notes_curves(data, runs, device), *grade_curves(data, runs, device), *recess_curves(runs, count, device)]
    if plot is not None:
        draw(curves, plot)
    lines = [curve_text(curve) for curve in curves]
    if not any(curve.unit for curve in curves):
        lines.append(f"no simulated studies in {runs / 'phantom_studies'}: recess-train evaluate phantom makes them")
    return "\n".join(lines)


def notes_curves(data: Path, runs: Path, device: str = "auto") -> list[Curve]:
    """Side of one-sided herniations, and protrusion or worse, on real axial T1 slices against notes; cross-validated by patient."""
    from training.datasets.notes import HERNIATION
    from training.evaluate_notes import held_out_chances, held_out_scores

    scored = held_out_scores(data, runs, device=device)
    sided = scored.sides != 0
    score = scored.scores[-1][sided, 0]
    known, chance = held_out_chances(scored)
    wrong = (chance >= 0.5) != (scored.kinds[known] == HERNIATION)
    return [
        Curve(
            "side of a one-sided herniation (axial T1, notes)",
            np.abs(score),
            (np.sign(score) != scored.sides[sided]).astype(np.float64),
            scored.patients[sided],
        ),
        Curve(
            "protrusion or worse, called at 0.5 (axial T1, notes)",
            np.abs(chance - 0.5),
            wrong.astype(np.float64),
            scored.patients[known],
        ),
    ]


def grade_curves(data: Path, runs: Path, device: str = "auto") -> list[Curve]:
    """Every answer of the disc grader, cross-validated by patient; a grade is wrong where it is not the reader's."""
    return curves_of_grades(*_grade_scores(data, runs, device))


def curves_of_grades(
    scores: NDArray[np.float64], answers: NDArray[np.float32], patients: NDArray[np.int64]
) -> list[Curve]:
    """Curves from held-out scores and the reader's answers (N, questions) in the order of QUESTIONS, and patients (N,)."""
    chance = _held_out_calibrated(scores, answers, patients)
    first = [QUESTIONS.index(name) for name in PFIRRMANN]
    reached = np.minimum.accumulate(chance[:, first], axis=1)
    at_least = np.concatenate([np.ones((len(chance), 1)), reached, np.zeros((len(chance), 1))], axis=1)
    each = at_least[:, :-1] - at_least[:, 1:]
    truth = answers[:, first].sum(axis=1).astype(int)
    curves = [
        Curve(
            "Pfirrmann grade (SPIDER)", each.max(axis=1), (each.argmax(axis=1) != truth).astype(np.float64), patients
        ),
        Curve(
            "Pfirrmann grade more than one off (SPIDER)",
            each.max(axis=1),
            (np.abs(each.argmax(axis=1) - truth) > 1).astype(np.float64),
            patients,
        ),
    ]
    for column, name in enumerate(QUESTIONS):
        if name not in PFIRRMANN:
            wrong = (chance[:, column] >= 0.5) != (answers[:, column] > 0)
            curves.append(
                Curve(
                    f"{name.replace('_', ' ')} (SPIDER)",
                    np.abs(chance[:, column] - 0.5),
                    wrong.astype(np.float64),
                    patients,
                )
            )
    return curves


def _grade_scores(
    data: Path, runs: Path, device: str
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
    """Scores and answers (N, questions) and patients (N,), cross-validated by the shipped recipe; kept for the same recipe and network."""
    from models.runtime import Segmenter
    from training.disc_grades import cross_validated, graded_windows, grader_recipe

    recipe = grader_recipe()
    segmenter = Segmenter.load("sagittal", device)
    made_by = [
        recipe.model_dump_json(),
        *(card.model_dump_json(include={"sha256", "input"}) for card in segmenter.cards),
    ]
    path = runs / recipe.name / f"scores-{hashlib.sha256(' '.join(made_by).encode()).hexdigest()[:12]}.npz"
    if not path.is_file():
        windows = graded_windows(segmenter, data, recipe)
        scores = cross_validated(recipe, windows)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, scores=scores, answers=windows.answers, patients=windows.patients)
    with np.load(path) as stored:
        return stored["scores"], stored["answers"], stored["patients"]


def _held_out_calibrated(
    scores: NDArray[np.float64], answers: NDArray[np.float32], patients: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Probabilities (N, questions), each fold's by a calibration that was fitted on the other folds."""
    from training.disc_grades import calibration, folds_of, grader_recipe

    folds = folds_of(patients, grader_recipe().folds)
    chance = np.empty_like(scores)
    for fold in np.unique(folds):
        held = folds == fold
        constants = calibration(scores[~held], answers[~held])
        for column, name in enumerate(QUESTIONS):
            line = constants[f"{name}_slope"], constants[f"{name}_intercept"]
            chance[held, column] = platt(scores[held, column], *line)
    return chance


def recess_curves(runs: Path, count: int, device: str = "auto") -> list[Curve]:
    """Recess depth on the simulated studies that lie under `runs`, by the uncertainty stated for each; empty where there are none.

    The axial series alone is read, around each disc's true place misjudged at random: what is measured is the depth, not the names.
    """
    from models.runtime import Segmenter

    truths = sorted((runs / "phantom_studies").glob("phantom-*/truth.json"))[:count]
    if not truths:
        return []
    segmenter, recess = Segmenter.load("axial", device), Segmenter.load("axial_recess", device)
    rng = np.random.default_rng(_SEED)
    rows = [row for path in truths for row in _read_recesses(path, segmenter, recess, rng)]
    seeds, sds, errors = (np.array(column) for column in zip(*rows, strict=True))
    seen = np.isfinite(errors)
    name = f"recess depth (simulated studies; withheld {int((~seen).sum())} of {len(rows)})"
    return [Curve(name, -sds[seen], np.abs(errors[seen]), seeds[seen], "mm")]


def _read_recesses(
    path: Path, segmenter: Segmenter, recess: Segmenter, rng: np.random.Generator
) -> Iterator[tuple[int, float, float]]:
    """(seed, stated uncertainty, error) in mm of both recesses at the levels that are read fully; nan where withheld."""
    from dicom_io import read_study
    from inference.measure import SIDES, measure_recess
    from inference.segment import segment_axial
    from inference.sizes import Missing
    from training.simulated_disc import misplaced_disc

    truth = json.loads(path.read_text(encoding="utf-8"))
    stacks = read_study(path.parent / "axial_t2").with_role("axial_t2")
    for level in truth["levels"]:
        if level["name"] not in anatomy().read_levels:
            continue
        disc = misplaced_disc(np.array(level["posterior_margin_lps"]), np.array(level["normal_lps"]), rng)
        for axial in segment_axial(stacks, [disc], segmenter, recess):
            for side in SIDES:
                size = measure_recess(axial, side, segmenter.card.constants)
                if isinstance(size, Missing):
                    yield int(truth["seed"]), float("nan"), float("nan")
                else:
                    yield int(truth["seed"]), size.sd, size.value - level[side]["recess_depth_soft_mm"]


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write the curves as PNG: shares of wrong readings of notes, of grades, and errors in mm, each in its own panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        ("axial T1 against notes", [c for c in curves if "notes" in c.name], "share wrong", _NOTES),
        ("disc grades, sagittal T2", [c for c in curves if "SPIDER" in c.name], "share wrong", _SPIDER),
        ("recess depth, simulated", [c for c in curves if c.unit], "mean absolute error (mm)", ""),
    ]
    panels = [panel for panel in panels if panel[1]]
    figure = Figure(figsize=(3.9 * len(panels), 3.6), dpi=90)
    FigureCanvasAgg(figure)
    for axis, (title, members, label, _) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for curve in members:
            risk = risks(np.stack([curve.confidence, curve.error], axis=1))
            coverage = np.arange(1, len(risk) + 1) / len(risk)
            shown = coverage >= 0.1
            axis.plot(coverage[shown], risk[shown], linewidth=1.2, label=curve.name.partition(" (")[0])
        axis.axvline(SURE, color="#999999", linewidth=0.8, linestyle=":")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("coverage", fontsize=8)
        axis.set_ylabel(label, fontsize=8)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        if len(members) > 1:
            axis.legend(fontsize=6, frameon=False)
    figure.text(0.01, 0.01, "\n".join(source for *_, source in panels if source), fontsize=6)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, format="png")
