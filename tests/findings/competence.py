"""Simulated people with what the reader must notice, and simulated series that were spoiled: what it said of them.

`python -m tests.findings.competence` makes the studies, reads them whole and prints, by class, how often the declared outcome came
(recall, n, 95 % Wilson interval) and how often untouched people were flagged. Results are kept under --runs and taken up again.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import binomtest

from dicom_io import read_study
from inference.analyze import Engine, analyze
from inference.axial_doubts import picture_code
from inference.competence import SENTENCES
from inference.image_quality import picture_quality
from inference.report import Finding, Report
from tests.findings.reading import remembered_networks
from training.phantom import Anatomy, draw_anatomy, spoil, study_files
from training.phantom.conditions import CONDITIONS, Condition, laminectomy

CHOICE_SEED, TEST_SEED = 9_300_000, 9_400_000
"""First seeds of the people on whom limits are chosen, and of those on whom they are measured."""
_CONDITION_SEEDS = 50_000
_SUDIRMAN_MM = 0.6875  # as the authors describe it; the pictures carry no geometry
_ROLES = ("sagittal_t1", "sagittal_t2", "axial_t2")
_LEVELS = ("L4-L5", "L5-S1")
CODES = frozenset(SENTENCES) - {"SCOLIOSIS", "SLIP"}
"""Codes that count as a false flag on an untouched person; slip and curve are true of some of those."""

Make = Callable[[Anatomy], dict[str, spoil.Spoiler]]


@dataclass(frozen=True)
class Outcome:
    """What a report said: warning codes; (level, side, kind, code) withheld; extrusions, sizes and second names shown."""

    status: str
    warned: tuple[str, ...]
    withheld: tuple[tuple[str, str, str, str], ...]
    read: tuple[tuple[str, str, str], ...]
    extruded: tuple[str, ...]
    sized: bool
    both_names: bool
    graded: tuple[tuple[str, str, str, str, float | None], ...] = ()
    """(level, side, kind, severity, recess depth in mm or None) of every finding."""

    def codes(self) -> frozenset[str]:
        return frozenset((*self.warned, *(code for *_, code in self.withheld)))

    def flagged(self) -> bool:
        """Whether anything was doubted, or nothing read at all."""
        return self.status == "abstained" or bool(self.codes() & CODES)

    def withheld_at(self, level: str, kinds: Iterable[str] = ("recess_stenosis", "canal_stenosis")) -> bool:
        """Whether nothing of these kinds was read at a level."""
        return not [item for item in self.read if item[0] == level and item[2] in kinds]


Declared = Callable[[Outcome], bool]


@dataclass(frozen=True)
class Kind:
    """One kind of case: class, name, how it is made (a condition of the body, spoilers by role), and the declared outcome."""

    class_id: str
    name: str
    declared: Declared
    condition: Condition | None = None
    spoilers: Make | None = None


def _all(make: Callable[[], spoil.Spoiler]) -> Make:
    return lambda _: dict.fromkeys(_ROLES, make())


def _only(role: str, make: Callable[[], spoil.Spoiler]) -> Make:
    return lambda _: {role: make()}


def _axial_lost(code: str) -> Declared:
    """Every stenosis of both levels withheld, with this code; or the study was not read at all."""
    return lambda out: (
        out.status == "abstained" or (code in out.codes() and all(out.withheld_at(level) for level in _LEVELS))
    )


def _too_poor(out: Outcome) -> bool:
    """Every value of both levels withheld as of low quality, whether a column was found or not."""
    return all(
        out.withheld_at(level, ("herniation", "recess_stenosis", "canal_stenosis"))
        and any(item[0] == level and item[3] == "LOW_QUALITY" for item in out.withheld)
        for level in _LEVELS
    )


def _told(code: str) -> Declared:
    return lambda out: code in out.codes()


def _screws(anatomy: Anatomy) -> dict[str, spoil.Spoiler]:
    points = spoil.screw_points(anatomy, ("L4", "L5", "S1"))
    return dict.fromkeys(_ROLES, spoil.metal(points, 4.5))


def _plates(anatomy: Anatomy) -> dict[str, spoil.Spoiler]:
    return dict.fromkeys(_ROLES, spoil.metal(spoil.disc_replacement_points(anatomy, "L4-L5"), 4.0))


def _inverted(series: spoil.Series, rng: np.random.Generator) -> spoil.Series:
    top = np.percentile(series.pictures, 99.5)
    return spoil.Series(np.clip(top - series.pictures, 0, None), series.affines, series.pixel_mm)


def _operated(level: str, *codes: str) -> Declared:
    return lambda out: "POSTOP" in out.warned and out.withheld_at(level) and bool(out.codes() & set(codes))


def _slipped(out: Outcome) -> bool:
    return "SLIP" in out.warned and bool(out.read)


def _ambiguous(out: Outcome) -> bool:
    return any(code == "LEVEL_AMBIGUOUS" for *_, code in out.withheld) and out.both_names


def _short(out: Outcome) -> bool:
    return not out.codes() & CODES and out.sized


def _mimic(out: Outcome) -> bool:
    return any(level == "L4-L5" and code == "MIMIC_UNCERTAIN" for level, _, _, code in out.withheld)


SPOILED: tuple[Kind, ...] = (
    *(Kind("C-01", "strong ghosts, axial", _axial_lost("MOTION"), None, _only("axial_t2", lambda: spoil.motion("strong"))),) * 5,
    *(Kind("C-01", "strong ghosts, all series", _axial_lost("MOTION"), None, _all(lambda: spoil.motion("strong"))),) * 3,
    *(Kind("C-02", "screws L4 to S1", _axial_lost("METAL"), None, _screws),) * 7,
    *(Kind("C-07", "noise, SNR 4", _too_poor, None, _all(lambda: spoil.noise(4.0))),) * 3,
    *(Kind("C-07", "noise, SNR 7", _too_poor, None, _all(lambda: spoil.noise(7.0))),) * 4,
    *(Kind("C-07", "blur 3.5 mm", _axial_lost("LOW_QUALITY"), None, _all(lambda: spoil.blur(3.5))),) * 6,
    *(Kind("C-08", "RF spike", _axial_lost("ARTEFACT"), None, _all(lambda: spoil.spike(0.12))),) * 4,
    *(Kind("C-08", "zipper", _axial_lost("ARTEFACT"), None, _only("axial_t2", lambda: spoil.zipper(0.4))),) * 3,
    *(Kind("C-08", "wrap, field 0.6", _axial_lost("ARTEFACT"), None, _only("axial_t2", lambda: spoil.wrap(0.6))),) * 3,
    *(Kind("C-08", "chemical shift 4 mm", _axial_lost("ARTEFACT"), None, _all(lambda: spoil.chemical_shift(4.0))),) * 2,
)  # fmt: skip
"""Forty cases of spoiled series; five that differ are dealt to each person, so that forty people meet each case five times."""

MILD: tuple[Kind, ...] = tuple(
    Kind(
        "C-01",
        f"{strength} ghosts, axial",
        _axial_lost("MOTION"),
        None,
        _only("axial_t2", lambda s=strength: spoil.motion(s)),
    )  # type: ignore[misc]
    for strength in ("slight", "moderate")
)
"""Weaker ghosts: nothing is declared of them; printed is also how far the values differ from those without ghosts."""

OTHERS: tuple[Kind, ...] = (
    Kind("C-03", "laminectomy", _operated("L4-L5", "POSTOP"), laminectomy),
    Kind("C-03", "fusion with screws", _operated("L4-L5", "POSTOP", "METAL"), laminectomy, _screws),
    Kind("C-03", "disc replacement L4-L5", _operated("L4-L5", "POSTOP", "METAL"), None, _plates),
    Kind("C-04", "six lumbar vertebrae", _ambiguous, CONDITIONS["six lumbar vertebrae"]),
    Kind("C-04", "four lumbar vertebrae", _ambiguous, CONDITIONS["four lumbar vertebrae"]),
    Kind("C-05", "slip", _slipped, CONDITIONS["slip"]),
    *(
        Kind("C-06", name, _told("OUTSIDE_SCOPE_FINDING"), CONDITIONS[name])
        for name in ("wedge fracture", "marrow replacement", "epidural mass")
    ),
    Kind("C-09", "scoliosis", _told("SCOLIOSIS"), CONDITIONS["scoliosis"]),
    Kind("C-10", "synovial cyst", _mimic, CONDITIONS["synovial cyst"]),
    Kind("C-10", "lipomatosis", _mimic, CONDITIONS["lipomatosis"]),
    Kind("C-11", "short pedicles", _short, CONDITIONS["short pedicles"]),
    Kind(
        "C-12", "grey values upside down", lambda out: all(out.withheld_at(level) for level in _LEVELS), None,
        lambda _: {"axial_t2": _inverted},
    ),
)  # fmt: skip
UNTOUCHED = Kind("", "untouched", lambda out: not out.codes() & CODES)


def outcome_of(report: Report) -> Outcome:
    """What is kept of a report."""
    return Outcome(
        status=report.status,
        warned=tuple(sorted({item.code for item in report.warnings})),
        withheld=tuple((str(w.level), str(w.side or ""), str(w.kind), w.code) for w in report.withheld),
        read=tuple((f.level, f.side, f.kind) for f in report.findings),
        extruded=tuple(f.level for f in report.findings if f.type in ("extrusion", "sequestration")),
        sized=bool(report.levels) and all(level.disc_ap_mm is not None for level in report.levels),
        both_names=bool(report.levels) and all(level.alternative_name is not None for level in report.levels),
        graded=tuple((f.level, f.side, f.kind, f.severity, _depth(f)) for f in report.findings),
    )


def _depth(finding: Finding) -> float | None:
    return next((float(item.value) for item in finding.measurements if item.name == "recess_mm"), None)


def moved_by(kind: Kind, known: Sequence[tuple[int, Kind, Outcome]]) -> str:
    """In words: how far the values of a weakly spoiled study differ from those of the same person untouched."""
    clean = {seed: out for seed, other, out in known if other is UNTOUCHED}
    same, steps = [], []
    for seed, other, out in known:
        if other is kind and seed in clean:
            before = {item[:3]: item[3:] for item in clean[seed].graded}
            for *site, severity, depth in out.graded:
                if tuple(site) in before:
                    old, depth_before = before[tuple(site)]
                    same.append(severity == old)
                    if depth is not None and depth_before is not None:
                        steps.append(abs(depth - depth_before))
    if not same:
        return "nothing read in both"
    return (
        f"severity as without it {share(sum(same), len(same))}; recess depth differs by {np.mean(steps):.2f} mm on average, "
        f"by more than 1 mm in {share(sum(step > 1 for step in steps), len(steps))}"
    )


def read_case(kind: Kind, anatomy: Anatomy, clean: Path, engine: Engine, seed: int) -> Outcome:
    """Spoil a copy of the written study `clean` as the kind says, and read it."""
    with tempfile.TemporaryDirectory() as name:
        folder = clean
        if kind.spoilers is not None:
            folder = Path(name, "study")
            shutil.copytree(clean, folder)
            rng = np.random.default_rng([seed, int(hashlib.sha256(kind.name.encode()).hexdigest()[:6], 16)])
            for role, spoiler in kind.spoilers(anatomy).items():
                spoil.spoil_folder(folder / role, spoiler, rng)
        return outcome_of(analyze(read_study([folder / role for role in _ROLES]), engine=engine).report)


class Kept:
    """Outcomes that were reached with this code and these limits, by kind and seed, in one file."""

    def __init__(self, runs: Path) -> None:
        runs.mkdir(parents=True, exist_ok=True)
        self.path = runs / f"competence-{_digest()}.jsonl"
        self.known: dict[tuple[str, int], Outcome] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                raw = row["outcome"]
                raw |= {key: tuple(map(tuple, raw[key])) for key in ("withheld", "read", "graded")}
                raw |= {key: tuple(raw[key]) for key in ("warned", "extruded")}
                self.known[row["kind"], row["seed"]] = Outcome(**raw)

    def add(self, kind: Kind, seed: int, outcome: Outcome) -> None:
        self.known[kind.name, seed] = outcome
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"kind": kind.name, "seed": seed, "outcome": outcome.__dict__}) + "\n")


def _digest() -> str:
    """Of the reader's sources, limits and networks' cards, and of the simulation."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for pattern in (
        "inference/*.py",
        "configs/*.toml",
        "models/cards/*.json",
        "training/phantom/*.py",
        "configs/training/phantom.toml",
    ):
        for path in sorted(root.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def plan(people: int, each: int, first: int) -> list[tuple[int, Kind]]:
    """(seed, kind) of every case: each of `people` untouched, with five spoilings and weaker ghosts; `each` of every condition."""
    cases: list[tuple[int, Kind]] = []
    for number in range(people):
        seed = first + number
        dealt = [SPOILED[(number + 8 * place) % len(SPOILED)] for place in range(5)]
        mild = [MILD[number % len(MILD)]] if number % 2 == 0 else []
        cases += [(seed, kind) for kind in (UNTOUCHED, *dict.fromkeys((*dealt, *mild)))]
    for place, kind in enumerate(OTHERS):
        cases += [(first + _CONDITION_SEEDS + 100 * place + number, kind) for number in range(each)]
    return cases


def run(cases: Sequence[tuple[int, Kind]], kept: Kept, engine: Engine, *, verbose: bool) -> None:
    """Read all cases that are not known yet; one person's one after the other."""
    drawn: tuple[int, str] | None = None
    with tempfile.TemporaryDirectory() as name, remembered_networks():
        for seed, kind in cases:
            if (kind.name, seed) in kept.known:
                continue
            body = kind.name if kind.condition is not None else ""
            if drawn != (seed, body):
                shutil.rmtree(Path(name, "study"), ignore_errors=True)
                anatomy = draw_anatomy(seed)
                if kind.condition is not None:
                    anatomy = kind.condition(anatomy, np.random.default_rng([seed, 5]))
                study_files(anatomy, Path(name, "study"), seed=seed)
                drawn = (seed, body)
            outcome = read_case(kind, anatomy, Path(name, "study"), engine, seed)
            kept.add(kind, seed, outcome)
            if verbose:
                said = "as declared" if kind.declared(outcome) else "NOT as declared"
                sys.stdout.write(f"{seed} {kind.class_id} {kind.name}: {said} {sorted(outcome.codes())}\n")
                sys.stdout.flush()


def table(cases: Sequence[tuple[int, Kind]], kept: Kept) -> list[str]:
    """Lines of figures over the cases that are known."""
    by_seed = [(seed, kind, kept.known[kind.name, seed]) for seed, kind in cases if (kind.name, seed) in kept.known]
    known = [(kind, out) for _, kind, out in by_seed]
    spoiled = {kind.name for kind in SPOILED}
    lines = ["class case declared (95 % interval) n; flagged by any code"]
    for kind in dict.fromkeys(kind for kind, _ in known if kind is not UNTOUCHED):
        outs = [out for other, out in known if other is kind]
        right = sum(map(kind.declared, outs))
        any_code = sum(out.flagged() or bool(out.codes() & {"SLIP", "SCOLIOSIS"}) for out in outs)
        lines.append(f"{kind.class_id} {kind.name}: {share(right, len(outs))}; flagged {any_code}/{len(outs)}")
        if kind in MILD:
            lines.append(f"  {moved_by(kind, by_seed)}")
    series = [(kind, out) for kind, out in known if kind.name in spoiled]
    if series:
        flagged = sum(out.flagged() for _, out in series)
        right = sum(kind.declared(out) for kind, out in series)
        lines.append(
            f"spoiled series flagged: {share(flagged, len(series))}; with the declared outcome {share(right, len(series))}"
        )
    clean = [out for kind, out in known if kind is UNTOUCHED]
    if clean:
        wrong = [out for out in clean if out.flagged()]
        lines.append(f"untouched people flagged: {share(len(wrong), len(clean))}")
        for code in sorted(CODES | {"SLIP", "SCOLIOSIS"}):
            count = sum(code in out.codes() for out in clean)
            if count:
                lines.append(f"  of them {code}: {count}/{len(clean)}")
    lines.append(f"cases read: {len(known)} of {len(cases)}")
    return lines


def real_pictures(data: Path, every: int) -> list[str]:
    """How often the measures of a picture alone doubt real slices: SPIDER mid-sagittal (T2, T1) and Sudirman axial (T1, T2)."""
    with (data / "spider/midsag/index.csv").open(encoding="utf-8") as file:
        spacing = {
            row["file"]: float(row["pixel_spacing_stored"] or row["pixel_spacing_overview"])
            for row in csv.DictReader(file)
        }
    sets = {
        f"SPIDER mid-sagittal {kind}": [
            (data / "spider/midsag" / name, spacing[name]) for name in sorted(spacing) if name.endswith(f"_{kind}.jpg")
        ]
        for kind in ("t2", "t1")
    }
    for kind, folder in (("t1", "sudirman_t1"), ("t2", "sudirman_t2_unidentified")):
        paths = sorted((data / "axial" / folder).glob("*.png"))
        sets[f"Sudirman axial {kind}"] = [(path, _SUDIRMAN_MM) for path in paths]
    lines = []
    for name, pictures in sets.items():
        found: dict[str, list[str]] = {}
        chosen = pictures[::every]
        for path, millimetres in chosen:
            picture = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
            quality = picture_quality(picture, (millimetres, millimetres))
            code = picture_code(quality, 0.0, sagittal="sagittal" in name)
            if code is not None:
                found.setdefault(code, []).append(path.stem)
        told = "; ".join(f"{code} {len(names)} ({', '.join(names[:6])})" for code, names in found.items()) or "none"
        lines.append(f"{name}: doubted {share(sum(map(len, found.values())), len(chosen))}: {told}")
    return lines


def share(count: int, n: int) -> str:
    """k/n with its Wilson interval."""
    low, high = binomtest(count, n).proportion_ci(method="wilson")
    return f"{count}/{n} = {count / n:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=40, help="untouched people; five spoiled studies of each")
    parser.add_argument("--each", type=int, default=10, help="people with each condition")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--choice", action="store_true", help="the people on whom limits are chosen instead")
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--real", type=Path, help="folder of real data: measure its single slices instead")
    parser.add_argument("--every", type=int, default=1, help="with --real: every so many-th slice")
    options = parser.parse_args()
    if options.real is not None:
        sys.stdout.write("\n".join(real_pictures(options.real, options.every)) + "\n")
        return
    cases = plan(options.people, options.each, CHOICE_SEED if options.choice else TEST_SEED)
    cases = [case for case in cases if case[1].name.startswith(options.only)]
    kept = Kept(options.runs)
    run(cases, kept, Engine.load("cpu"), verbose=options.verbose)
    sys.stdout.write("\n".join(table(cases, kept)) + "\n")


if __name__ == "__main__":
    main()
