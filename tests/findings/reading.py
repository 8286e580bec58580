"""Reads a made-up study whole, from bytes to findings, and says how its findings differ from those of the untouched one.

Two inputs that are read into the very same pictures, places, roles and warnings are analysed once: an analysis depends on
nothing else (tests/inference/test_analyze.py). A network is not asked twice for the same pictures either.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from dicom_io import read_outcomes
from dicom_io.errors import InputError, NoUsableSeries
from dicom_io.study import Study
from inference.analyze import Engine, analyze
from inference.report import Finding, Report
from models.runtime import Segmenter
from tests.corpus.case import Made, codes_of, written
from tests.corpus.small_study import encode
from tests.findings.phantom import datasets

CLOSE_MM, OFF_MM = 0.5, 1.0
"""How far a value may move in a legitimate variant, and how far in an abnormal study."""
_LEVEL_MM = 10.0  # half the distance of two discs is some 17 mm
_Site = tuple[str, str, str]


@dataclass(frozen=True)
class Outcome:
    """What became of an input: the reports of its studies, and the codes that were told (also of refusals)."""

    reports: tuple[Report, ...]
    codes: frozenset[str]


_ANALYSED: dict[str, Report] = {}
_REMEMBERED = 60


@contextmanager
def remembered_networks() -> Iterator[None]:
    """Within, the networks answer a question that they were asked before from memory."""
    ask = Segmenter.probabilities
    answers: OrderedDict[tuple[str, bytes], Any] = OrderedDict()

    def remembered(self: Segmenter, images: Any) -> Any:
        pictures = np.ascontiguousarray(images, dtype=np.float32)
        question = self.card.name, hashlib.sha256(repr(pictures.shape).encode() + pictures.tobytes()).digest()
        if question not in answers:
            answers[question] = ask(self, pictures)
            while len(answers) > _REMEMBERED:
                answers.popitem(last=False)
        answers.move_to_end(question)
        return answers[question].copy()

    with patch.object(Segmenter, "probabilities", remembered):
        yield


def outcome_of(made: Made, seed: int, engine: Engine) -> Outcome:
    """Write, read and analyse an input."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "study")
        folder.mkdir()
        try:
            read = read_outcomes(made(folder) if callable(made) else written(made, folder, seed))
        except InputError as error:
            return Outcome((), frozenset({error.code, *(notice.code for notice in error.notices)}))
    studies = [one for one in read if isinstance(one, Study)]
    reports = tuple(_analysed(study, engine) for study in studies)
    codes = {code for study in studies for code in codes_of(study)}
    codes |= {item.code for report in reports for item in (*report.warnings, *report.withheld)}
    for one in read:
        if isinstance(one, NoUsableSeries):
            codes |= {one.code, *(notice.code for notice in one.notices)}
    return Outcome(reports, frozenset(codes))


def _analysed(study: Study, engine: Engine) -> Report:
    """The report; what was left out is not in it, since it decides nothing."""
    key = hashlib.sha256(repr(sorted(notice.code for notice in study.warnings)).encode())
    for role in sorted(study.roles):
        for stack in study.roles[role]:
            volume = stack.volume
            key.update(repr((role, volume.array.shape, sorted(notice.code for notice in stack.warnings))).encode())
            key.update(np.ascontiguousarray(volume.array).tobytes() + volume.grid.affine.tobytes())
    digest = key.hexdigest()
    if digest not in _ANALYSED:
        _ANALYSED[digest] = analyze(replace(study, excluded=()), engine=engine).report
    return _ANALYSED[digest]


_UNTOUCHED: dict[int, Report] = {}


def untouched(seed: int, engine: Engine) -> Report:
    """The report on person `seed` as simulated; read once."""
    if seed not in _UNTOUCHED:
        (report,) = outcome_of([(name, encode(dataset)) for name, dataset in datasets(seed)], seed, engine).reports
        assert report.status == "done"
        _UNTOUCHED[seed] = report
    return _UNTOUCHED[seed]


def moved(base: Report, report: Report, most_mm: float) -> list[str]:
    """Values that lie further than `most_mm` from the untouched study's, sides and levels that are others; in words."""
    return [*_values_off(base, report, most_mm), *_sides_changed(base, report), *_levels_moved(base, report)]


def categories_changed(base: Report, report: Report) -> list[str]:
    """Sites that are missing, new, or of another severity, side or type than in the untouched study."""

    def categories(one: Report) -> dict[_Site, tuple[str, str, str | None]]:
        return {_site(f): (f.severity, f.side, f.type) for f in one.findings}

    first, second = categories(base), categories(report)
    return [
        f"{' '.join(site)}: {second.get(site)} instead of {first.get(site)}"
        for site in sorted(first.keys() | second.keys())
        if first.get(site) != second.get(site)
    ]


def values_at(report: Report, levels: Sequence[str]) -> dict[tuple[_Site, str], float]:
    """Every value in mm or mm2 of these levels, by site and name."""
    return {
        (_site(finding), measurement.name): measurement.value
        for finding in report.findings
        if finding.level in levels
        for measurement in finding.measurements
        if measurement.unit in ("mm", "mm2")
    }


def _site(finding: Finding) -> _Site:
    side = finding.side if finding.kind == "recess_stenosis" else ""
    return finding.level, finding.kind, side


def _values_off(base: Report, report: Report, most_mm: float) -> list[str]:
    every = [level.name for level in base.levels]
    first, second = values_at(base, every), values_at(report, every)
    off = []
    for (site, name), value in second.items():
        before = first.get((site, name))
        if before is not None and not abs(_mm(name, value) - _mm(name, before)) <= most_mm:
            off.append(f"{' '.join(site)} {name} {value:.2f} instead of {before:.2f}")
    return off


def _mm(name: str, value: float) -> float:
    """A length as it is; an area as the diameter of the circle that has it."""
    return 2 * math.sqrt(value / math.pi) if name.endswith("mm2") else value


def _sides_changed(base: Report, report: Report) -> list[str]:
    """Findings that stand out on one side in one report and on the other side in the other."""
    before = {(f.level, f.kind): f.side for f in base.findings if f.flagged and f.side in ("left", "right")}
    both = {(f.level, f.kind) for f in base.findings if f.flagged and f.kind == "recess_stenosis"}
    sides = {key: {f.side for f in base.findings if f.flagged and (f.level, f.kind) == key} for key in both}
    changed = []
    for finding in report.findings:
        key = (finding.level, finding.kind)
        if not finding.flagged or finding.side not in ("left", "right") or key not in before:
            continue
        allowed = sides.get(key, {before[key]})
        if finding.side not in allowed:
            changed.append(f"{finding.level} {finding.kind} on the {finding.side}")
    return changed


def _levels_moved(base: Report, report: Report) -> list[str]:
    places = {level.name: np.array(level.disc_centre_lps) for level in base.levels}
    return [
        f"{level.name} lies elsewhere"
        for level in report.levels
        if level.name in places
        and not np.linalg.norm(places[level.name] - np.array(level.disc_centre_lps)) <= _LEVEL_MM
    ]
