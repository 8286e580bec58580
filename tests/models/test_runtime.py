"""A network runs on any image size, says what it ran on, and refuses what it cannot honour."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from models import DeviceUnavailableError, InputSpec, NetworkSpec, Segmenter, WeightsError, load_card, normalise
from models.calibration import LogisticHead, logistic, platt, with_temperature
from models.networks import build
from models.runtime import choose_device
from models.weights import Card, load_network, model_names


def _segmenter(kind: str = "unet", seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    spec = NetworkSpec.model_validate({"kind": kind, "out_channels": 3, "channels": [4, 8, 16], "residual_units": 1})
    card = Card(
        name="toy",
        network=spec,
        input=InputSpec(spacing_mm=1.0),
        classes=("background", "one", "two"),
        trained_on="nothing",
        recipe="none",
        command="none",
    )
    return Segmenter.of(card, build(spec))


@pytest.mark.parametrize("kind", ["unet", "dynunet"])
def test_probabilities_of_an_odd_sized_image_have_its_size_and_sum_to_one(kind: str) -> None:
    images = np.random.default_rng(0).normal(size=(5, 1, 37, 50)).astype(np.float32)
    probabilities = _segmenter(kind).probabilities(images)
    assert probabilities.shape == (5, 3, 37, 50)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_partner_is_averaged_in_with_its_own_scale_of_intensities() -> None:
    alone, partner = _segmenter(), _segmenter(seed=1)
    deviation = InputSpec(spacing_mm=1.0, unit="deviation")
    partner.card = partner.card.model_copy(update={"name": "other", "input": deviation})
    planes = np.random.default_rng(4).normal(3, 2, size=(3, 32, 32)).astype(np.float32)
    own = alone.plane_probabilities(planes)
    others = partner.plane_probabilities(normalise(planes, deviation))
    assert not np.allclose(own, others, atol=1e-3)
    alone.partner = partner
    assert np.allclose(alone.plane_probabilities(planes), (own + others) / 2, atol=1e-6)
    assert [card.name for card in alone.cards] == ["toy", "other"]


def test_deviations_do_not_depend_on_the_scanner_s_units() -> None:
    spec = InputSpec(spacing_mm=1.0, unit="deviation")
    image = np.random.default_rng(5).normal(100, 30, size=(40, 30)).astype(np.float32)
    scaled = normalise(image, spec)
    assert scaled.mean() == pytest.approx(0, abs=1e-5)
    assert scaled.std() == pytest.approx(1, abs=1e-4)
    assert np.allclose(scaled, normalise(7 * image + 400, spec), atol=1e-4)
    assert not normalise(np.full((4, 4), 9.0), spec).any()


def test_batch_size_changes_no_answer() -> None:
    segmenter = _segmenter()
    images = np.random.default_rng(1).normal(size=(5, 1, 32, 32)).astype(np.float32)
    together = segmenter.probabilities(images)
    segmenter.batch = 1
    assert np.allclose(together, segmenter.probabilities(images), atol=1e-6)


def test_images_with_another_number_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        _segmenter().probabilities(np.zeros((1, 2, 32, 32), dtype=np.float32))


def test_out_of_memory_lowers_the_batch_and_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = _segmenter()
    honest = segmenter._forward

    def crowded(images: torch.Tensor) -> np.ndarray:
        if len(images) > 1:
            raise torch.cuda.OutOfMemoryError("no room for two")
        return honest(images)

    monkeypatch.setattr(segmenter, "_forward", crowded)
    images = np.random.default_rng(2).normal(size=(3, 1, 32, 32)).astype(np.float32)
    assert segmenter.probabilities(images).shape == (3, 3, 32, 32)
    assert any("batch lowered to 1" in text for text in segmenter.fallbacks)


def test_cuda_asked_for_by_name_and_absent_is_an_error_while_auto_says_what_it_did() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceUnavailableError, match="0 CUDA"):
        choose_device("cuda")
    device, fallbacks = choose_device("auto")
    assert device == "cpu"
    assert "CPU was used" in fallbacks[0]


def test_unknown_device_is_an_error() -> None:
    with pytest.raises(DeviceUnavailableError, match="say auto"):
        choose_device("gpu0")


def test_card_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(WeightsError, match="sagittal"):
        load_card("coronal")


@pytest.mark.parametrize("name", model_names())
def test_shipped_network_is_the_one_of_its_card_and_small_enough(name: str) -> None:
    card = load_card(name)
    network = load_network(card)
    assert sum(value.numel() for value in network.parameters()) * 2 < 16e6
    assert card.trained_on
    assert card.command


def test_normalising_ignores_scale_offset_and_broken_pixels() -> None:
    image = np.random.default_rng(0).normal(size=(40, 40))
    spec = InputSpec(spacing_mm=1.0)
    assert np.allclose(normalise(image, spec), normalise(3000 * image + 500, spec), atol=1e-4)
    image[0, 0] = np.nan
    assert np.isfinite(normalise(image, spec)).all()
    assert not normalise(np.full((5, 5), 7.0), spec).any()


def test_logistic_head_gives_one_half_at_the_mean_and_rises_with_its_feature() -> None:
    head = LogisticHead(features=("a",), mean=(2.0,), scale=(1.0,), weights=(1.5,), intercept=0.0, fitted_on="test")
    assert head.probability({"a": 2.0}) == pytest.approx(0.5)
    assert head.probability({"a": float("nan")}) == pytest.approx(0.5)
    assert head.probability({"a": 3.0}) > 0.8
    with pytest.raises(KeyError):
        head.probability({})


def test_temperature_softens_and_keeps_the_order() -> None:
    sharp = np.array([[[0.9]], [[0.1]]])[None]
    soft = with_temperature(sharp, 3.0)
    assert soft.sum() == pytest.approx(1)
    assert 0.5 < soft[0, 0, 0, 0] < 0.9
    assert float(platt(0.0, 2.0, 0.0)) == pytest.approx(0.5)
    assert np.isfinite(logistic(np.array([-1e9, 1e9]))).all()


def test_importing_the_models_loads_no_torch() -> None:
    code = "import sys, models; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_planes_read_at_several_sizes_keep_their_pixels_and_average() -> None:
    segmenter = _segmenter()
    planes = np.random.default_rng(6).normal(size=(2, 41, 30)).astype(np.float32)
    once = segmenter.plane_probabilities(planes)
    several = segmenter.card.model_copy(update={"input": InputSpec(spacing_mm=1.0, scales=(0.8, 1.0, 1.25))})
    thrice = Segmenter.of(several, segmenter.network).plane_probabilities(planes)
    assert thrice.shape == once.shape
    assert np.allclose(thrice.sum(axis=1), 1, atol=1e-5)
    assert np.abs(thrice - once).max() > 0
    same = segmenter.card.model_copy(update={"input": InputSpec(spacing_mm=1.0, scales=(1.0, 1.0))})
    assert np.allclose(Segmenter.of(same, segmenter.network).plane_probabilities(planes), once, atol=1e-6)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        InputSpec(spacing_mm=1.0, scales=(0.0, 1.0))
