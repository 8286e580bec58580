"""Trains and measures the disc grader on the SPIDER gradings (van der Graaf 2024, CC BY 4.0), cross-validated by patient.

Patients 107 and 152, whose level numbers are shifted, are left out. Herniation is not asked: on the two lowest discs measured features
tell it better (`training.herniation`). Probabilities are calibrated (Platt 1999) on the scores that
the cross-validation gave to patients it had not seen; the shipped weights come from all patients by the same recipe.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional

from configs import config_path, load_toml
from inference.column import column_faults, find_column
from inference.disc_features import looks_like_t2
from inference.disc_grades import PFIRRMANN, QUESTIONS, disc_window
from models.intensity import InputSpec, normalise
from models.networks import GraderSpec, build
from models.runtime import Segmenter
from models.weights import CARDS, WEIGHTS, Card, save_weights, write_card
from training.datasets.spider import WholeSlice, read_table, resample, whole_slices
from training.herniation import GRADED, SHIFTED
from training.intervals import bootstrap_interval, roc_auc

_log = logging.getLogger(__name__)
_COLUMNS = {
    "bulging": "Disc bulging",
    "narrowing": "Disc narrowing",
    "spondylolisthesis": "Spondylolisthesis",
    "modic": "Modic",
    "upper_endplate": "UP endplate",
    "lower_endplate": "LOW endplate",
}
_PFIRRMANN_COLUMN = "Pfirrman grade"
_WEIGHTS = {"modic": 0.7, "upper_endplate": 0.5, "lower_endplate": 0.5} | dict.fromkeys(PFIRRMANN, 0.7)
"""Share of a question in the loss; 1 where not named."""
_RIDGE = 1e-3
"""Keeps the slope of a calibration finite where a question was answered without fault."""
_LOWEST = (1, 2)
"""Labels of the two lowest discs, L5-S1 and L4-L5."""


class Augmentation(BaseModel):
    """How far a window is changed in training; see the recipe for units."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: float = Field(ge=0)
    scale: float = Field(ge=0, lt=1)
    stretch: float = Field(ge=0, lt=1)
    shift: float = Field(ge=0)
    gamma: float = Field(ge=0)
    gain: float = Field(ge=0, lt=1)
    noise: float = Field(ge=0)


class GraderRecipe(BaseModel):
    """Everything that decides a training run of the disc grader."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    seed: int
    trained_on: str
    folds: int = Field(ge=2)
    steps: int = Field(gt=0)
    batch: int = Field(gt=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    network: GraderSpec
    input: InputSpec
    augmentation: Augmentation


@dataclass(frozen=True)
class GradedWindows:
    """Windows (N, C, H, W) of graded discs, the answers (N, questions) in the order of QUESTIONS, and whose they are.

    `withheld` counts the graded discs without a window, by reason.
    """

    pictures: NDArray[np.float32]
    answers: NDArray[np.float32]
    patients: NDArray[np.int64]
    labels: NDArray[np.int64]
    withheld: dict[str, int]


def grader_recipe() -> GraderRecipe:
    """The shipped recipe."""
    return load_toml(config_path("training", "disc_grades.toml"), GraderRecipe)


def graded_windows(segmenter: Segmenter, data: Path, recipe: GraderRecipe) -> GradedWindows:
    """A window for every graded disc (L5-S1 to T12-L1) that the segmenter finds on the patient's T2 slice."""
    found = {w.patient: _windows(segmenter, w, recipe) for w in whole_slices(data) if w.sequence == "t2"}
    pictures, answers, patients, labels = [], [], [], []
    withheld: dict[str, int] = {}
    for row in read_table(data / "spider" / "radiological_gradings.csv"):
        patient, label = int(row["Patient"]), int(row["IVD label"])
        if patient in SHIFTED or not 1 <= label <= GRADED:
            continue
        windows = found.get(patient, "no T2 slice")
        if isinstance(windows, list) and label > len(windows):
            windows = "disc not found"
        if isinstance(windows, str):
            withheld[windows] = withheld.get(windows, 0) + 1
            continue
        pictures.append(windows[label - 1])
        answers.append(_answers(row))
        patients.append(patient)
        labels.append(label)
    return GradedWindows(np.stack(pictures), np.array(answers), np.array(patients), np.array(labels), withheld)


def _answers(row: dict[str, str]) -> list[float]:
    yes = [float(int(row[column]) > 0) for column in _COLUMNS.values()]
    grade = int(row[_PFIRRMANN_COLUMN])
    return yes + [float(grade >= worse) for worse in range(2, 6)]


def _windows(segmenter: Segmenter, whole: WholeSlice, recipe: GraderRecipe) -> list[NDArray[np.float32]] | str:
    """Windows of the discs of one slice from the lowest upward, or why there are none."""
    image = normalise(resample(whole.image, (whole.spacing,) * 2, segmenter.spacing_mm), segmenter.card.input)
    probabilities = segmenter.plane_probabilities(image[None])[0]
    flat = probabilities.argmax(axis=0).astype(np.uint8)
    column = find_column(flat, segmenter.spacing_mm)
    if column is None or column_faults(column):
        return "no plausible column"
    if column.gaps:
        return "a disc was missed"
    if not looks_like_t2(image, flat):
        return "the canal is not brighter than the bodies"
    pixel = recipe.input.spacing_mm
    fine = normalise(resample(whole.image, (whole.spacing,) * 2, pixel), recipe.input)
    return [disc_window(fine, probabilities, column, number, pixel) for number in range(len(column.discs))]


def augmented(pictures: Tensor, plan: Augmentation, generator: torch.Generator) -> Tensor:
    """Windows (N, C, H, W) turned, scaled and moved, their picture in another tone. Never mirrored."""
    count, _, rows, columns = pictures.shape

    def draw(size: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * size

    angle, scale, stretch = draw(plan.rotation), 1 + draw(plan.scale), 1 + draw(plan.stretch)
    ratio = rows / columns
    along = torch.stack([angle.cos() * scale * stretch, -angle.sin() * scale * ratio, draw(plan.shift)], dim=1)
    rise = torch.stack([angle.sin() * scale / ratio, angle.cos() * scale / stretch, draw(plan.shift)], dim=1)
    grid = functional.affine_grid(torch.stack([along, rise], dim=1), list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures, grid, align_corners=False)
    moved[:, 4:] = pictures[:, 4:]
    seen = moved[:, :1].clamp(0, 1.5).pow(draw(plan.gamma).exp()[:, None, None, None])
    seen = seen * (1 + draw(plan.gain)[:, None, None, None])
    loud = torch.rand(count, generator=generator)[:, None, None, None] * plan.noise
    moved[:, :1] = seen + torch.randn(seen.shape, generator=generator) * loud
    return moved


def train(recipe: GraderRecipe, windows: GradedWindows, members: NDArray[np.int64], seed: int) -> nn.Module:
    """A grader taught on the windows `members`; the same seed and thread count give the same weights."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    pictures, answers = torch.from_numpy(windows.pictures[members]), torch.from_numpy(windows.answers[members])
    weight = torch.tensor([_WEIGHTS.get(name, 1.0) for name in QUESTIONS])
    network = build(recipe.network).train()
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1
    )
    for step in range(recipe.steps):
        drawn = torch.randint(len(members), (recipe.batch,), generator=generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(augmented(pictures[drawn], recipe.augmentation, generator))
        loss = functional.binary_cross_entropy_with_logits(logits.float(), answers[drawn], reduction="none")
        optimiser.zero_grad()
        (loss * weight).mean().backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            _log.info("step %d loss %.3f", step + 1, float(loss.detach().mean()))
    return network.eval()


def scores_of(network: nn.Module, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores (N, questions) of windows (N, C, H, W)."""
    with torch.inference_mode():
        parts = [network(part) for part in torch.from_numpy(pictures).split(64)]
    return torch.cat(parts).double().numpy()


def folds_of(patients: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Fold of every window; all windows of a patient are in one."""
    order = np.random.default_rng(0).permutation(np.unique(patients))
    fold = {patient: number % count for number, patient in enumerate(order)}
    return np.array([fold[patient] for patient in patients])


def cross_validated(recipe: GraderRecipe, windows: GradedWindows) -> NDArray[np.float64]:
    """Scores (N, questions) by graders that never saw the patient."""
    folds = folds_of(windows.patients, recipe.folds)
    scores = np.empty(windows.answers.shape)
    for fold in range(recipe.folds):
        network = train(recipe, windows, np.flatnonzero(folds != fold), recipe.seed + fold)
        scores[folds == fold] = scores_of(network, windows.pictures[folds == fold])
        _log.info("fold %d of %d", fold + 1, recipe.folds)
    return scores


def calibration(scores: NDArray[np.float64], answers: NDArray[np.float32]) -> dict[str, float]:
    """Slope and intercept of every question, fitted on scores of patients that the graders had not seen."""
    constants: dict[str, float] = {}
    for column, name in enumerate(QUESTIONS):
        score, truth = scores[:, column], answers[:, column]

        def loss(line: NDArray[np.float64], score: Any = score, truth: Any = truth) -> float:
            margin = line[0] * score + line[1]
            return float(np.mean(np.logaddexp(0, margin) - truth * margin) + _RIDGE * line[0] ** 2)

        slope, intercept = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
        constants |= {f"{name}_slope": float(slope), f"{name}_intercept": float(intercept)}
    return constants


def grader_lines(windows: GradedWindows, scores: NDArray[np.float64]) -> list[str]:
    """AUC of every question with its 95 % interval by patient, and the weighted kappa of the Pfirrmann grade."""
    total = len(windows.labels) + sum(windows.withheld.values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(windows.withheld.items()))
    lines = [
        f"disc grader, cross-validated by patient: {len(windows.labels)} of {total} graded discs, "
        f"{len(np.unique(windows.patients))} patients; withheld: {reasons or 'none'}"
    ]
    low = np.isin(windows.labels, _LOWEST)
    every = np.ones(len(low), dtype=bool)
    for column, name in enumerate(QUESTIONS):
        if name in PFIRRMANN:
            continue
        parts = (("L4-L5 and L5-S1", low), ("all levels", every))
        texts = [f"{where} {_auc(scores[chosen, column], windows, chosen, column)}" for where, chosen in parts]
        lines.append(f"{name}: AUC {'; '.join(texts)}")
    return [*lines, pfirrmann_line(windows, scores)]


def _auc(score: NDArray[np.float64], windows: GradedWindows, chosen: NDArray[np.bool_], column: int) -> str:
    rows = np.stack([score, windows.answers[chosen, column]], axis=1)
    low, high = bootstrap_interval(rows, windows.patients[chosen].tolist(), roc_auc)
    return f"{roc_auc(rows):.3f} (95 % {low:.3f} to {high:.3f}, {int(rows[:, 1].sum())} of {len(rows)})"


def pfirrmann_line(windows: GradedWindows, scores: NDArray[np.float64]) -> str:
    """Quadratic weighted kappa of the grade against the reader's, within one grade, with intervals by patient."""
    columns = [QUESTIONS.index(name) for name in PFIRRMANN]
    grade = 1 + (scores[:, columns] > 0).sum(axis=1)
    truth = 1 + windows.answers[:, columns].sum(axis=1).astype(int)
    rows = np.stack([grade, truth], axis=1)
    patients = windows.patients.tolist()
    low, high = bootstrap_interval(rows, patients, quadratic_kappa)
    near = np.abs(grade - truth) <= 1
    return (
        f"Pfirrmann grade: quadratic kappa {quadratic_kappa(rows):.3f} (95 % {low:.3f} to {high:.3f}, n = {len(rows)} discs), "
        f"same grade {np.mean(grade == truth):.2f}, within one {np.mean(near):.2f}"
    )


def quadratic_kappa(rows: NDArray[Any]) -> float:
    """Quadratically weighted kappa of rows (one grade, another grade), grades 1 to 5; nan without spread."""
    table = np.zeros((5, 5))
    np.add.at(table, (rows[:, 0].astype(int) - 1, rows[:, 1].astype(int) - 1), 1)
    weight = np.subtract.outer(np.arange(5), np.arange(5)) ** 2
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1)
    by_chance = float((weight * expected).sum())
    return 1 - float((weight * table).sum()) / by_chance if by_chance else float("nan")


def evaluate_grader(segmenter: Segmenter, data: Path) -> list[str]:
    """Train every fold anew and print how well the graders read patients that they had not seen."""
    recipe = grader_recipe()
    windows = graded_windows(segmenter, data, recipe)
    return grader_lines(windows, cross_validated(recipe, windows))


def fit_grader(
    segmenter: Segmenter, data: Path, command: str, *, cards: Path = CARDS, weights: Path = WEIGHTS
) -> list[str]:
    """Cross-validate, train on all patients, install weights and card; returns the figures."""
    recipe = grader_recipe()
    windows = graded_windows(segmenter, data, recipe)
    scores = cross_validated(recipe, windows)
    lines = grader_lines(windows, scores)
    network = train(recipe, windows, np.arange(len(windows.labels)), recipe.seed)
    digest = save_weights(network, weights / f"{recipe.name}.safetensors")
    patients = len(np.unique(windows.patients))
    card = Card(
        name=recipe.name,
        network=recipe.network,
        input=recipe.input,
        classes=QUESTIONS,
        sha256=digest,
        trained_on=recipe.trained_on,
        calibrated_on=f"SPIDER gradings, {len(windows.labels)} discs of {patients} patients, cross-validated by patient",
        recipe=f"configs/training/{recipe.name}.toml",
        command=command,
        metrics={"cross_validation": lines},
        constants=calibration(scores, windows.answers),
    )
    write_card(card, cards)
    return lines
