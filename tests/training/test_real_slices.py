"""Figures on real slices: distances between outlines, repeats of the recess depth, realism and risk-coverage say what they claim."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from inference.disc_grades import PFIRRMANN, QUESTIONS
from models.runtime import Segmenter
from training.datasets.notes import HERNIATION, Noted, noted_levels, picture_of
from training.evaluate_coverage import SURE, Curve, area, curve_text, curves_of_grades, draw, risk_at, risks
from training.evaluate_realism import (
    Crops,
    coarser,
    cross_scores,
    draw_sheet,
    folds_of,
    noise_of,
    same_histogram,
    same_noise,
    scaled,
    texture_features,
    together,
)
from training.evaluate_recess import Depths, changes, named_side_line, neighbour_text, read_recesses, repeat_text
from training.intervals import roc_auc
from training.outline_distance import FINE, agreement, fine_grid, margin_distance, outline_masks

DATA = Path(os.environ.get("RECESS_DATA") or "../shared/data")
DISC = np.array([[40.0, 40.0], [120.0, 40.0], [120.0, 80.0], [40.0, 80.0]])
SAC = np.array([[70.0, 84.0], [90.0, 84.0], [90.0, 100.0], [70.0, 100.0]])


def moved(outline: np.ndarray, columns: float, rows: float) -> np.ndarray:
    return outline + np.array([columns, rows])


def compared(disc: np.ndarray, sac: np.ndarray, pixel_mm: float = 0.6) -> object:
    grid = fine_grid(DISC, SAC, pixel_mm)
    return agreement(outline_masks(disc, sac, grid), outline_masks(DISC, SAC, grid), grid.pixel_mm)


def test_the_same_outline_is_no_distance_away() -> None:
    found = compared(DISC, SAC)
    assert (found.disc_dice, found.sac_dice, found.sac_mm, found.margin_mm) == (1.0, 1.0, 0.0, 0.0)


def test_a_disc_that_reaches_two_pixels_farther_back_has_its_margin_that_many_millimetres_away() -> None:
    longer = DISC.copy()
    longer[2:, 1] += 2.0
    found = compared(longer, SAC)
    assert found.margin_mm == pytest.approx(2 * 0.6, abs=0.6 / FINE)
    assert found.sac_mm == 0.0


def test_only_the_part_of_the_disc_that_faces_the_canal_counts() -> None:
    front, side = DISC.copy(), DISC.copy()
    front[:2, 1] -= 5.0
    side[1:3, 0] += 6.0
    for outline in (front, side):
        found = compared(outline, SAC)
        assert found.margin_mm == 0.0
        assert found.disc_dice < 1.0


def test_a_moved_sac_is_away_by_less_than_it_was_moved() -> None:
    found = compared(DISC, moved(SAC, 0.0, 1.0))
    assert 0.0 < found.sac_mm < 0.6


def test_a_disc_or_sac_that_is_not_seen_has_no_distance() -> None:
    grid = fine_grid(DISC, SAC, 0.6)
    disc, sac = outline_masks(DISC, SAC, grid)
    none = np.zeros_like(sac)
    found = agreement((none, none), (disc, sac), grid.pixel_mm)
    assert np.isnan(found.sac_mm)
    assert np.isnan(found.margin_mm)
    assert np.isnan(margin_distance(disc, disc, none, grid.pixel_mm))


def depths(left: float, right: float) -> Depths:
    return Depths(np.array([left, right]), (None, None))


def test_a_mirrored_reading_is_compared_side_by_side_with_sides_exchanged() -> None:
    first, mirrored = [depths(2.0, 5.0), depths(4.0, 4.5)], [depths(5.1, 2.1), depths(4.6, 4.1)]
    assert "mean +0.10 mm" in repeat_text(first, mirrored, ["a", "b"], mirrored=True)
    assert "changed in 0 of 1" in repeat_text(first, mirrored, ["a", "b"], mirrored=True)
    assert "changed in 1 of 1" in repeat_text(first, mirrored, ["a", "b"])


def test_what_one_reading_withholds_is_counted_and_not_averaged() -> None:
    text = repeat_text([depths(2.0, 5.0)], [depths(float("nan"), 5.0)], ["a"])
    assert "in one reading only 1" in text


def test_a_recess_reads_the_same_on_the_mirrored_picture() -> None:
    if not (DATA / "axial").is_dir():
        pytest.skip(f"no axial pictures in {DATA}")
    segmenter, recess = Segmenter.load("axial", "cpu"), Segmenter.load("axial_recess", "cpu")
    items = [item for item in noted_levels(DATA / "axial") if item.level == "L4-L5"][:2]
    pictures = [picture_of(DATA / "axial", item) for item in items]
    name, mirror, exchanged = changes(np.random.default_rng(0))[0]
    assert (name, exchanged) == ("mirrored picture", True)
    straight = read_recesses(pictures, segmenter, recess)
    again = read_recesses([mirror(picture) for picture in pictures], segmenter, recess)
    for one, other in zip(straight, again, strict=True):
        assert other.depth[::-1] == pytest.approx(one.depth, abs=0.5)


def test_the_named_side_is_compared_with_the_narrower_recess() -> None:
    nothing = (False, False, False)
    items = [
        Noted(name, "L4-L5", HERNIATION, side, False, nothing, nothing, False) for name, side in (("a", 1), ("b", -1))
    ]
    assert "2/2" in named_side_line([depths(1.0, 3.0), depths(3.0, 1.0)], items)
    assert "1/2" in named_side_line([depths(1.0, 3.0), depths(1.0, 3.0)], items)


def test_surest_half_is_right_where_confidence_tells_right_from_wrong() -> None:
    rows = np.array([[0.9, 0.0], [0.8, 0.0], [0.2, 1.0], [0.1, 1.0]])
    assert risks(rows) == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert risk_at(rows, 0.5) == 0.0
    assert risk_at(rows, 1.0) == 0.5
    assert area(rows) < area(rows * [-1, 1])


def test_equally_sure_readings_have_no_order() -> None:
    rows = np.array([[0.5, 1.0], [0.5, 0.0], [0.5, 0.0], [0.5, 1.0]])
    assert risks(rows) == pytest.approx([0.5] * 4)


def test_a_curve_is_printed_with_its_coverages_and_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(60)
    wrong = (rng.random(60) > confidence).astype(float)
    curves = [
        Curve("side (axial T1, notes)", confidence, wrong, np.arange(60)),
        Curve("recess depth (simulated studies)", confidence, 1 - confidence, np.arange(60), "mm"),
    ]
    text = curve_text(curves[0])
    assert f"at {SURE:.0%}" in text
    assert "n = 60 of 60 patients" in text
    draw(curves, tmp_path / "curves.png")
    assert 5_000 < (tmp_path / "curves.png").stat().st_size < 200_000


def test_grades_that_follow_the_reader_are_never_wrong_and_their_noise_is_paid_at_full_coverage() -> None:
    rng = np.random.default_rng(4)
    grade = rng.integers(1, 6, 300)
    answers = np.stack(
        [grade >= int(name[-1]) if name in PFIRRMANN else rng.random(300) > 0.5 for name in QUESTIONS], axis=1
    ).astype(np.float32)
    sharp = curves_of_grades(8.0 * (answers - 0.5), answers, np.arange(300))
    assert {curve.name for curve in sharp} > {"Pfirrmann grade (SPIDER)", "bulging (SPIDER)"}
    assert all(curve.error.sum() == 0 for curve in sharp)
    noisy = curves_of_grades(2.0 * (answers - 0.5) + rng.normal(0, 1, answers.shape), answers, np.arange(300))
    for curve in noisy:
        rows = np.stack([curve.confidence, curve.error], axis=1)
        assert risk_at(rows, 0.5) < risk_at(rows, 1.0)


def pictures(seed: int, noise: float, count: int = 40) -> list[tuple[str, np.ndarray]]:
    """Blurred noise with a little white noise on it, one picture a person."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((count, 93, 93)), (0, 4, 4))
    images = smooth / smooth.std() + noise * rng.standard_normal(smooth.shape)
    return [(f"{seed} {number}", image.astype(np.float32)) for number, image in enumerate(images)]


def told_apart(crops: Crops) -> float:
    return roc_auc(np.stack([cross_scores(texture_features(crops), crops, None), crops.real], axis=1))


def test_pictures_of_one_kind_cannot_be_told_apart_and_noise_gives_itself_away_until_it_is_matched() -> None:
    alike = together(pictures(1, 0.1), pictures(2, 0.1), 0.6875)
    assert 0.25 < told_apart(alike) < 0.75
    noisier = together(pictures(1, 0.1), pictures(2, 0.3), 0.6875)
    assert told_apart(noisier) > 0.95
    level = noise_of(same_noise(noisier).images)
    assert np.median(level[noisier.real]) == pytest.approx(np.median(level[~noisier.real]), rel=0.1)


def test_matched_histograms_are_the_same_histogram_and_coarse_crops_have_millimetre_pixels() -> None:
    crops = together(pictures(1, 0.1, 6), pictures(2, 0.3, 6), 0.6875)
    values = np.sort(same_histogram(crops).images.reshape(12, -1), axis=1)
    assert np.ptp(values, axis=0).max() == 0.0
    assert coarser(crops).images.shape[1:] == (64, 64)


def test_a_sheet_has_rows_of_real_above_rows_of_simulated_crops(tmp_path: Path) -> None:
    from PIL import Image

    white = [(str(number), np.full((20, 20), 1.0, dtype=np.float32)) for number in range(14)]
    crops = Crops(
        np.stack([picture for _, picture in white]), np.arange(14) < 13, np.array([name for name, _ in white]), 1.0
    )
    draw_sheet(crops, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        seen = np.asarray(sheet)
    assert seen.shape == (4 * 30, 12 * 30)
    assert [int((seen[15 + 30 * row, 15::30] > 200).sum()) for row in range(4)] == [12, 1, 1, 0]


def test_a_person_is_in_one_fold_and_a_crop_is_scaled_to_itself() -> None:
    people = np.repeat(np.arange(20), 3).astype(str)
    fold = folds_of(people)
    assert all(len(set(fold[people == name])) == 1 for name in set(people))
    assert len(set(fold)) == 5
    picture = np.linspace(100, 900, 400, dtype=np.float32).reshape(20, 20)
    assert np.percentile(scaled(picture), (1, 99)) == pytest.approx([0.0, 1.0], abs=1e-3)


def test_slices_of_one_patient_are_compared_with_each_other_alone() -> None:
    class One:
        def __init__(self, patient: str) -> None:
            self.patient = patient

    slices = [One("a"), One("b"), One("a")]
    text = neighbour_text([depths(2.0, 5.0), depths(9.0, 9.0), depths(3.0, 5.0)], slices)  # type: ignore[arg-type]
    assert "mean absolute difference 0.50" in text
    assert "2 sides" in text
