"""Fits what carries the axial network's labels to millimetres and probabilities, on simulated stacks of the validation seeds.

Writes the numbers into the cards: lines for recess depth, sac area and diameter and herniation extent with their errors, logistic
heads for a narrow recess and for a herniation. Real images take no part; the cards say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import grading
from dicom_io.geometry import Grid, SourceInstance, Volume
from dicom_io.study import Stack
from inference.herniation import Herniation, measure_herniation
from inference.localize import Disc
from inference.measure import SIDES, Canal, coverage, measure_canal
from inference.recess_depth import Depth, read_depths
from inference.segment import AxialReading, AxialSlice, sample_window, slice_windows
from inference.window_reading import read_windows
from models.calibration import LogisticHead
from models.intensity import normalise
from models.runtime import Segmenter
from models.weights import CARDS, write_card
from training.datasets.axial import Augmentation, degraded
from training.datasets.axial_crops import TRUTH, Crops, load_crops

FITTED_ON = "simulated images only"
_MARGIN_ERROR_MM = 1.2
_TILT_ERROR_DEG = 3.0
"""Discs are misplaced and misturned by this (one standard deviation), as sagittal slices would have it."""
_WORSE = Augmentation(noise=0.12, coarse=0.7)
"""Pictures beyond what trained, for the probability of a herniation: one that is called in noise must not be sure."""
_FOLDS = 5
_SD_FLOOR = 0.25


@dataclass(frozen=True)
class Case:
    """One simulated disc as it was read, with its exact truth by name and the person it belongs to."""

    axial: AxialReading
    truth: Mapping[str, float]
    seed: int


def simulated_readings(
    crops: Crops, segmenter: Segmenter, recess: Segmenter, rng: np.random.Generator, *, worsen: bool = False
) -> Iterator[Case]:
    """Read every stack of `crops` as `segment_axial` would read it, around a slightly misplaced disc.

    `worsen` gives every stack another contrast, shading, sharpness and noise (_WORSE).
    """
    for stack in np.unique(crops.stacks):
        members = np.flatnonzero(crops.stacks == stack)
        members = members[np.argsort(crops.offsets[members])]
        shown = Crops(**{field.name: getattr(crops, field.name)[members] for field in fields(Crops)})
        disc = misplaced_disc(shown.margins[0], shown.normals[0], rng)
        shown = _worsened(shown, rng) if worsen else shown
        axial = read_crops(shown, np.arange(len(members)), disc, segmenter, recess)
        truth = dict(zip(TRUTH, shown.truth[0].tolist(), strict=True))
        yield Case(axial, truth, int(shown.seeds[0]))


def _worsened(crops: Crops, rng: np.random.Generator) -> Crops:
    """The crops of one stack with their pictures changed alike, each with noise of its own."""
    shown = (crops.images / 255).astype(np.float32)
    images: NDArray[Any] = 255 * degraded(shown, crops.pixel_mm, _WORSE, rng)
    return replace(crops, images=images)


def misplaced_disc(margin: NDArray[np.float64], normal: NDArray[np.float64], rng: np.random.Generator) -> Disc:
    """A disc whose posterior margin (3,) and unit normal (3,) are off by as much as sagittal slices would have them."""
    margin = margin + rng.normal(0, _MARGIN_ERROR_MM, 3)
    normal = normal + rng.normal(0, np.radians(_TILT_ERROR_DEG), 3)
    return simulated_disc(margin, normal / np.linalg.norm(normal))


def simulated_disc(margin: NDArray[np.float64], normal: NDArray[np.float64]) -> Disc:
    """A disc whose place is known and whose other values are unknown."""
    return Disc(
        name="L4-L5",
        basis="simulated",
        confidence=1.0,
        alternative_name=None,
        centre_lps=margin - np.array([0.0, 17.0, 0.0]),
        normal=normal,
        posterior_margin_lps=margin,
        anterior_margin_lps=margin - np.array([0.0, 34.0, 0.0]),
        height_mm=8.0,
        ap_mm=34.0,
        volume_mm3=0.0,
        source_slice=0,
    )


def read_crops(
    crops: Crops, members: NDArray[np.int64], disc: Disc, segmenter: Segmenter, recess: Segmenter
) -> AxialReading:
    """Read simulated cuts of one disc, each as a stack of a single slice."""
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


def calibrate_axial(crops_folder: Path, *, device: str = "auto", cards: Path = CARDS) -> str:
    """Fit all numbers on the validation stacks, write them into both cards and return the figures."""
    segmenter, recess = Segmenter.load("axial", device), Segmenter.load("axial_recess", device)
    recess.card = recess.card.model_copy(update={"constants": {"sd_floor": 0.0}})
    crops = load_crops(crops_folder, "validation")
    cases = list(simulated_readings(crops, segmenter, recess, np.random.default_rng(11)))
    source = f"{FITTED_ON}: {len(cases)} discs of {len({case.seed for case in cases})} simulated persons"
    worse = list(simulated_readings(crops, segmenter, recess, np.random.default_rng(12), worsen=True))
    depth_constants, head, depth_lines = fit_depth(cases)
    canal_constants, canal_lines = _fit_canal(cases)
    hernia_constants, hernia_head, hernia_lines = _fit_herniation(cases, worse)
    lines = depth_lines + canal_lines + hernia_lines
    updates: tuple[tuple[Segmenter, dict[str, float], dict[str, LogisticHead], list[str]], ...] = (
        (
            segmenter,
            canal_constants | hernia_constants,
            {"recess": head, "herniation": hernia_head},
            canal_lines + hernia_lines,
        ),
        (recess, depth_constants, {}, depth_lines),
    )
    for network, constants, heads, figures in updates:
        metrics = {**network.card.metrics, "calibration": figures}
        write_card(
            network.card.model_copy(
                update={"constants": constants, "heads": heads, "calibrated_on": source, "metrics": metrics}
            ),
            cards,
        )
    return "\n".join(lines)


def fit_depth(cases: list[Case]) -> tuple[dict[str, float], LogisticHead, list[str]]:
    """Line and error of the recess network, and the probability of a narrow recess; figures are cross-validated by person."""
    depths: list[Depth] = []
    truth, people = [], []
    for case in cases:
        if coverage(case.axial) is None:
            for side in SIDES:
                depths.append(case.axial.depths[side])
                truth.append(case.truth[side])
                people.append(case.seed)
    x, spread = np.array([depth.value for depth in depths]), np.array([depth.sd for depth in depths])
    y, who = np.array(truth), np.array(people)
    predicted = np.zeros_like(y)
    for fold in range(_FOLDS):
        held = who % _FOLDS == fold
        slope, intercept = np.polyfit(x[~held], y[~held], 1)
        predicted[held] = np.maximum(slope * x[held] + intercept, 0.0)
    error = predicted - y
    slope, intercept = np.polyfit(x, y, 1)
    scale = float(np.sqrt(max(np.mean(error**2) - _SD_FLOOR**2, 0.01) / np.mean(spread**2)))
    constants = {"slope": float(slope), "intercept": float(intercept), "sd_scale": scale, "sd_floor": _SD_FLOOR}
    sds = np.hypot(_SD_FLOOR, scale * spread)
    cut = grading().recess.moderate_at_or_below
    head = logistic_head(("recess_mm", "recess_sd"), np.stack([predicted, sds], axis=1), y <= cut)
    bands = [(0.0, 2.0), (2.0, 3.6), (3.6, 6.0), (6.0, 20.0)]
    by_band = ", ".join(
        f"{low:g}-{high:g} mm {np.abs(error[(y >= low) & (y < high)]).mean():.2f} (n = {((y >= low) & (y < high)).sum()})"
        for low, high in bands
        if ((y >= low) & (y < high)).any()
    )
    inside = np.abs(error) <= 1.96 * sds
    lines = [
        f"recess depth, {len(y)} sides: mean abs error {np.abs(error).mean():.2f} mm, bias {error.mean():+.2f}, "
        f"95 % of errors {np.percentile(error, 2.5):+.2f} to {np.percentile(error, 97.5):+.2f}",
        f"recess depth by true depth: {by_band}",
        f"stated 95 % interval holds the truth in {inside.mean():.3f}; not covered {1 - len(y) / (2 * len(cases)):.3f}",
    ]
    return constants, head, lines


def _fit_canal(cases: list[Case]) -> tuple[dict[str, float], list[str]]:
    constants: dict[str, float] = {}
    lines = []
    pairs = [(measure_canal(case.axial, {}), case) for case in cases]
    found = [(canal, case) for canal, case in pairs if isinstance(canal, Canal)]
    for name, unit in (("area", "mm2"), ("ap", "mm")):
        x = np.array([getattr(canal, name).value for canal, _ in found])
        y = np.array([case.truth[f"sac_{name}"] for _, case in found])
        line, text = _line(f"canal_{name}", x, y)
        constants |= line
        lines.append(f"sac {name}, {len(y)} discs: {text} {unit}")
    return constants, lines


def _fit_herniation(cases: list[Case], worse: list[Case]) -> tuple[dict[str, float], LogisticHead, list[str]]:
    """Extent from the pictures as they are; then the probability from those and from worse ones, so that doubt counts."""
    positive = [
        (seen, case)
        for seen, case in _herniations(cases, {})
        if case.truth["hernia_extent"] > 0 and seen.extent.value > 0
    ]
    x = np.array([seen.extent.value for seen, _ in positive])
    y = np.array([case.truth["hernia_extent"] for _, case in positive])
    constants, text = _line("herniation", x, y)
    # as reading measures them: with the constants just found
    found, others = _herniations(cases, constants), _herniations(worse, constants)
    rows = np.array([list(seen.features.values()) for seen, _ in found + others])
    present = np.array([_present(case) for _, case in found + others])
    head = logistic_head(tuple(found[0][0].features), rows, present)
    sided = [(seen, case) for seen, case in found if abs(case.truth["hernia_u"]) > 3.0 and seen.type != "none"]
    sided = [(seen, case) for seen, case in sided if case.truth["hernia_extent"] > 0]
    right = sum((seen.offset_mm > 0) == (case.truth["hernia_u"] > 0) for seen, case in sided)
    lines = [
        f"herniation of 2 mm or more, {_called(found, head)}; in worse pictures {_called(others, head)}; "
        f"side right {right}/{len(sided)}; extent {text} mm",
    ]
    return constants, head, lines


_Seen = list[tuple[Herniation, Case]]


def _herniations(cases: list[Case], constants: Mapping[str, float]) -> _Seen:
    pairs = [(measure_herniation(case.axial, constants), case) for case in cases]
    return [(seen, case) for seen, case in pairs if isinstance(seen, Herniation)]


def _present(case: Case) -> bool:
    return case.truth["hernia_extent"] >= grading().herniation.present_at_or_above


def _called(found: _Seen, head: LogisticHead) -> str:
    called = np.array([seen.type != "none" and head.probability(seen.features) >= 0.5 for seen, _ in found])
    present = np.array([_present(case) for _, case in found])
    return (
        f"{len(found)} discs: sensitivity {called[present].mean():.3f} (n = {present.sum()}), "
        f"specificity {(~called[~present]).mean():.3f} (n = {(~present).sum()})"
    )


def _line(name: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[dict[str, float], str]:
    slope, intercept = np.polyfit(x, y, 1)
    error = slope * x + intercept - y
    constants = {f"{name}.slope": float(slope), f"{name}.intercept": float(intercept), f"{name}.sd": float(error.std())}
    return constants, f"mean abs error {np.abs(error).mean():.2f}, before the fit {np.abs(x - y).mean():.2f}"


def logistic_head(
    features: tuple[str, ...], rows: NDArray[Any], truth: NDArray[np.bool_], penalty: float = 1.0
) -> LogisticHead:
    """Logistic regression with an L2 penalty on standardised features, by Newton steps."""
    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    z = np.column_stack([np.ones(len(rows)), (rows - mean) / scale])
    weights = np.zeros(z.shape[1])
    ridge = penalty * np.eye(z.shape[1])
    ridge[0, 0] = 1e-6
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(z @ weights, -30, 30)))
        gradient = z.T @ (p - truth) + ridge @ weights
        hessian = (z * (p * (1 - p))[:, None]).T @ z + ridge
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if float(np.abs(step).max()) < 1e-8:
            break
    return LogisticHead(
        features=features,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(weights[1:].tolist()),
        intercept=float(weights[0]),
        fitted_on=FITTED_ON,
    )


def main() -> None:
    """`python -m training.calibrate_axial FOLDER`: fit on the validation shards in FOLDER and update the card."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    print(calibrate_axial(given.folder, device=given.device))  # noqa: T201


if __name__ == "__main__":
    main()
