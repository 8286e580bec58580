"""Training samples of the sagittal network: a slice stays between its own neighbours, and labels move with the picture."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from models.intensity import InputSpec, with_context
from training.datasets.augment import Strength, change_brightness, change_intensity, place
from training.datasets.spider import build
from training.recipes import Recipe, load_recipe

_ROWS, _COLUMNS, _SLICES = 120, 90, 9


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two drawn slabs of one body, disc and canal whose brightness grows from slice to slice; patient 2 belongs to the test part."""
    folder = tmp_path / "spider" / "t2space_slabs"
    folder.mkdir(parents=True)
    midsag = tmp_path / "spider" / "midsag"
    midsag.mkdir()
    (midsag / "index.csv").write_text("patient,sequence,file,pixel_spacing_stored,subset\n")
    lines = ["patient,spacing_slice,spacing_si,spacing_ap,subset"]
    for patient, subset in ((1, "training"), (2, "validation"), (22, "training"), (78, "training")):
        mask = np.zeros((_SLICES, _COLUMNS, _ROWS), dtype=np.uint8)
        mask[:, 20:50, 60:90] = 1
        mask[:, 20:50, 45:55] = 201
        mask[:, 55:65, 20:110] = 100
        image = (mask > 0) * 60 + 10 * np.arange(_SLICES)[:, None, None]
        for name, array in (("img", image), ("mask", mask)):
            nibabel.save(
                nibabel.Nifti1Image(array.astype(np.uint8), np.eye(4)),
                str(folder / f"{patient}_t2_SPACE_0p94_{name}.nii.gz"),
            )
        lines.append(f"{patient},0.9,0.9375,0.9375,{subset}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def recipe() -> Recipe:
    shipped = load_recipe("sagittal_slabs")
    return shipped.model_copy(update={"data": {"choice_patients": [22, 78], "size": [96, 80]}})


def test_test_patients_never_appear_in_training_or_choice(recipe: Recipe, data: Path) -> None:
    rng = np.random.default_rng(0)
    training = build(recipe, "train", rng, data)
    assert {next(training).patient for _ in range(20)} == {"1"}
    assert {sample.patient for sample in build(recipe, "validation", rng, data)} == {"22", "78"}
    assert {sample.patient for sample in build(recipe, "test", rng, data)} == {"2"}


def test_samples_have_a_slice_between_its_neighbours_and_every_class(recipe: Recipe, data: Path) -> None:
    training = build(recipe, "train", np.random.default_rng(1), data)
    samples = [next(training) for _ in range(20)]
    assert {sample.image.shape for sample in samples} == {(3, 96, 80)}
    assert {sample.target.shape for sample in samples} == {(96, 80)}
    assert {0, 1, 2, 3} == set(np.unique(np.concatenate([sample.target.ravel() for sample in samples])))


def test_labels_move_with_the_picture() -> None:
    target = np.zeros((120, 90), dtype=np.int16)
    target[40:70, 30:60] = 1
    image = np.repeat(target[None].astype(np.float32), 3, axis=0)
    rng = np.random.default_rng(2)
    for _ in range(10):
        moved, labels = place(image, target, (100, 80), Strength(), rng)
        assert np.mean((moved > 0.5) != (labels[None] == 1)) < 0.02


def test_bent_labels_stay_on_their_picture_and_the_whole_column_stays_in_the_window() -> None:
    image = np.zeros((1, 120, 60), dtype=np.float32)
    target = np.zeros((120, 60), dtype=np.int64)
    image[:, 20:100, 20:40] = target[20:100, 20:40] = 1
    rng = np.random.default_rng(4)
    bent = Strength(rotation_deg=5.0, scale=(0.95, 1.05), elastic=1.5)
    for _ in range(10):
        moved, labels = place(image, target, (160, 120), bent, rng, whole=True)
        assert labels.sum() == pytest.approx(80 * 20, rel=0.25)
        assert np.mean((moved[0] > 0.5) == (labels > 0)) > 0.99
    straight = place(image, target, (160, 120), Strength(rotation_deg=0, scale=(1, 1), stretch=0), rng, whole=True)[1]
    assert straight.sum() == 80 * 20


def test_brightness_changes_keep_the_mean_of_standardised_pictures_near_zero() -> None:
    rng = np.random.default_rng(5)
    image = rng.normal(size=(3, 64, 64)).astype(np.float32)
    plain = Strength(bias=0, noise=0)
    assert np.allclose(change_brightness(image, plain, rng), image, atol=1e-6)
    changed = change_brightness(image, Strength(gain=0.25, offset=0.15, bias=0.2, noise=0.1), rng)
    assert abs(float(changed.mean())) < 0.2
    assert 0.6 < float(changed.std()) < 1.6
    assert not np.allclose(changed, image, atol=0.05)


def test_all_channels_get_the_same_tone_and_shading() -> None:
    image = np.repeat(np.random.default_rng(3).random((1, 60, 50)).astype(np.float32), 3, axis=0)
    changed = change_intensity(image, Strength(noise=0.0), np.random.default_rng(4))
    assert np.allclose(changed[0], changed[1])
    assert np.allclose(changed[0], changed[2])
    assert not np.allclose(changed, image)


def test_context_is_taken_at_its_distance_and_ends_repeat() -> None:
    planes = np.arange(7, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), dtype=np.float32)
    spec = InputSpec(spacing_mm=1.0, context_mm=3.0)
    thin = with_context(planes, 0.9, spec)[:, :, 0, 0]
    assert thin[3].tolist() == [0, 3, 6]
    assert thin[0].tolist() == [0, 0, 3]
    thick = with_context(planes, 4.4, spec)[:, :, 0, 0]
    assert thick[3].tolist() == [2, 3, 4]
    assert with_context(planes[:1], 1.0, spec)[0, :, 0, 0].tolist() == [0, 0, 0]
    assert with_context(planes, 0.9, InputSpec(spacing_mm=1.0)).shape == (7, 1, 4, 4)
