"""Herniation per disc: features measured on every SPIDER T2 slice, a ridge logistic head, and its area under the ROC curve.

Cross-validated by patient over the whole study; patients 107 and 152, whose level numbers are shifted, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from inference.column import column_faults, find_column
from inference.disc_features import disc_features, looks_like_t2
from models.calibration import LogisticHead
from models.intensity import normalise
from models.runtime import Segmenter
from models.weights import write_card
from training.datasets.spider import WholeSlice, read_table, resample, whole_slices
from training.intervals import bootstrap_interval, roc_auc

SHIFTED = (107, 152)
"""Patients whose gradings start at label 0: whether that is L5-S1 is not said."""
GRADED = 6
"""Discs from the lowest upward that enter: L5-S1 to T12-L1; those above hold no herniation."""
FOLDS = 10
RIDGE = 8.0
"""Penalty on the squared standardised weights, chosen once for some 70 positives and some 15 features."""
FEATURES = (
    "beyond_wall_mm",
    "canal_pushed_mm",
    "canal_ap_mm",
    "canal_ratio",
    "height_mm",
    "height_ratio",
    "ap_mm",
    "posterior_height_mm",
    "nucleus_to_fluid",
    "posterior_to_fluid",
    "spread_to_fluid",
    "lumbosacral",
    "l4_l5",
    "l3_l4",
    "above",
)


@dataclass(frozen=True)
class GradedDisc:
    """One disc of the gradings with its features; `features` is None and `withheld` says why where it was not measured."""

    patient: int
    label: int
    herniation: bool
    features: dict[str, float] | None
    withheld: str = ""


def graded_discs(segmenter: Segmenter, data: Path) -> list[GradedDisc]:
    """Every graded disc (L5-S1 to T12-L1) of every patient but the shifted ones."""
    found = {w.patient: _features(segmenter, w) for w in whole_slices(data) if w.sequence == "t2"}
    discs = []
    for row in read_table(data / "spider" / "radiological_gradings.csv"):
        patient, label = int(row["Patient"]), int(row["IVD label"])
        if patient in SHIFTED or not 1 <= label <= GRADED:
            continue
        measured = found.get(patient, "no T2 slice")
        truth = row["Disc herniation"] == "1"
        if isinstance(measured, str):
            discs.append(GradedDisc(patient, label, truth, None, measured))
        elif label > len(measured):
            discs.append(GradedDisc(patient, label, truth, None, "disc not found"))
        else:
            discs.append(GradedDisc(patient, label, truth, measured[label - 1]))
    return discs


def _features(segmenter: Segmenter, whole: WholeSlice) -> list[dict[str, float]] | str:
    """Features of the discs from the lowest upward, or why there are none."""
    image = normalise(resample(whole.image, (whole.spacing,) * 2, segmenter.spacing_mm), segmenter.card.input)
    flat = segmenter.plane_probabilities(image[None])[0].argmax(axis=0).astype(np.uint8)
    column = find_column(flat, segmenter.spacing_mm)
    if column is None or column_faults(column):
        return "no plausible column"
    if column.gaps:
        return "a disc was missed"
    if not looks_like_t2(image, flat):
        return "the canal is not brighter than the bodies"
    return [disc_features(image, flat, column, number) for number in range(len(column.discs))]


def fit_head(rows: NDArray[np.float64], truth: NDArray[np.bool_], fitted_on: str) -> LogisticHead:
    """Ridge logistic regression of (n, len(FEATURES)) rows, standardised, nan taken as the mean."""
    mean, scale = np.nanmean(rows, axis=0), np.maximum(np.nanstd(rows, axis=0), 1e-6)
    standard = np.nan_to_num((rows - mean) / scale)
    sign = np.where(truth, 1.0, -1.0)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (standard @ parameters[1:] + parameters[0])
        slope = -sign / (1 + np.exp(np.clip(margin, -50, 50)))
        gradient = np.concatenate([[slope.sum()], standard.T @ slope + RIDGE * parameters[1:]])
        value = np.logaddexp(0, -margin).sum() + RIDGE / 2 * float(parameters[1:] @ parameters[1:])
        return float(value), gradient

    best = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return LogisticHead(
        features=FEATURES,
        mean=tuple(map(float, mean)),
        scale=tuple(map(float, scale)),
        weights=tuple(map(float, best[1:])),
        intercept=float(best[0]),
        fitted_on=fitted_on,
    )


def cross_validated(discs: list[GradedDisc]) -> NDArray[np.float64]:
    """Probability of each measured disc from a head that never saw its patient; folds by patient, fixed order."""
    rows, truth, patients = _matrix(discs)
    order = np.random.default_rng(0).permutation(np.unique(patients))
    fold_of = {patient: number % FOLDS for number, patient in enumerate(order)}
    folds = np.array([fold_of[patient] for patient in patients])
    scores = np.empty(len(discs))
    for fold in range(FOLDS):
        head = fit_head(rows[folds != fold], truth[folds != fold], "cross-validation")
        for index in np.flatnonzero(folds == fold):
            scores[index] = head.probability(dict(zip(FEATURES, rows[index], strict=True)))
    return scores


def evaluate_herniation(segmenter: Segmenter, data: Path) -> list[str]:
    """Lines with the cross-validated AUC at L5-S1, L4-L5, both and all levels, with intervals, n, positives and withheld."""
    every = graded_discs(segmenter, data)
    discs = [disc for disc in every if disc.features is not None]
    scores = cross_validated(discs)
    lines = []
    for name, labels in (
        ("L5-S1", (1,)),
        ("L4-L5", (2,)),
        ("L4-L5 and L5-S1", (1, 2)),
        ("all levels", range(1, GRADED + 1)),
    ):
        chosen = [index for index, disc in enumerate(discs) if disc.label in labels]
        rows = np.array([(scores[index], discs[index].herniation) for index in chosen], dtype=np.float64)
        patients = [discs[index].patient for index in chosen]
        low, high = bootstrap_interval(rows, patients, roc_auc)
        withheld = sum(1 for disc in every if disc.features is None and disc.label in labels)
        lines.append(
            f"herniation {name}: AUC {roc_auc(rows):.3f} (95 % {low:.3f} to {high:.3f}), cross-validated by patient; "
            f"n = {len(chosen)} discs of {len(set(patients))} patients, {int(rows[:, 1].sum())} herniated; withheld {withheld}"
        )
    return lines


def install_head(segmenter: Segmenter, data: Path) -> LogisticHead:
    """Fit the head on all measured discs and write it into the network's card."""
    discs = [disc for disc in graded_discs(segmenter, data) if disc.features is not None]
    rows, truth, patients = _matrix(discs)
    text = f"SPIDER T2 slices, {len(discs)} discs of {len(set(patients))} patients, {int(truth.sum())} herniated"
    head = fit_head(rows, truth, text)
    update: dict[str, Any] = {"heads": {"herniation": head}, "calibrated_on": f"herniation: {text}"}
    write_card(segmenter.card.model_copy(update=update))
    return head


def _matrix(discs: list[GradedDisc]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    rows = np.array([[(disc.features or {})[name] for name in FEATURES] for disc in discs], dtype=np.float64)
    return rows, np.array([disc.herniation for disc in discs]), np.array([disc.patient for disc in discs])
