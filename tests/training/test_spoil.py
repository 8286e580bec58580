"""Spoiled series: each fault shows where and how it does on a scanner, and a series that is not spoiled stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from inference.competence import competence
from inference.image_quality import PictureQuality, picture_quality
from training.phantom import StudyTruth, spoil


@pytest.fixture(scope="module")
def axial(small_study: tuple[Path, StudyTruth]) -> spoil.Series:
    paths = sorted((small_study[0] / "axial_t2").glob("*.dcm"))[1:3]
    return spoil.read_series([dcmread(path) for path in paths])


def _spoiled(series: spoil.Series, spoiler: spoil.Spoiler, seed: int = 3) -> spoil.Series:
    return spoiler(series, np.random.default_rng(seed))


def _quality(series: spoil.Series) -> PictureQuality:
    return picture_quality(series.pictures[0], (series.pixel_mm, series.pixel_mm))


def test_ghosts_grow_with_the_movement_and_keep_the_energy(axial: spoil.Series) -> None:
    away = [
        float(np.abs(_spoiled(axial, spoil.motion(strength)).pictures - axial.pictures).mean())
        for strength in ("slight", "moderate", "strong")
    ]
    assert away[0] < away[1] < away[2]
    strong = _spoiled(axial, spoil.motion("strong")).pictures
    assert np.square(strong).sum() == pytest.approx(np.square(axial.pictures).sum(), rel=0.01)


def test_noise_lowers_what_is_measured_as_signal_to_noise(axial: spoil.Series) -> None:
    assert _quality(_spoiled(axial, spoil.noise(6.0))).snr < 18 < _quality(axial).snr


def test_blur_softens_edges(axial: spoil.Series) -> None:
    assert _quality(_spoiled(axial, spoil.blur(3.5))).sharp < 1.65 < _quality(axial).sharp


def test_a_spike_is_one_wave_and_a_zipper_one_line(axial: spoil.Series) -> None:
    clean, spike, zipper = (
        _quality(item) for item in (axial, _spoiled(axial, spoil.spike(0.12), 4), _spoiled(axial, spoil.zipper(0.4)))
    )
    assert spike.stripe > 7
    assert clean.stripe < 7
    assert zipper.dash > 0.05
    assert clean.dash < 0.05


def test_wrapped_tissue_goes_on_at_the_other_end_and_places_stay_true(axial: spoil.Series) -> None:
    folded = _spoiled(axial, spoil.wrap(0.7, along_rows=True))
    assert folded.pictures.shape[1] < axial.pictures.shape[1]
    assert folded.pictures.shape[2] == axial.pictures.shape[2]
    row = folded.pictures.shape[1] // 2
    where = folded.affines[0][:3, 3] + row * folded.affines[0][:3, 1]
    before = np.linalg.norm(where - axial.affines[0][:3, 3]) / axial.pixel_mm
    assert before == pytest.approx(round(float(before)), abs=1e-3)
    assert np.array_equal(folded.pictures[0, row], axial.pictures[0, round(float(before))])
    cut = folded.pictures.shape[1]
    beyond = axial.pictures[0, round(float(before)) - row + cut]
    assert np.array_equal(folded.pictures[0, 0], axial.pictures[0, round(float(before)) - row] + beyond)


@pytest.mark.parametrize("seed", [0, 2, 5, 11])  # all axes and directions
def test_displaced_fat_is_measured_as_such(axial: spoil.Series, seed: int) -> None:
    displaced = _quality(_spoiled(axial, spoil.chemical_shift(4.0), seed))
    limit = competence().picture.largest_shift_axial
    assert max(abs(displaced.shift_down), abs(displaced.shift_across)) > limit
    clean = _quality(axial)
    assert max(abs(clean.shift_down), abs(clean.shift_across)) < limit


def test_metal_leaves_a_void_and_piles_signal_up_beside_it(axial: spoil.Series) -> None:
    middle = axial.lps(0)[axial.pictures.shape[1] // 2, axial.pictures.shape[2] // 2]
    after = _spoiled(axial, spoil.metal(middle[None], 5.0))
    near = np.linalg.norm(axial.lps(0) - middle, axis=-1)
    assert after.pictures[0][near < 3].mean() < 0.5 * axial.pictures[0][near < 3].mean()
    far = near > 45
    assert np.allclose(after.pictures[0][far], axial.pictures[0][far], rtol=0.05, atol=0.03 * axial.pictures.max())


def test_a_folder_is_spoiled_in_place_and_still_read(small_study: tuple[Path, StudyTruth], tmp_path: Path) -> None:
    for path in sorted((small_study[0] / "axial_t2").glob("*.dcm"))[:3]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = [dcmread(path).pixel_array for path in sorted(tmp_path.glob("*.dcm"))]
    spoil.spoil_folder(tmp_path, spoil.wrap(0.8, along_rows=True), np.random.default_rng(1))
    after = [dcmread(path) for path in sorted(tmp_path.glob("*.dcm"))]
    assert [item.Rows < picture.shape[0] for item, picture in zip(after, before, strict=True)] == [True] * 3
    assert all(item.pixel_array.shape == (item.Rows, item.Columns) for item in after)
