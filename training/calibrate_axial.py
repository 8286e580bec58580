"""Fits what carries the axial networks' labels to millimetres and probabilities, on whole simulated studies read as the program reads them.

Persons and scanners of one half lie within the ranges of training, of the other outside, so that the errors that are stated hold for
poor pictures too. Writes the numbers into the cards: lines for recess depth, sac area and diameter and herniation extent with their
errors, logistic heads for a narrow recess and for a herniation. Real images take no part; the cards say so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import anatomy, grading
from dicom_io import read_study
from inference.axial_doubts import axial_doubts
from inference.herniation import Herniation, measure_herniation
from inference.localize import locate_discs
from inference.measure import SIDES, Canal, coverage, measure_canal, slice_gap
from inference.recess_depth import Depth
from inference.segment import AxialReading, segment_axial
from models.calibration import LogisticHead
from models.runtime import Segmenter
from models.weights import CARDS, write_card
from training.datasets.axial_crops import seeds_of
from training.evaluate_phantom import NEAR_MM, off_level_mm
from training.phantom.synth import make_study

FITTED_ON = "simulated images only"
_PARTS: tuple[tuple[str, str | None], ...] = (("calibration", None), ("calibration_beyond", "beyond"))
"""Folder, which is also the name of the first seed, and protocol of the simulated studies."""
_FOLDS = 5
_SD_FLOOR = 0.25
_SD_LIMITS = (1.2, 1.4, 1.6, 1.8, 2.0, 2.5)
"""Of recess.largest_uncertainty_mm in configs/reading.toml, to choose it by."""


@dataclass(frozen=True)
class Case:
    """One simulated disc as it was read, with the exact truth of its level (truth.json), its person, and whether it is out of range."""

    axial: AxialReading
    truth: Mapping[str, Any]
    seed: int
    beyond: bool

    @property
    def hernia_mm(self) -> float:
        """True extent of the herniation, 0 without one."""
        return float(self.truth["herniation"]["extent_mm"]) if self.truth["herniation"] else 0.0


def study_cases(runs: Path, count: int, device: str, workers: int) -> list[Case]:
    """Make (or reuse) twice `count` studies under `runs` and read the discs of the levels that are read fully, as far as undoubted."""
    jobs = [(runs / name, seed, protocol) for name, protocol in _PARTS for seed in seeds_of(name, count)]
    # spawned, because a forked child of a process that has used torch may hang
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_load_networks, initargs=(device,)) as pool:
        return [case for cases in pool.map(_make_and_read, jobs) for case in cases]


_NETWORKS: list[Segmenter] = []
"""Those of a worker process: sagittal, axial, recess as it is before any fit."""


def _load_networks(device: str) -> None:
    _NETWORKS.extend(Segmenter.load(name, device) for name in ("sagittal", "axial", "axial_recess"))
    recess = _NETWORKS[-1]
    recess.card = recess.card.model_copy(update={"constants": {"sd_floor": 0.0}})


def _make_and_read(job: tuple[Path, int, str | None]) -> list[Case]:
    folder = make_study(*job, with_labels=False)
    sagittal, segmenter, recess = _NETWORKS
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    levels = {level["name"]: level for level in truth["levels"] if level["name"] in anatomy().read_levels}
    study = read_study([folder / series["role"] for series in truth["series"]])
    spine = locate_discs(study.with_role("sagittal_t2")[0].volume, sagittal)
    named = [disc for disc in spine.discs if disc.name in levels]
    discs = [disc for disc in named if off_level_mm(disc.centre_lps, levels[disc.name]) <= NEAR_MM]
    found = segment_axial(study.with_role("axial_t2"), discs, segmenter, recess)
    return [
        Case(replace(item, label_map=None), levels[item.disc.name], int(truth["seed"]), job[2] is not None)
        for item in found
        if not axial_doubts((item,))
    ]


def calibrate_axial(runs: Path, *, count: int = 90, device: str = "auto", workers: int = 2, cards: Path = CARDS) -> str:
    """Fit all numbers on `count` studies within the ranges of training and as many outside, write the cards, return the figures."""
    segmenter, recess = Segmenter.load("axial", device), Segmenter.load("axial_recess", device)
    cases = study_cases(runs, count, device, workers)
    source = f"{FITTED_ON}: {len(cases)} discs of {len({case.seed for case in cases})} simulated persons"
    depth_constants, head, depth_lines = fit_depth(cases)
    canal_constants, canal_lines = _fit_canal(cases)
    hernia_constants, hernia_head, hernia_lines = _fit_herniation(cases)
    lines = [*_placement(cases), *depth_lines, *canal_lines, *hernia_lines]
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


def _placement(cases: Sequence[Case]) -> list[str]:
    """How far discs lie along their normal from where sagittal slices place them, and from where axial slices then do."""
    rows = []
    for case in cases:
        disc = case.axial.disc
        along = float((np.asarray(case.truth["posterior_margin_lps"]) - disc.posterior_margin_lps) @ disc.normal)
        rows.append((case.beyond, along, along - case.axial.along_mm))
    table = np.array(rows)
    return [
        f"disc along its normal {where} the ranges of training, {len(part)} discs, mean abs error: placed by sagittal slices "
        f"{np.abs(part[:, 1]).mean():.2f} mm (95 % below {np.percentile(np.abs(part[:, 1]), 95):.1f}), by axial ones "
        f"{np.abs(part[:, 2]).mean():.2f} mm ({np.percentile(np.abs(part[:, 2]), 95):.1f})"
        for where, part in (("within", table[table[:, 0] == 0]), ("outside", table[table[:, 0] == 1]))
        if len(part)
    ]


def fit_depth(cases: list[Case]) -> tuple[dict[str, float], LogisticHead, list[str]]:
    """Line and error of the recess network, and the probability of a narrow recess; figures are cross-validated by person."""
    depths: list[Depth] = []
    truth, people, outside = [], [], []
    for case in cases:
        if coverage(case.axial) is None:
            for side in SIDES:
                depths.append(case.axial.depths[side])
                truth.append(case.truth[side]["recess_depth_soft_mm"])
                people.append(case.seed)
                outside.append(case.beyond)
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
    beyond = np.array(outside)
    by_limit = ", ".join(_within(limit, error[beyond], sds[beyond]) for limit in _SD_LIMITS if beyond.any())
    lines = [
        f"recess depth, {len(y)} sides: mean abs error {np.abs(error).mean():.2f} mm, bias {error.mean():+.2f}, "
        f"95 % of errors {np.percentile(error, 2.5):+.2f} to {np.percentile(error, 97.5):+.2f}",
        f"recess depth by true depth: {by_band}",
        f"stated 95 % interval holds the truth in {inside.mean():.3f}; not covered {1 - len(y) / (2 * len(cases)):.3f}",
        f"recess depth outside the ranges of training, limits of agreement and share withheld by the largest stated error: {by_limit}",
    ]
    return constants, head, lines


def _within(limit: float, error: NDArray[np.float64], sds: NDArray[np.float64]) -> str:
    """Limits of agreement (mm) of the depths whose stated standard deviation is at most `limit`, and the share of the others."""
    kept = error[sds <= limit]
    low, high = kept.mean() - 1.96 * kept.std(ddof=1), kept.mean() + 1.96 * kept.std(ddof=1)
    return f"{limit:g} mm {low:+.2f} to {high:+.2f}, {1 - len(kept) / len(error):.3f} of {len(error)}"


def _fit_canal(cases: list[Case]) -> tuple[dict[str, float], list[str]]:
    constants: dict[str, float] = {}
    lines = []
    pairs = [(measure_canal(case.axial, {}), case) for case in cases if slice_gap(case.axial) is None]
    found = [(canal, case) for canal, case in pairs if isinstance(canal, Canal)]
    for name, unit in (("area", "mm2"), ("ap", "mm")):
        x = np.array([getattr(canal, name).value for canal, _ in found])
        y = np.array([case.truth[f"sac_{name}_{unit}"] for _, case in found])
        line, text = _line(f"canal_{name}", x, y)
        constants |= line
        lines.append(f"sac {name}, {len(y)} discs: {text} {unit}")
    return constants, lines


def _fit_herniation(cases: list[Case]) -> tuple[dict[str, float], LogisticHead, list[str]]:
    """Extent, and the probability from what is measured with it, as reading will measure it; its figures are cross-validated."""
    positive = [(seen, case) for seen, case in _herniations(cases, {}) if case.hernia_mm > 0 and seen.extent.value > 0]
    x = np.array([seen.extent.value for seen, _ in positive])
    y = np.array([case.hernia_mm for _, case in positive])
    constants, text = _line("herniation", x, y)
    found = _herniations(cases, constants)
    names = tuple(found[0][0].features)
    rows = np.array([list(seen.features.values()) for seen, _ in found])
    present, who = np.array([_present(case) for _, case in found]), np.array([case.seed for _, case in found])
    chances = np.zeros(len(found))
    for fold in range(_FOLDS):
        held = who % _FOLDS == fold
        head = logistic_head(names, rows[~held], present[~held])
        chances[held] = [head.probability(seen.features) for (seen, _), out in zip(found, held, strict=True) if out]
    sided = [
        (seen, case.truth["herniation"]["u_mm"])
        for seen, case in found
        if case.hernia_mm > 0 and seen.type != "none" and abs(case.truth["herniation"]["u_mm"]) > 3.0
    ]
    right = sum((seen.offset_mm > 0) == (u_mm > 0) for seen, u_mm in sided)
    beyond = np.array([case.beyond for _, case in found])
    called = np.array([seen.type != "none" for seen, _ in found]) & (chances >= 0.5)
    lines = [
        f"herniation of 2 mm or more, {_called(called[~beyond], present[~beyond])}; outside the ranges of training "
        f"{_called(called[beyond], present[beyond])}; side right {right}/{len(sided)}; extent {text} mm",
    ]
    return constants, logistic_head(names, rows, present), lines


_Seen = list[tuple[Herniation, Case]]


def _herniations(cases: list[Case], constants: Mapping[str, float]) -> _Seen:
    pairs = [(measure_herniation(case.axial, constants), case) for case in cases if slice_gap(case.axial) is None]
    return [(seen, case) for seen, case in pairs if isinstance(seen, Herniation)]


def _present(case: Case) -> bool:
    return case.hernia_mm >= grading().herniation.present_at_or_above


def _called(called: NDArray[np.bool_], present: NDArray[np.bool_]) -> str:
    return (
        f"{len(called)} discs: sensitivity {called[present].mean():.3f} (n = {present.sum()}), "
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
    """`python -m training.calibrate_axial RUNS [--count 90] [--workers 2]`: fit on simulated studies and update the cards."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument(
        "--count", type=int, default=90, help="studies within the ranges of training, and as many outside"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    print(calibrate_axial(given.runs, count=given.count, device=given.device, workers=given.workers))  # noqa: T201


if __name__ == "__main__":
    main()
