"""The whole reader on whole simulated DICOM studies of seeds that no training, choice or calibration used, against exact truth.

Truth is what `training.phantom.truth` computes from the shapes, graded by the same bands without noise. Good figures here say that
the chain is sound; they are no clinical performance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs import anatomy, grading
from inference.grade import canal_severity, recess_severity
from inference.report import Finding, Report
from training.datasets.axial_crops import FIRST_SEED

_SIDES = ("left", "right")
_GRADES = ("normal_mild", "moderate", "severe")
_LATERAL_MM = 3.0
"""A herniation centred farther than this from the midline has a side that must be right."""
_DIFFERENT_MM = 2.0
_WIDE_MM = 5.0
"""Recesses of one disc that differ by more than _DIFFERENT_MM must come out in the right order, unless both are wide (Ciric 1980:
5 mm and more are normal) and there is no side to name."""
_NEAR_MM = 8.0


@dataclass(frozen=True)
class Compared:
    """One study: pairs (measured, true) and what was withheld; `wrong_sides` names what stood on the wrong side."""

    seed: int
    recess: tuple[tuple[float, float], ...]
    recess_sites: int
    areas: tuple[tuple[float, float], ...]
    diameters: tuple[tuple[float, float], ...]
    herniations: tuple[tuple[bool, bool], ...]
    extents: tuple[tuple[float, float], ...]
    wrong_sides: tuple[str, ...]
    sided: int
    levels_off: tuple[str, ...]
    withheld: tuple[str, ...]


def evaluate_phantom(runs: Path, *, count: int = 60, device: str = "auto", workers: int = 2) -> str:
    """Make (or reuse) `count` studies under `runs`, read each as a user would, and return lines of figures."""
    from dicom_io import read_study
    from inference.analyze import Engine, analyze
    from training.phantom.synth import synthesise

    folders = sorted(synthesise(runs / "phantom_studies", count, FIRST_SEED["study"], workers=workers))
    engine = Engine.load(device)
    compared = []
    for folder in folders:
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        study = read_study([folder / series["role"] for series in truth["series"]])
        compared.append(compare(analyze(study, engine=engine).report, truth))
    return "\n".join(figures(compared))


def compare(report: Report, truth: Mapping[str, Any]) -> Compared:
    """Hold one report against the truth of its study at the levels that are read fully."""
    recess, areas, diameters, herniations, extents = [], [], [], [], []
    wrong, off = [], []
    sided = sites = 0
    true_levels = {level["name"]: level for level in truth["levels"]}
    read_levels = {level.name: level for level in report.levels}
    for name in anatomy().read_levels:
        level = true_levels[name]
        if (
            name not in read_levels
            or _distance(read_levels[name].disc_centre_lps, level["disc_centre_lps"], level) > _NEAR_MM
        ):
            off.append(name)
        here = [finding for finding in report.findings if finding.level == name]
        depths = {side: _value(_find(here, "recess_stenosis", side), "recess_mm") for side in _SIDES}
        sites += len(_SIDES)
        for side in _SIDES:
            if (depth := depths[side]) is not None:
                recess.append((depth, level[side]["recess_depth_soft_mm"]))
        difference = level["left"]["recess_depth_soft_mm"] - level["right"]["recess_depth_soft_mm"]
        narrower = min(level[side]["recess_depth_soft_mm"] for side in _SIDES)
        named = abs(difference) > _DIFFERENT_MM and narrower < _WIDE_MM
        if named and depths["left"] is not None and depths["right"] is not None:
            sided += 1
            if (depths["left"] - depths["right"]) * difference <= 0:
                wrong.append(f"{name} recess")
        canal = _find(here, "canal_stenosis", None)
        area, diameter = _value(canal, "area_mm2"), _value(canal, "ap_mm")
        if area is not None and diameter is not None:
            areas.append((area, level["sac_area_mm2"]))
            diameters.append((diameter, level["sac_ap_mm"]))
        found = _find(here, "herniation", None)
        if found is None:
            continue
        hernia = level["herniation"]
        present = hernia is not None and hernia["extent_mm"] >= grading().herniation.present_at_or_above
        called = found.type not in {None, "none", "bulge"}
        herniations.append((called, present))
        extent = _value(found, "ap_mm")
        if called and present and extent is not None:
            extents.append((extent, hernia["extent_mm"]))
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
        wrong_sides=tuple(wrong),
        sided=sided,
        levels_off=tuple(off),
        withheld=tuple(f"{item.level} {item.kind} {item.side or ''} {item.code}" for item in report.withheld),
    )


def figures(compared: Sequence[Compared]) -> list[str]:
    """Lines of figures over all studies, each with its n."""
    sites = sum(item.recess_sites for item in compared)
    recess = [pair for item in compared for pair in item.recess]
    wrong = [item for item in compared if item.wrong_sides]
    sided = sum(item.sided for item in compared)
    areas = [pair for item in compared for pair in item.areas]
    calls = np.array([pair for item in compared for pair in item.herniations], dtype=bool).reshape(-1, 2)
    off = sum(len(item.levels_off) for item in compared)
    lines = [
        f"{len(compared)} simulated studies, seeds from {compared[0].seed}, levels {' and '.join(anatomy().read_levels)}",
        f"levels named and placed within {_NEAR_MM:g} mm: {2 * len(compared) - off}/{2 * len(compared)}",
        f"side right in {len(compared) - len(wrong)}/{len(compared)} studies ({sided} comparisons: lateral herniations, and recesses that "
        f"differ by {_DIFFERENT_MM:g} mm with the narrower under {_WIDE_MM:g} mm)",
        f"recess depth: {_agreement(recess, 'mm')}; withheld {sites - len(recess)}/{sites} ({(sites - len(recess)) / sites:.1%})",
        f"recess severity: weighted kappa {_kappa(recess, recess_severity):.2f} (n = {len(recess)})",
        f"sac area: {_agreement(areas, 'mm2')}; severity weighted kappa {_kappa(areas, canal_severity):.2f}",
        f"sac diameter: {_agreement([pair for item in compared for pair in item.diameters], 'mm')}",
        f"herniation of {grading().herniation.present_at_or_above:g} mm or more: sensitivity {_share(calls[calls[:, 1], 0])}, "
        f"specificity {_share(~calls[~calls[:, 1], 0])}",
        f"herniation extent: {_agreement([pair for item in compared for pair in item.extents], 'mm')}",
    ]
    lines += [f"wrong side: seed {item.seed}: {', '.join(item.wrong_sides)}" for item in wrong]
    lines += [f"level off: seed {item.seed}: {', '.join(item.levels_off)}" for item in compared if item.levels_off]
    codes = [text for item in compared for text in item.withheld]
    return lines + [f"withheld: {text}: {codes.count(text)}" for text in sorted(set(codes))]


def _find(findings: Sequence[Finding], kind: str, side: str | None) -> Finding | None:
    return next((item for item in findings if item.kind == kind and side in (None, item.side)), None)


def _value(finding: Finding | None, name: str) -> float | None:
    if finding is None:
        return None
    return next((item.value for item in finding.measurements if item.name == name), None)


def _distance(found: Sequence[float], true: Sequence[float], level: Mapping[str, Any]) -> float:
    """Distance in mm along the disc's normal: whether it is the same disc, not whether its middle is the same point."""
    return float(abs((np.asarray(found) - np.asarray(true)) @ np.asarray(level["normal_lps"])))


def _agreement(pairs: Sequence[tuple[float, float]], unit: str) -> str:
    if len(pairs) < 2:
        return f"n = {len(pairs)}"
    error = np.array([measured - true for measured, true in pairs])
    mean, sd = float(error.mean()), float(error.std(ddof=1))
    return (
        f"mean abs error {np.abs(error).mean():.2f} {unit}, bias {mean:+.2f}, 95 % limits of agreement "
        f"{mean - 1.96 * sd:+.2f} to {mean + 1.96 * sd:+.2f} (n = {len(error)})"
    )


def _kappa(pairs: Sequence[tuple[float, float]], grade: Any) -> float:
    """Linearly weighted kappa of the grades of both values; nan without spread."""
    table = np.zeros((3, 3))
    for measured, true in pairs:
        table[_GRADES.index(grade(measured)), _GRADES.index(grade(true))] += 1
    if table.sum() == 0:
        return float("nan")
    weights = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    by_chance = float((weights * expected).sum())
    return 1 - float((weights * table).sum()) / by_chance if by_chance else float("nan")


def _share(calls: Any) -> str:
    return f"{calls.mean():.2f} ({int(calls.sum())}/{len(calls)})" if len(calls) else "no case"
