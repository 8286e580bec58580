"""The whole reader on whole simulated DICOM studies of seeds that no training, choice or calibration used, against exact truth.

Truth is what `training.phantom.truth` computes from the shapes, graded by the same bands without noise. Good figures here say that
the chain is sound; they are no clinical performance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from configs import anatomy, grading
from inference.grade import canal_severity, recess_severity
from inference.report import Finding, Report
from inference.segment import LabelMap
from training.datasets.axial_crops import seeds_of
from training.intervals import bootstrap_interval

if TYPE_CHECKING:
    from inference.analyze import Engine

_SIDES = ("left", "right")
_GRADES = ("normal_mild", "moderate", "severe")
_CALLED = frozenset({"protrusion", "extrusion", "sequestration"})
_LATERAL_MM = 3.0
"""A herniation centred farther than this from the midline has a side that must be right."""
_DIFFERENT_MM = 2.0
_WIDE_MM = 5.0
"""Recesses of one disc that differ by more than _DIFFERENT_MM must come out in the right order, unless both are wide (Ciric 1980:
5 mm and more are normal) and there is no side to name."""
NEAR_MM = 8.0
"""A disc farther than this from the one of its name (`off_level_mm`) is another disc."""
_LARGE_MM = 3.0
"""A herniation of this extent must not be missed; those below `present_at_or_above` count as none."""
_DOUBTED = frozenset({"NUMBERING_UNCERTAIN", "LEVEL_AMBIGUOUS"})
_BINS = 10
_TISSUES = ("thecal_sac", "disc", "herniated_material")


@dataclass(frozen=True)
class Compared:
    """One study. Pairs are (measured, true) in mm or mm2; sites (flagged, truly so); probabilities (given, truly so).

    `herniations` are (called, extent); `overlaps` hold 2 * intersection and both sizes in pixels by tissue, over the slices that were
    read; `wrong_sides` and `levels_off` name what stood on the wrong side or at the wrong disc, `levels_missing` what was not found;
    `names_doubted`: the report says that the names may be others.
    """

    seed: int
    recess: tuple[tuple[float, float], ...]
    recess_sites: int
    areas: tuple[tuple[float, float], ...]
    diameters: tuple[tuple[float, float], ...]
    herniations: tuple[tuple[bool, float], ...]
    extents: tuple[tuple[float, float], ...]
    flags: tuple[tuple[bool, bool], ...]
    recess_probabilities: tuple[tuple[float, bool], ...]
    herniation_probabilities: tuple[tuple[float, bool], ...]
    overlaps: Mapping[str, tuple[int, int]]
    wrong_sides: tuple[str, ...]
    sided: int
    levels_off: tuple[str, ...]
    levels_missing: tuple[str, ...]
    names_doubted: bool
    withheld: tuple[str, ...]


def evaluate_phantom(
    runs: Path, *, count: int = 60, beyond: bool = False, device: str = "auto", workers: int = 2
) -> str:
    """Make (or reuse) `count` studies under `runs`, read each as a user would, and return lines of figures.

    `beyond` draws persons and scanners outside the ranges of training (configs/training/phantom_beyond.toml).
    """
    folder, kind, protocol = ("phantom_beyond", "beyond", "beyond") if beyond else ("phantom_studies", "study", None)
    seeds = seeds_of(kind, count)
    jobs = [(runs / folder, seed, protocol) for seed in seeds]
    # spawned, because a forked child of a process that has used torch may hang
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_load_engine, initargs=(device,)) as pool:
        compared = list(pool.map(_make_and_read, jobs))
    title = "outside the ranges of training" if beyond else "within the ranges of training"
    return "\n".join([f"{count} simulated studies {title}, seeds from {seeds.start}", *figures(compared)])


_ENGINE: list[Engine] = []
"""The networks of a worker process."""


def _load_engine(device: str) -> None:
    from inference.analyze import Engine

    _ENGINE.append(Engine.load(device))


def _make_and_read(job: tuple[Path, int, str | None]) -> Compared:
    from dicom_io import read_study
    from inference.analyze import analyze
    from training.phantom.synth import make_study

    folder = make_study(*job, with_labels=True)
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    reading = analyze(read_study([folder / series["role"] for series in truth["series"]]), engine=_ENGINE[0])
    axial = next(series for series in truth["series"] if series["role"] == "axial_t2")
    labels = dict(zip(axial["sop_instance_uids"], np.load(folder / "labels.npz")["axial"], strict=True))
    maps = [label_map for label_map in reading.label_maps if label_map.plane != "sagittal"]
    return compare(reading.report, truth, _overlaps(maps, labels))


def _overlaps(maps: Sequence[LabelMap], truth: Mapping[str, NDArray[np.uint8]]) -> dict[str, tuple[int, int]]:
    """By tissue, twice the common pixels and the sum of both, over the slices read for the levels that are read fully."""
    sums = dict.fromkeys(_TISSUES, (0, 0))
    for label_map in maps:
        for index, level in enumerate(label_map.levels):
            if level not in anatomy().read_levels:
                continue
            true, found = truth[label_map.source.instances[index].sop_instance_uid], label_map.array[index]
            for name in _TISSUES:
                value = anatomy().axial.value(name)
                a, b = true == value, found == value
                twice, both = sums[name]
                sums[name] = (twice + 2 * int((a & b).sum()), both + int(a.sum()) + int(b.sum()))
    return sums


def compare(
    report: Report, truth: Mapping[str, Any], overlaps: Mapping[str, tuple[int, int]] | None = None
) -> Compared:
    """Hold one report against the truth of its study at the levels that are read fully."""
    recess, areas, diameters, herniations, extents = [], [], [], [], []
    flags, recess_probabilities, herniation_probabilities = [], [], []
    wrong, off, missing = [], [], []
    sided = sites = 0
    true_levels = {level["name"]: level for level in truth["levels"]}
    read_levels = {level.name: level for level in report.levels}
    for name in anatomy().read_levels:
        level = true_levels[name]
        if name not in read_levels:
            missing.append(name)
        elif off_level_mm(read_levels[name].disc_centre_lps, level) > NEAR_MM:
            off.append(name)
        here = [finding for finding in report.findings if finding.level == name]
        depths: dict[str, float] = {}
        sites += len(_SIDES)
        for side in _SIDES:
            found, true = _find(here, "recess_stenosis", side), level[side]["recess_depth_soft_mm"]
            depth = _value(found, "recess_mm")
            if found is None or depth is None:
                continue
            narrow = recess_severity(true) != "normal_mild"
            depths[side] = depth
            recess.append((depth, true))
            flags.append((found.flagged, narrow))
            if found.probability is not None:
                recess_probabilities.append((found.probability, narrow))
        difference = level["left"]["recess_depth_soft_mm"] - level["right"]["recess_depth_soft_mm"]
        narrower = min(level[side]["recess_depth_soft_mm"] for side in _SIDES)
        if abs(difference) > _DIFFERENT_MM and narrower < _WIDE_MM and len(depths) == len(_SIDES):
            sided += 1
            if (depths["left"] - depths["right"]) * difference <= 0:
                wrong.append(f"{name} recess")
        canal = _find(here, "canal_stenosis", None)
        area, diameter = _value(canal, "area_mm2"), _value(canal, "ap_mm")
        if canal is not None and area is not None and diameter is not None:
            areas.append((area, level["sac_area_mm2"]))
            diameters.append((diameter, level["sac_ap_mm"]))
            flags.append((canal.flagged, canal_severity(level["sac_area_mm2"]) != "normal_mild"))
        found = _find(here, "herniation", None)
        if found is None:
            continue
        hernia = level["herniation"]
        true_extent = hernia["extent_mm"] if hernia is not None else 0.0
        present = true_extent >= grading().herniation.present_at_or_above
        called = found.type in _CALLED
        herniations.append((called, true_extent))
        flags.append((found.flagged, present))
        if found.probability is not None:
            herniation_probabilities.append((found.probability, present))
        extent = _value(found, "ap_mm")
        if called and present and extent is not None:
            extents.append((extent, true_extent))
        if called and present and abs(hernia["u_mm"]) > _LATERAL_MM and found.side in _SIDES:
            sided += 1
            if found.side != ("left" if hernia["u_mm"] > 0 else "right"):
                wrong.append(f"{name} herniation")
    return Compared(
        seed=int(truth["seed"]),
        recess=tuple(recess),
        recess_sites=sites,
        areas=tuple(areas),
        diameters=tuple(diameters),
        herniations=tuple(herniations),
        extents=tuple(extents),
        flags=tuple(flags),
        recess_probabilities=tuple(recess_probabilities),
        herniation_probabilities=tuple(herniation_probabilities),
        overlaps=dict(overlaps or {}),
        wrong_sides=tuple(wrong),
        sided=sided,
        levels_off=tuple(off),
        levels_missing=tuple(missing),
        names_doubted=bool(_DOUBTED & {warning.code for warning in report.warnings}),
        withheld=tuple(f"{item.level} {item.kind} {item.side or ''} {item.code}" for item in report.withheld),
    )


def figures(compared: Sequence[Compared]) -> list[str]:
    """Lines of figures over all studies, each with its n and, where it can have one, a 95 % interval (studies drawn, or Wilson)."""
    studies = len(compared)
    sites = sum(item.recess_sites for item in compared)
    wrong = [item for item in compared if item.wrong_sides]
    sided = sum(item.sided for item in compared)
    withheld = sites - sum(len(item.recess) for item in compared)
    off = sum(len(item.levels_off) + len(item.levels_missing) for item in compared)
    misnamed = [item for item in compared if item.levels_off]
    silent = sum(not item.names_doubted for item in misnamed)
    absent = sum(bool(item.levels_missing) for item in compared)
    doubted = sum(item.names_doubted and not item.levels_off and not item.levels_missing for item in compared)
    levels = len(anatomy().read_levels) * studies
    calls, flags = _rows(compared, "herniations"), _rows(compared, "flags")
    called, extent = calls[0][:, 0] > 0, calls[0][:, 1]
    least = grading().herniation.present_at_or_above
    false = flags[0][flags[0][:, 1] == 0, 0]
    lines = [
        f"levels {' and '.join(anatomy().read_levels)}, named and placed within {NEAR_MM:g} mm: {_share(levels - off, levels)}",
        f"a level under a wrong name in {len(misnamed)} studies, without a warning in {silent}; a level not found in {absent}; "
        f"names doubted though right in {doubted} of {studies}",
        f"side right in {_share(studies - len(wrong), studies)} studies ({sided} comparisons: lateral herniations, and recesses "
        f"that differ by {_DIFFERENT_MM:g} mm with the narrower under {_WIDE_MM:g} mm)",
        *(f"Dice {name}: {_dice(compared, name)}" for name in _TISSUES),
        f"recess depth: {_agreement(compared, 'recess', 'mm')}; withheld {_share(withheld, sites)}",
        f"recess severity: {_with_interval(compared, 'recess', lambda rows: _kappa(rows, recess_severity))} quadratic kappa",
        f"sac area: {_agreement(compared, 'areas', 'mm2')}",
        f"canal severity: {_with_interval(compared, 'areas', lambda rows: _kappa(rows, canal_severity))} quadratic kappa",
        f"sac diameter: {_agreement(compared, 'diameters', 'mm')}",
        f"herniation of {least:g} mm or more: sensitivity {_shares(called[extent >= least])}, "
        f"specificity {_shares(~called[extent < least])}",
        f"herniation of {_LARGE_MM:g} mm or more: sensitivity {_shares(called[extent >= _LARGE_MM])}",
        f"herniation extent: {_agreement(compared, 'extents', 'mm')}",
        f"calibration error of the probability of a narrow recess: {_with_interval(compared, 'recess_probabilities', _calibration)}",
        f"calibration error of the probability of a herniation: "
        f"{_with_interval(compared, 'herniation_probabilities', _calibration)}",
        f"false flags: {_shares(false > 0)} of the sites that are truly normal",
    ]
    lines += [f"wrong side: seed {item.seed}: {', '.join(item.wrong_sides)}" for item in wrong]
    lines += [f"level off: seed {item.seed}: {', '.join(item.levels_off)}" for item in compared if item.levels_off]
    codes = [text for item in compared for text in item.withheld]
    return lines + [f"withheld: {text}: {codes.count(text)}" for text in sorted(set(codes))]


def _rows(compared: Sequence[Compared], name: str) -> tuple[NDArray[np.float64], list[int]]:
    """All pairs of a kind (n, 2) and the seed that each came from."""
    rows = [(pair, item.seed) for item in compared for pair in getattr(item, name)]
    return np.array([pair for pair, _ in rows], dtype=np.float64).reshape(-1, 2), [seed for _, seed in rows]


def _find(findings: Sequence[Finding], kind: str, side: str | None) -> Finding | None:
    return next((item for item in findings if item.kind == kind and side in (None, item.side)), None)


def _value(finding: Finding | None, name: str) -> float | None:
    if finding is None:
        return None
    return next((item.value for item in finding.measurements if item.name == name), None)


def off_level_mm(centre_lps: Sequence[float] | NDArray[np.float64], level: Mapping[str, Any]) -> float:
    """Distance of a disc's centre (3,) in mm from that of a true level (truth.json), along the disc's normal: whether it is the same
    disc, not whether its middle is the same point.
    """
    return float(abs((np.asarray(centre_lps) - np.asarray(level["disc_centre_lps"])) @ np.asarray(level["normal_lps"])))


def _agreement(compared: Sequence[Compared], name: str, unit: str) -> str:
    rows, seeds = _rows(compared, name)
    if len(rows) < 2:
        return f"n = {len(rows)}"
    error = rows[:, 0] - rows[:, 1]
    mean, sd = float(error.mean()), float(error.std(ddof=1))
    low, high = bootstrap_interval(np.abs(error), seeds)
    return (
        f"mean abs error {np.abs(error).mean():.2f} {unit} (95 % {low:.2f} to {high:.2f}), bias {mean:+.2f}, 95 % limits of agreement "
        f"{mean - 1.96 * sd:+.2f} to {mean + 1.96 * sd:+.2f} (n = {len(error)})"
    )


def _with_interval(compared: Sequence[Compared], name: str, statistic: Callable[[NDArray[Any]], float]) -> str:
    rows, seeds = _rows(compared, name)
    if not len(rows):
        return "no case"
    low, high = bootstrap_interval(rows, seeds, statistic, draws=500)
    return f"{statistic(rows):.3f} (95 % {low:.3f} to {high:.3f}, n = {len(rows)})"


def _dice(compared: Sequence[Compared], name: str) -> str:
    """Mean over the studies in which the tissue is, in truth or in the reading, on a slice that was read; and of all their pixels."""
    parts = [(item.overlaps[name], item.seed) for item in compared if item.overlaps.get(name, (0, 0))[1]]
    if not parts:
        return "no case"
    rows, seeds = np.array([part for part, _ in parts], dtype=np.float64), [seed for _, seed in parts]
    low, high = bootstrap_interval(rows[:, 0] / rows[:, 1], seeds)
    pooled_low, pooled_high = bootstrap_interval(rows, seeds, _pooled, draws=500)
    return (
        f"{(rows[:, 0] / rows[:, 1]).mean():.3f} (95 % {low:.3f} to {high:.3f}, n = {len(rows)} studies); all pixels together "
        f"{_pooled(rows):.3f} ({pooled_low:.3f} to {pooled_high:.3f})"
    )


def _pooled(rows: NDArray[Any]) -> float:
    """Share of twice the common pixels (first column) in both sizes together (second)."""
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def _kappa(pairs: NDArray[Any], grade: Callable[[float], str]) -> float:
    """Quadratically weighted kappa of the grades of both values; nan without spread."""
    table = np.zeros((len(_GRADES), len(_GRADES)))
    for measured, true in pairs:
        table[_GRADES.index(grade(measured)), _GRADES.index(grade(true))] += 1
    weights = np.subtract.outer(np.arange(len(_GRADES)), np.arange(len(_GRADES))) ** 2
    by_chance = float((weights * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()) / len(pairs)
    return 1 - float((weights * table).sum()) / by_chance if by_chance else float("nan")


def _calibration(rows: NDArray[Any]) -> float:
    """Expected calibration error: mean distance of given probability and frequency over ten equal bins, weighted by their size."""
    bins = np.minimum((rows[:, 0] * _BINS).astype(int), _BINS - 1)
    off = np.bincount(bins, rows[:, 0] - rows[:, 1], minlength=_BINS)
    return float(np.abs(off).sum() / len(rows))


def _shares(calls: NDArray[np.bool_]) -> str:
    return _share(int(calls.sum()), len(calls))


def _share(part: int, whole: int) -> str:
    """A share with its Wilson interval."""
    if not whole:
        return "no case"
    interval = binomtest(part, whole).proportion_ci(method="wilson")
    return f"{part / whole:.3f} ({part}/{whole}, 95 % {interval.low:.3f} to {interval.high:.3f})"
