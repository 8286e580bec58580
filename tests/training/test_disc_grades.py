"""The disc grader: windows lie along the disc, folds keep patients whole, and what it answers adds up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.column import Column, measure_disc
from inference.disc_grades import (
    CHANNELS,
    COLUMNS,
    QUESTIONS,
    ROWS,
    disc_window,
    most_likely_grade,
    pfirrmann_grades,
)
from models.networks import GraderSpec
from training.disc_grades import (
    GradedWindows,
    augmented,
    calibration,
    folds_of,
    grader_recipe,
    quadratic_kappa,
    scores_of,
    train,
)
from training.intervals import roc_auc


def _tilted_disc() -> tuple[np.ndarray, np.ndarray, Column]:
    """A bar tilted by 20 degrees with a bright spot behind its back end, at 0.9375 mm."""
    rows, columns = np.mgrid[:200, :160].astype(float)
    angle = np.radians(20)
    along = (columns - 80) * np.cos(angle) + (rows - 100) * np.sin(angle)
    rise = -(columns - 80) * np.sin(angle) + (rows - 100) * np.cos(angle)
    disc = (np.abs(along) < 18) & (np.abs(rise) < 4)
    probabilities = np.zeros((4, 200, 160), dtype=np.float32)
    probabilities[2], probabilities[0] = disc, ~disc
    spot = np.exp(-((along - 24) ** 2 + rise**2) / 8).astype(np.float32)
    empty = np.zeros(disc.shape, dtype=bool)
    column = Column(empty, np.full(200, 100.0), empty, disc, (measure_disc(disc, 0.9375),), (), 0.9375)
    return spot, probabilities, column


def test_window_lies_along_the_disc_whatever_its_tilt() -> None:
    spot, probabilities, column = _tilted_disc()
    window = disc_window(spot, probabilities, column, 0, 0.6)
    assert window.shape == (CHANNELS, ROWS, COLUMNS)
    row, place = np.unravel_index(window[0].argmax(), (ROWS, COLUMNS))
    assert row == pytest.approx((ROWS - 1) / 2, abs=1.5)
    assert place == pytest.approx((COLUMNS - 1) / 2 + (24 * 0.9375 - 10) / 0.6, abs=2)
    inside = np.argwhere(window[2] > 0.5)
    assert np.ptp(inside[:, 0]) * 0.6 == pytest.approx(8 * 0.9375, abs=1.5)
    assert window[4].all()
    assert not window[5:].any()


def test_window_of_a_finer_picture_shows_the_same_field() -> None:
    spot, probabilities, column = _tilted_disc()
    fine = np.kron(spot, np.ones((2, 2), dtype=np.float32))
    coarse, sharp = (disc_window(picture, probabilities, column, 0, 0.6)[0] for picture in (spot, fine))
    assert np.corrcoef(coarse.ravel(), sharp.ravel())[0, 1] > 0.97


def test_pfirrmann_grades_sum_to_one_even_when_the_answers_cross() -> None:
    answers = {"pfirrmann_2": 0.9, "pfirrmann_3": 0.6, "pfirrmann_4": 0.7, "pfirrmann_5": 0.1}
    grades = pfirrmann_grades(answers)
    assert sum(grades.values()) == pytest.approx(1)
    assert min(grades.values()) >= 0
    assert most_likely_grade(grades) == 4
    assert most_likely_grade({"1": 0.6, "2": 0.4, "3": 0.0, "4": 0.0, "5": 0.0}) == 1


def test_no_patient_is_in_two_folds() -> None:
    patients = np.repeat(np.arange(23), 6)
    folds = folds_of(patients, 5)
    assert all(len(set(folds[patients == patient])) == 1 for patient in range(23))
    assert set(folds) == set(range(5))


def test_augmentation_keeps_the_level_planes_and_never_mirrors() -> None:
    plan = grader_recipe().augmentation
    pictures = torch.zeros((8, CHANNELS, ROWS, COLUMNS))
    pictures[:, 0, :, COLUMNS // 2 :] = 1.0
    pictures[:, 4] = 1.0
    changed = augmented(pictures, plan, torch.Generator().manual_seed(0))
    assert torch.equal(changed[:, 4:], pictures[:, 4:])
    front, back = changed[:, 0, 30:50, 10:30].mean(dim=(1, 2)), changed[:, 0, 30:50, -30:-10].mean(dim=(1, 2))
    assert bool((back > front + 0.4).all())


def test_grader_learns_what_is_bright_and_its_calibration_is_a_probability() -> None:
    rng = np.random.default_rng(0)
    recipe = grader_recipe().model_copy(
        update={
            "steps": 60,
            "batch": 8,
            "network": GraderSpec(
                in_channels=CHANNELS, out_channels=len(QUESTIONS), first_channels=8, growth_rate=4, layers=(1, 1)
            ),
        }
    )
    answers = np.repeat(rng.integers(0, 2, (32, 1)), len(QUESTIONS), axis=1).astype(np.float32)
    pictures = rng.normal(0, 0.1, (32, CHANNELS, 24, 32)).astype(np.float32)
    pictures[:, 2, 8:16, 8:24] += answers[:, :1, None]
    windows = GradedWindows(pictures, answers, np.arange(32), np.ones(32, dtype=int), {})
    scores = scores_of(train(recipe, windows, np.arange(32), 1), pictures)
    assert roc_auc(np.stack([scores[:, 0], answers[:, 0]], axis=1)) > 0.95
    constants = calibration(scores, answers)
    assert constants["bulging_slope"] > 0


def test_quadratic_kappa_is_one_for_equal_grades_and_falls_with_distance() -> None:
    grades = np.array([1, 2, 3, 4, 5, 5])
    equal = np.stack([grades, grades], axis=1)
    near = np.stack([grades, np.clip(grades + 1, 1, 5)], axis=1)
    far = np.stack([grades, grades[::-1]], axis=1)
    assert quadratic_kappa(equal) == pytest.approx(1)
    assert quadratic_kappa(equal) > quadratic_kappa(near) > quadratic_kappa(far)
