"""Fits what carries the axial network's labels to millimetres and probabilities, on simulated stacks of the validation seeds.

Writes the numbers into the card: a ridge regression for the recess depth, lines for sac area and diameter and herniation extent,
logistic heads for a narrow recess and for a herniation. Real images take no part; the card says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import grading
from dicom_io.geometry import Grid, SourceInstance, Volume
from dicom_io.study import Stack
from inference.localize import Disc
from inference.measure import (
    RECESS_FEATURES,
    SIDES,
    Canal,
    Herniation,
    coverage,
    level_features,
    measure_canal,
    measure_herniation,
    recess_depth,
)
from inference.segment import AxialReading, AxialSlice, read_windows, sample_window, slice_windows
from models.calibration import LogisticHead
from models.intensity import normalise
from models.runtime import Segmenter
from models.weights import CARDS, write_card
from training.datasets.axial_crops import TRUTH, Crops, load_crops

FITTED_ON = "simulated images only"
_MARGIN_ERROR_MM = 1.2
_TILT_ERROR_DEG = 3.0
"""Discs are misplaced and misturned by this (one standard deviation), as sagittal slices would have it."""
_RIDGE = 3.0
_FOLDS = 5


@dataclass(frozen=True)
class Case:
    """One simulated disc as it was read, with its exact truth by name and the person it belongs to."""

    axial: AxialReading
    truth: Mapping[str, float]
    seed: int


def simulated_readings(crops: Crops, segmenter: Segmenter, rng: np.random.Generator) -> Iterator[Case]:
    """Read every stack of `crops` as `segment_axial` would read it, around a slightly misplaced disc."""
    for stack in np.unique(crops.stacks):
        members = np.flatnonzero(crops.stacks == stack)
        members = members[np.argsort(crops.offsets[members])]
        margin = crops.margins[members[0]] + rng.normal(0, _MARGIN_ERROR_MM, 3)
        normal = crops.normals[members[0]] + rng.normal(0, np.radians(_TILT_ERROR_DEG), 3)
        disc = simulated_disc(margin, normal / np.linalg.norm(normal))
        axial = read_crops(crops, members, disc, segmenter)
        truth = dict(zip(TRUTH, crops.truth[members[0]].tolist(), strict=True))
        yield Case(axial, truth, int(crops.seeds[members[0]]))


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


def read_crops(crops: Crops, members: NDArray[np.int64], disc: Disc, segmenter: Segmenter) -> AxialReading:
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
    probabilities = read_windows(images, segmenter)
    tilt = float(np.degrees(np.arccos(np.clip(abs(volumes[0].grid.normal @ disc.normal), 0, 1))))
    found = [
        AxialSlice(number, volume.instances[0], offset, tilt, window, images[number], probabilities[number])
        for number, (volume, _, offset, window) in enumerate(slices)
    ]
    found.sort(key=lambda item: item.offset_mm)
    step = float(np.max(np.diff([item.offset_mm for item in found]))) if len(found) > 1 else float("inf")
    return AxialReading(disc, stack, segmenter.card.classes, tuple(found), step, None)


def calibrate_axial(crops_folder: Path, *, device: str = "auto", cards: Path = CARDS) -> str:
    """Fit all numbers on the validation stacks, write them into the card and return the figures, cross-validated by person."""
    segmenter = Segmenter.load("axial", device)
    crops = load_crops(crops_folder, "validation")
    cases = list(simulated_readings(crops, segmenter, np.random.default_rng(11)))
    constants, heads, lines = fit_numbers(cases)
    card = segmenter.card.model_copy(
        update={
            "constants": constants,
            "heads": heads,
            "calibrated_on": f"{FITTED_ON}: {len(cases)} discs of {len({case.seed for case in cases})} simulated persons",
            "metrics": {**segmenter.card.metrics, "calibration": lines},
        }
    )
    write_card(card, cards)
    return "\n".join(lines)


def fit_numbers(cases: list[Case]) -> tuple[dict[str, float], dict[str, LogisticHead], list[str]]:
    """Constants and heads for the card, and lines of figures."""
    constants, heads, lines = _fit_recess(cases)
    for part in (_fit_canal(cases), _fit_herniation(cases)):
        constants |= part[0]
        heads |= part[1]
        lines += part[2]
    return constants, heads, lines


def _fit_recess(cases: list[Case]) -> tuple[dict[str, float], dict[str, LogisticHead], list[str]]:
    names = [f"{kind}_{feature}" for feature in RECESS_FEATURES for kind in ("least", "mean")]
    rows, truth, people = [], [], []
    for case in cases:
        if coverage(case.axial) is not None:
            continue
        for side in SIDES:
            features = level_features(case.axial, side)
            rows.append([features[name] for name in names])
            truth.append(case.truth[side])
            people.append(case.seed)
    x, y, who = np.array(rows), np.array(truth), np.array(people)
    predicted = np.zeros_like(y)
    for fold in range(_FOLDS):
        held = who % _FOLDS == fold
        predicted[held] = np.maximum(_apply(x[held], _ridge(x[~held], y[~held])), 0)
    error = predicted - y
    weights = _ridge(x, y)
    spread = np.abs(x[:, names.index("least_gap")] - x[:, names.index("least_lowest")])
    slope = max(float(np.polyfit(spread, np.abs(error) * np.sqrt(np.pi / 2), 1)[0]), 0.0)
    sd = float(np.sqrt(max(float(np.mean(error**2)) - slope**2 * float(np.mean(spread**2)), 0.04)))
    constants = {f"recess.{name}": float(value) for name, value in zip(names, weights[1:], strict=True)}
    constants |= {"recess.intercept": float(weights[0]), "recess.sd": sd, "recess.sd_per_spread": slope}
    sds = np.array([recess_depth(dict(zip(names, row, strict=True)), constants)[1] for row in x])
    cut = grading().recess.moderate_at_or_below
    head = logistic_head(("recess_mm", "recess_sd"), np.stack([predicted, sds], axis=1), y <= cut)
    mid = (y > 0) & (y < 8)
    raw = x[:, names.index("least_lowest")] - y
    lines = [
        f"recess depth, {len(y)} sides, cross-validated by person: mean abs error {np.abs(error).mean():.2f} mm, bias {error.mean():+.2f}, "
        f"95 % limits {np.percentile(error, 2.5):+.2f} to {np.percentile(error, 97.5):+.2f}; between 0 and 8 mm {np.abs(error[mid]).mean():.2f}; "
        f"label extent alone {np.abs(raw).mean():.2f}; not covered {1 - len(y) / (2 * len(cases)):.3f}",
    ]
    return constants, {"recess": head}, lines


def _fit_canal(cases: list[Case]) -> tuple[dict[str, float], dict[str, LogisticHead], list[str]]:
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
    return constants, {}, lines


def _fit_herniation(cases: list[Case]) -> tuple[dict[str, float], dict[str, LogisticHead], list[str]]:
    pairs = [(measure_herniation(case.axial, {}), case) for case in cases]
    found = [(seen, case) for seen, case in pairs if isinstance(seen, Herniation)]
    present = np.array([case.truth["hernia_extent"] >= grading().herniation.present_at_or_above for _, case in found])
    rows = np.array([[seen.probability, seen.area_mm2, seen.extent.value] for seen, _ in found])
    head = logistic_head(("peak", "area_mm2", "extent_mm"), rows, present)
    positive = [(seen, case) for seen, case in found if case.truth["hernia_extent"] > 0 and seen.extent.value > 0]
    x = np.array([seen.extent.value for seen, _ in positive])
    y = np.array([case.truth["hernia_extent"] for _, case in positive])
    constants, text = _line("herniation", x, y)
    called = np.array([seen.type != "none" for seen, _ in found])
    sided = [(seen, case) for seen, case in positive if abs(case.truth["hernia_u"]) > 3.0 and seen.type != "none"]
    right = sum((seen.offset_mm > 0) == (case.truth["hernia_u"] > 0) for seen, case in sided)
    lines = [
        f"herniation of 2 mm or more, {len(found)} discs: sensitivity {called[present].mean():.3f} (n = {present.sum()}), "
        f"specificity {(~called[~present]).mean():.3f} (n = {(~present).sum()}); side right {right}/{len(sided)}; extent {text} mm",
    ]
    return constants, {"herniation": head}, lines


def _line(name: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[dict[str, float], str]:
    slope, intercept = np.polyfit(x, y, 1)
    error = slope * x + intercept - y
    constants = {f"{name}.slope": float(slope), f"{name}.intercept": float(intercept), f"{name}.sd": float(error.std())}
    return constants, f"mean abs error {np.abs(error).mean():.2f}, before the fit {np.abs(x - y).mean():.2f}"


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intercept and weights; the penalty acts on standardised features."""
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    z = (x - mean) / scale
    weights = np.linalg.solve(z.T @ z + _RIDGE * np.eye(x.shape[1]), z.T @ (y - y.mean())) / scale
    return np.append(y.mean() - weights @ mean, weights)


def _apply(x: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights[0] + x @ weights[1:])


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
