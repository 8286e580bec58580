"""A disc is placed along its normal by its axial slices, whatever the distance and the tilt of those."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from inference import segment
from inference.placement import offset_along_normal
from inference.segment import AxialReading, class_names, reading, segment_axial
from tests.inference.axial_scene import MARGIN, disc, painted_reading, stack

DISC = class_names().index("disc")
UP = np.array([0.0, 0.0, 1.0])


def with_disc_at(scene: AxialReading, shift_mm: float, normal: NDArray[np.float64] = UP) -> AxialReading:
    """The scene with a disc 8 mm high whose middle lies `shift_mm` along `normal` from where it is expected; slices 3 mm thick."""
    half, thick = scene.disc.height_mm / 2, 3.0
    slices = []
    for item in scene.slices:
        rows, columns = np.mgrid[: item.window.size, : item.window.size]
        height = (item.window.to_lps(rows, columns) - MARGIN) @ normal - shift_mm
        low, high = np.maximum(height - thick / 2, -half), np.minimum(height + thick / 2, half)
        share = np.clip((high - low) / thick, 0, 1)
        probabilities = item.probabilities.copy()
        probabilities[DISC] *= share
        slices.append(replace(item, probabilities=probabilities))
    return replace(scene, slices=tuple(slices))


def found(scene: AxialReading) -> float:
    step = scene.stack.volume.grid.spacing[0]
    return offset_along_normal(scene.slices, scene.disc, MARGIN, DISC, step, reading().window.anterior_mm)


@pytest.mark.parametrize("spacing", [3.0, 4.0, 5.2])
@pytest.mark.parametrize("shift_mm", [-6.0, -2.5, 0.0, 2.5, 5.0])
def test_a_disc_is_found_where_the_slices_show_it(spacing: float, shift_mm: float) -> None:
    scene = painted_reading(stack(spacing=spacing, slices=16), sub=1)
    assert found(with_disc_at(scene, shift_mm)) == pytest.approx(shift_mm, abs=1.2)


def test_a_tilted_disc_is_followed_along_its_own_normal() -> None:
    tilt = np.radians(25.0)
    normal = np.array([0.0, -np.sin(tilt), np.cos(tilt)])
    scene = painted_reading(stack(slices=16), disc(normal=normal), sub=1)
    assert found(with_disc_at(scene, 3.0, normal)) == pytest.approx(3.0, abs=1.2)


def test_a_network_that_calls_everything_disc_moves_nothing() -> None:
    scene = painted_reading(stack(spacing=3.0, slices=16), sub=1)
    assert {item.offset_mm < 0 for item in scene.slices} == {True, False}
    assert found(scene) == pytest.approx(0.0, abs=0.5)


def test_slices_that_show_no_border_leave_the_disc_where_it_was() -> None:
    scene = painted_reading(sub=1)
    middle = min(scene.slices, key=lambda item: abs(item.offset_mm))
    assert abs(middle.offset_mm) < 0.5
    assert found(replace(scene, slices=(middle,))) == pytest.approx(0.0, abs=0.3)
    assert found(replace(scene, slices=())) == pytest.approx(0.0)


@pytest.mark.parametrize(("shift_mm", "anew"), [(0.6, False), (-5.0, True)])
def test_slices_are_counted_from_where_they_show_the_disc(
    monkeypatch: pytest.MonkeyPatch, shift_mm: float, anew: bool
) -> None:
    source = stack(slices=16)
    heights = source.volume.grid.to_lps(np.array([[index, 0.0, 0.0] for index in range(16)]))[:, 2] - MARGIN[2]
    share = np.clip((4.0 + 2.0 - np.abs(heights - shift_mm)) / 4.0, 0, 1)
    painted = np.broadcast_to(share[:, None, None], source.volume.grid.shape).astype(np.float32)
    source = replace(source, volume=replace(source.volume, array=painted))
    read: list[int] = []

    def as_painted(images: NDArray[np.float32], *_: object) -> NDArray[np.float32]:
        read.append(len(images))
        probabilities = np.zeros((len(images), len(class_names()), *images.shape[1:]), dtype=np.float32)
        probabilities[:, DISC] = images
        return probabilities

    monkeypatch.setattr(segment, "normalise", lambda image, _: image)
    monkeypatch.setattr(segment, "read_windows", as_painted)
    network = SimpleNamespace(spacing_mm=0.6, card=SimpleNamespace(input=None, classes=class_names()))
    # of a level that no recess is read for
    level = disc(name="L1-L2")
    (reading_,) = segment_axial([source], [level], network, network)  # type: ignore[arg-type]
    assert (len(read) > 1) == anew
    low, high = reading().slices.read_mm
    for item in reading_.slices:
        assert item.offset_mm == pytest.approx(heights[item.index] - shift_mm, abs=0.8)
        assert low - 1 <= item.offset_mm <= high + 1
    # whatever lies within reach of the disc was read
    inside = [index for index, height in enumerate(heights) if low + 1 <= height - shift_mm <= high - 1]
    assert set(inside) <= {item.index for item in reading_.slices}
