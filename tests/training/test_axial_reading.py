"""The shipped axial networks on one simulated disc they never saw: tissue, side and millimetres, and the same for its mirror image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_io.geometry import Grid, SourceInstance, Volume
from dicom_io.study import Stack
from inference.localize import Disc
from inference.measure import measure_level
from inference.recess_depth import Depth, read_depths
from inference.segment import AxialReading, AxialSlice, class_names, sample_window, slice_windows
from inference.sizes import Size
from inference.window_reading import read_windows
from models.intensity import normalise
from models.runtime import Segmenter
from training.datasets.axial import swap_sides
from training.datasets.axial_crops import FIRST_SEED, TRUTH, Crops, crops_of
from training.evaluate_axial import dice
from training.simulated_disc import simulated_disc

SEED = FIRST_SEED["study"] + 500_000


@pytest.fixture(scope="module")
def networks() -> tuple[Segmenter, Segmenter]:
    return Segmenter.load("axial", "cpu"), Segmenter.load("axial_recess", "cpu")


@pytest.fixture(scope="module")
def crops() -> Crops:
    return crops_of("validation", [SEED], levels=("L4-L5",))


def read_crops(
    crops: Crops, members: NDArray[np.int64], disc: Disc, segmenter: Segmenter, recess: Segmenter
) -> AxialReading:
    """Cuts of one disc read as the slices of one stack."""
    slices = []
    volumes = []
    for member in members:
        grid = Grid((1, *crops.images.shape[1:]), crops.affines[member])
        volume = Volume(crops.images[member][None].astype(np.float32), grid, (SourceInstance(f"simulated.{member}"),))
        volumes.append(volume)
        slices += [
            (volume, *window)
            for window in slice_windows(volume, disc.posterior_margin_lps, disc.normal, segmenter.spacing_mm)
        ]
    stack = Stack(volumes[0], "axial_t2", "simulated", "simulated", None, "", None, None)
    if not slices:
        return AxialReading(disc, stack, segmenter.card.classes, (), float("inf"), None)
    images = np.stack(
        [normalise(sample_window(volume, 0, window), segmenter.card.input) for volume, _, _, window in slices]
    )
    step_mm = float(np.median(np.diff([offset for _, _, offset, _ in slices]))) if len(slices) > 1 else 1.0
    probabilities = read_windows(images, segmenter, step_mm)
    tilt = float(np.degrees(np.arccos(np.clip(abs(volumes[0].grid.normal @ disc.normal), 0, 1))))
    found = [
        AxialSlice(number, volume.instances[0], offset, tilt, window, images[number], probabilities[number])
        for number, (volume, _, offset, window) in enumerate(slices)
    ]
    found.sort(key=lambda item: item.offset_mm)
    step = float(np.max(np.diff([item.offset_mm for item in found]))) if len(found) > 1 else float("inf")
    return AxialReading(disc, stack, segmenter.card.classes, tuple(found), step, None, read_depths(found, recess))


def read(crops: Crops, networks: tuple[Segmenter, Segmenter]) -> AxialReading:
    disc = simulated_disc(crops.margins[0], crops.normals[0])
    return read_crops(crops, np.argsort(crops.offsets), disc, *networks)


@pytest.fixture(scope="module")
def reading(crops: Crops, networks: tuple[Segmenter, Segmenter]) -> AxialReading:
    return read(crops, networks)


def mirrored(crops: Crops) -> Crops:
    """The same person in a mirror: pictures, labels and places reversed from left to right."""
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    width = crops.images.shape[2]
    reverse = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, width - 1], [0, 0, 0, 1]])
    side = np.array([-1.0, 1.0, 1.0])
    return replace(
        crops,
        images=crops.images[:, :, ::-1],
        labels=swap_sides(crops.labels[:, :, ::-1]),
        affines=flip @ crops.affines @ reverse,
        margins=crops.margins * side,
        normals=crops.normals * side,
    )


def test_disc_sac_and_facets_are_found_where_they_are(reading: AxialReading, crops: Crops) -> None:
    at_disc = min(reading.slices, key=lambda item: abs(item.offset_mm))
    member = int(at_disc.instance.sop_instance_uid.rsplit(".", 1)[1])
    affine = np.linalg.inv(crops.affines[member])
    rows, columns = np.mgrid[: at_disc.window.size, : at_disc.window.size]
    points = at_disc.window.to_lps(rows, columns) @ affine[:3, :3].T + affine[:3, 3]
    index = np.clip(np.rint(points[..., 1:]).astype(int), 0, crops.labels.shape[1] - 1)
    truth = crops.labels[member][index[..., 0], index[..., 1]]
    for name, least in (("disc", 0.9), ("thecal_sac", 0.85), ("facets", 0.7)):
        value = class_names().index(name)
        assert dice(at_disc.labels == value, truth == value) > least, name


def test_depth_of_both_recesses_is_near_the_truth(reading: AxialReading, crops: Crops) -> None:
    sizes = measure_level(reading, {})
    for side in ("left", "right"):
        depth = sizes.recess[side]
        assert isinstance(depth, Size)
        assert depth.value == pytest.approx(crops.truth[0][TRUTH.index(side)], abs=1.5)


def test_mirror_image_of_a_person_has_the_same_depths_on_exchanged_sides(
    reading: AxialReading, crops: Crops, networks: tuple[Segmenter, Segmenter]
) -> None:
    other = read(mirrored(crops), networks)
    for side, opposite in (("left", "right"), ("right", "left")):
        here, there = reading.depths[side], other.depths[opposite]
        assert isinstance(there, Depth)
        assert there.value == pytest.approx(here.value, abs=0.05)
