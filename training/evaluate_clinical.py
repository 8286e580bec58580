"""A study of the correlation itself: which numbers move its verdicts, and what examination, images and both could tell at best.

Every number of configs/clinical that verdict or tier reads is moved by 20 % each way, alone and all together, over drawn patients.
The patients come from the model (training/clinical_patients.py), so the second part is an upper bound, not a validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from configs.clinical import ROOTS
from configs.clinical.site import altered, named_entries, shipped
from configs.loader import ConfigError
from inference import clinical_engine as engine
from inference.clinical_signs import observed_signs, recorded
from inference.correlate import build_case, judge_all, judge_study
from inference.exam import SIDES
from inference.roots import narrows_canal, root_ratios
from inference.triage import tier_of
from training.clinical_patients import Patient, Population, draw_patient

SPREAD = 0.20
TABLES = ("model", "matrix", "routes", "triage")
POPULATIONS = (
    Population("tables as they are"),
    Population("weights off by 0.6 in log-odds", noise=0.6),
    Population("signs of roots 0.6 times as frequent", root_factor=0.6),
)
SOURCES = ("examination", "images", "both")
_READ_ROOTS = ("L4", "L5", "S1")
_SKIP = {
    "finding_grade_from",
    "explains_grade",
    "cauda_equina_from_grade",
    "missing_shown",
    "missing_worth_bits",
    "bands",
    "cut",
}
"""Whole numbers too small for 20 % to change, numbers that no verdict reads, and grades of the MRC scale: full strength is 5."""

Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """One number of the tables: where it stands (with its place, in a list of numbers) and its value."""

    path: Path_
    place: int | None
    value: float
    whole: bool

    @property
    def name(self) -> str:
        return ".".join(self.path) + ("" if self.place is None else f"[{self.place}]")


def numbers() -> tuple[Number, ...]:
    """Every number that verdict or tier can read, in the order of the tables."""
    out: list[Number] = []
    for table in TABLES:
        out += _numbers_in(shipped(table), (table,))
    return tuple(out)


def _numbers_in(node: Any, path: Path_) -> Iterator[Number]:
    if path[-1] in _SKIP:
        return
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _numbers_in(value, (*path, key))
    elif isinstance(node, list) and node and isinstance(node[0], dict):
        yield from _numbers_in(named_entries(node), path)
    elif isinstance(node, list):
        for place, value in enumerate(node):
            if isinstance(value, int | float):
                yield Number(path, place, float(value), isinstance(value, int))
    elif isinstance(node, int | float) and not isinstance(node, bool) and node != 0:
        yield Number(path, None, float(node), isinstance(node, int))


def moved(which: Sequence[tuple[Number, float]]) -> dict[str, Any]:
    """The tables' change in which each number is multiplied by its factor; probabilities stay at most 1, priors add up to 1."""
    change: dict[str, Any] = {}
    lists: dict[Path_, list[Any]] = {}
    for number, factor in which:
        value: float = number.value * factor
        if number.whole:
            value = round(value)
        if number.path[0] == "matrix" or (number.path[0] == "routes" and number.path[1] == "route"):
            value = min(value, 0.995 if number.path[0] == "matrix" else 1.0)
        elif 0 < number.value <= 1 and number.path[1] != "deficit_weight":
            value = min(value, 1.0)
        if number.place is None:
            _put(change, number.path, value)
        else:
            lists.setdefault(number.path, list(_value_at(number.path)))[number.place] = value
    for path, values in lists.items():
        if path[1] == "root_prior":
            values = [1 - values[1] - values[2], *values[1:]]
        _put(change, path, values)
    return change


def _value_at(path: Path_) -> Any:
    node: Any = shipped(path[0])
    for key in path[1:]:
        node = named_entries(node)[key] if isinstance(node, list) else node[key]
    return node


def _put(change: dict[str, Any], path: Path_, value: Any) -> None:
    node = change
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value


@dataclass(frozen=True)
class Outcome:
    """What a number could move: verdict of the study, of each finding, roots, tier."""

    study: str
    findings: tuple[str, ...]
    roots: tuple[str, ...]
    tier: str


def outcome(patient: Patient) -> Outcome:
    """Verdicts and tier of a drawn patient with the tables in use."""
    case = build_case(patient.exam, patient.imaging)
    judged = judge_all(case)
    study = judge_study(case, judged)
    verdicts = {item.finding.id: item.verdict for item in judged}
    tier = tier_of(patient.exam, patient.imaging, verdicts)
    return Outcome(study.verdict, tuple(verdicts.values()), study.implicated, tier)


@dataclass(frozen=True)
class Moved:
    """How many of the patients changed when a number moved, the larger of both ways."""

    number: Number
    study: int
    finding: int
    roots: int
    tier: int


def one_at_a_time(patients: Sequence[Patient], chosen: Sequence[Number]) -> tuple[Moved, ...]:
    """Move each number alone by 20 % up and down and count what changes."""
    before = [outcome(patient) for patient in patients]
    out: list[Moved] = []
    for number in chosen:
        counts = [_changed(patients, before, [(number, factor)]) for factor in (1 - SPREAD, 1 + SPREAD)]
        out.append(Moved(number, *np.max(counts, axis=0).tolist()))
    return tuple(out)


def all_together(patients: Sequence[Patient], draws: int, seed: int) -> NDArray[np.int64]:
    """Move all numbers at random within 20 %, `draws` times; counts of study, finding, roots and tier that change, (draws, 4)."""
    rng = np.random.default_rng(seed)
    before = [outcome(patient) for patient in patients]
    known = numbers()
    rows: list[tuple[int, int, int, int]] = []
    while len(rows) < draws:
        factors = rng.uniform(1 - SPREAD, 1 + SPREAD, len(known))
        try:
            rows.append(_changed(patients, before, list(zip(known, factors.tolist(), strict=True))))
        except ConfigError:
            continue  # cuts that no longer stand in their order
    return np.array(rows)


def _changed(
    patients: Sequence[Patient], before: Sequence[Outcome], which: Sequence[tuple[Number, float]]
) -> tuple[int, int, int, int]:
    with altered(moved(which)):
        after = [outcome(patient) for patient in patients]
    pairs = list(zip(before, after, strict=True))
    return (
        sum(a.study != b.study for a, b in pairs),
        sum(a.findings != b.findings for a, b in pairs),
        sum(a.roots != b.roots for a, b in pairs),
        sum(a.tier != b.tier for a, b in pairs),
    )


@dataclass(frozen=True)
class Told:
    """How well a source of knowledge tells compromised roots from others: area, and at 0.5 sensitivity and specificity."""

    population: str
    source: str
    root: str
    auc: float
    sensitivity: float
    specificity: float
    n: int


def what_is_told(population: Population, count: int, seed: int) -> tuple[Told, ...]:
    """Draw `count` patients and read each L4, L5 and S1 root from examination, images and both."""
    rng = np.random.default_rng(seed)
    truth: dict[str, list[bool]] = {root: [] for root in _READ_ROOTS}
    belief: dict[tuple[str, str], list[float]] = {(s, r): [] for s in SOURCES for r in _READ_ROOTS}
    for _ in range(count):
        patient = draw_patient(rng, population)
        seen = recorded(patient.exam)
        like = engine.likelihood(observed_signs(seen), seen)
        alone = engine.priors(seen, {}, canal_narrow=False)
        imaged = engine.priors(seen, root_ratios(patient.imaging), canal_narrow=narrows_canal(patient.imaging))
        by_exam, by_both = engine.posterior(like, alone), engine.posterior(like, imaged)
        for side in SIDES:
            for root in _READ_ROOTS:
                truth[root].append(patient.roots[side, root] == 2)
                belief["examination", root].append(float(by_exam.root_state(side, root)[2]))
                belief["images", root].append(float(imaged.root[side][ROOTS.index(root), 2]))
                belief["both", root].append(float(by_both.root_state(side, root)[2]))
    return tuple(
        _told(population.name, source, root, np.array(truth[root]), np.array(belief[source, root]))
        for source in SOURCES
        for root in _READ_ROOTS
    )


def _told(population: str, source: str, root: str, truth: NDArray[np.bool_], belief: NDArray[np.float64]) -> Told:
    positive = belief >= 0.5
    ill, well = int(truth.sum()), int((~truth).sum())
    area = (rankdata(belief)[truth].sum() - ill * (ill + 1) / 2) / (ill * well)
    return Told(
        population,
        source,
        root,
        float(area),
        float(positive[truth].mean()),
        float((~positive)[~truth].mean()),
        ill,
    )


def draw_group(rng: np.random.Generator, count: int) -> list[Patient]:
    """Patients with a deficit and a finding of grade 2 or more, since in the others few numbers have anything to decide."""
    group: list[Patient] = []
    while len(group) < count:
        patient = draw_patient(rng, POPULATIONS[0])
        if build_case(patient.exam, patient.imaging).has_deficit and any(
            (item.root_grade or 0) >= 2 for item in patient.imaging.findings
        ):
            group.append(patient)
    return group


def evaluate_clinical(count: int = 20, draws: int = 20, patients: int = 600, plot: Path | None = None) -> str:
    """Both studies as text; `count` patients for the jitter, `patients` for what is told. Writes the plot where asked."""
    rng = np.random.default_rng(12)
    group = draw_group(rng, count)
    known = numbers()
    single = one_at_a_time(group, known)
    together = all_together(group, draws, seed=13)
    told = [item for population in POPULATIONS for item in what_is_told(population, patients, seed=14)]
    if plot is not None:
        draw_plot(told, plot)
    lines = [f"{len(known)} numbers, each moved by 20 % alone, over {count} drawn patients"]
    lines += _sensitive(single, count)
    lines.append(
        f"all numbers moved at random within 20 %, {draws} times: patients of {count} that change (mean, most)"
    )
    names = ("study verdict", "a finding's verdict", "roots implicated", "tier")
    for name, column in zip(names, together.T, strict=True):
        lines.append(f"  {name:20s} {column.mean():5.1f}  {column.max():3d}")
    lines.append(
        f"compromised roots told from others, {patients} drawn patients each (upper bound: the model drew them)"
    )
    lines.append(f"  {'patients':38s} {'known from':12s} root  area  sens  spec   LR+   n")
    for item in told:
        ratio = f"{item.sensitivity / (1 - item.specificity):5.1f}" if 0 < item.specificity < 1 else "    -"
        lines.append(
            f"  {item.population:38s} {item.source:12s} {item.root:4s} {item.auc:5.2f} {item.sensitivity:5.2f} "
            f"{item.specificity:5.2f} {ratio} {item.n:4d}"
        )
    return "\n".join(lines)


def _sensitive(single: Sequence[Moved], count: int) -> list[str]:
    still = sum(not (item.study or item.finding or item.roots or item.tier) for item in single)
    ranked = sorted(single, key=lambda item: (-item.study, -item.finding, -item.roots - item.tier, item.number.name))
    rows = [
        f"  {still} of {len(single)} change nothing; the others that matter most (patients of {count} that change):"
    ]
    rows.append(f"  {'number':58s} study finding roots tier")
    rows += [
        f"  {item.number.name:58s} {item.study:5d} {item.finding:7d} {item.roots:5d} {item.tier:4d}"
        for item in ranked[:15]
    ]
    return rows


def draw_plot(told: Sequence[Told], path: Path) -> None:
    """Areas under the curve by source and population, beside two published areas of history and examination."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(POPULATIONS), figsize=(8.2, 3.0), sharey=True)
    colours = {"examination": "#7b8794", "images": "#c9cdd2", "both": "#b3460b"}
    for axis, population in zip(axes, POPULATIONS, strict=True):
        for place, source in enumerate(SOURCES):
            values = [item.auc for item in told if item.population == population.name and item.source == source]
            spots = [number + (place - 1) * 0.26 for number in range(len(values))]
            axis.bar(spots, values, width=0.24, color=colours[source], label=source)
        axis.axhline(0.83, color="#16191d", linewidth=0.8, linestyle="--", label="history, examination: Vroomen 2002")
        axis.set_title(population.name, fontsize=8)
        axis.set_xticks(range(len(_READ_ROOTS)), _READ_ROOTS, fontsize=8)
        axis.set_ylim(0.5, 1.0)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("area under the curve", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, frameon=False, loc="upper center", ncols=4)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(path, dpi=100)
    plt.close(figure)
