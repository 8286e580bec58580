"""Shortcuts that a simulation may hide in its pictures, each as a figure with its limit: side, size or level told by what is no anatomy.

The list follows what simulated training sets were found to give away (Geirhos 2020, shortcut learning); limits on correlation, AUC and
shares are this project's. A figure beyond its limit is not decided as long as its interval reaches the limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest

from configs import grading
from training.datasets.axial_crops import FIRST_SEED as SPLIT_SEED
from training.evaluate_realism import cross_scores
from training.intervals import bootstrap_interval
from training.phantom.render import SUB_PLANES
from training.phantom.scanner import draw_scanner
from training.phantom.settings import phantom_settings
from training.trap_figures import (
    Figure,
    Trap,
    as_crops,
    auc_figure,
    certain,
    correlation,
    residue,
    share_figure,
    signal,
    symmetry,
    verdict,
)
from training.trap_people import (
    LEVELS,
    PICTURED_SEED,
    Drawn,
    Person,
    drawn_people,
    people,
    pictured_people,
    plane_steps,
)

Floats = NDArray[np.float64]
CORRELATION, SIDE_OFF, NEAR_CUT = 0.08, 0.04, 0.15
LEVEL_SHARES = {"L4-L5": 0.45, "L5-S1": 0.40, "above": 0.15}
_LEVEL_OFF = 0.05
_EVEN = f"within {SIDE_OFF:.2f} of one half"
_NEAR_MM, _NEAR_MM2 = 0.5, 12.0
SPARED, _UNTOUCHED = (0.35, 0.65), 0.98
WITHOUT_HERNIATION = 0.30
OFFSET_DISTANCE = 0.10
PLACE_RIGHT = 0.60
CORTEX_MM, LEAST_SUB_PLANES = (0.6, 1.8), 5
_DRAWN_PER_PERSON, _PICTURED_PER_PERSON, _STEPPED = 8, 0.9, 24
_PEOPLE_OF_SPLITS = 400_000
"""More than any recipe draws from one split."""


def evaluate_traps(*, count: int = 500, workers: int = 1) -> str:
    """One line per trap over `count` people with truth and several times as many that are only drawn."""
    return "\n".join(trap.line() for trap in traps(count, workers))


def traps(count: int, workers: int = 1) -> list[Trap]:
    """All twelve, on new people."""
    drawn = drawn_people(_DRAWN_PER_PERSON * count, workers)
    whole = people(count, workers)
    pictured = pictured_people(round(_PICTURED_PER_PERSON * count), workers)
    return [
        signal(whole),
        nuisance(whole),
        sides(drawn, whole),
        symmetry(pictured),
        residue(pictured),
        gaps(whole),
        lesions(drawn, whole),
        spared(whole),
        positions(whole),
        level_identity(whole),
        edges(drawn, [plane_steps(PICTURED_SEED + number) for number in range(_STEPPED)]),
        splits(drawn),
    ]


def nuisance(whole: Sequence[Person]) -> Trap:
    """2: depth told by scanner, planes or files; and, only told, what age, sex and muscle fat alone tell."""
    depth = np.array([np.mean(list(person.depths.values())) for person in whole])
    owners = [person.seed for person in whole for _ in person.nuisance]
    repeated = np.repeat(depth, [len(person.nuisance) for person in whole])
    pairs = {}
    for name in whole[0].nuisance[0]:
        values = np.array([row[name] for person in whole for row in person.nuisance])
        pairs[name] = np.stack([values, repeated], axis=1)
    own = [person.seed for person in whole]
    turned = np.stack([np.array([abs(person.signs["rotation"]) for person in whole]), depth], axis=1)
    figures = {name: (correlation(rows), rows, owners) for name, rows in pairs.items()}
    figures["rotation of the body"] = (correlation(turned), turned, own)
    worst = max(figures, key=lambda name: abs(figures[name][0]))
    value, rows, whose = figures[worst]
    low, high = bootstrap_interval(rows, whose, correlation, draws=500)
    severe = np.array([min(person.depths.values()) <= grading().recess.severe_at_or_below for person in whole])
    shortcut = np.array([[person.age, float(person.male), person.muscle_fat] for person in whole])
    crops = as_crops(np.zeros((len(whole), 1, 1)), severe, own)
    scores = cross_scores(shortcut, crops, None)
    ages = correlation(np.stack([np.array([person.age for person in whole]), depth], axis=1))
    return Trap(
        2,
        "depth and what is no anatomy",
        (
            Figure(
                f"largest of {len(figures)} correlations with recess depth: {worst}, r {value:+.3f} (95 % {low:+.3f} to {high:+.3f}, "
                f"n = {len(whole)} people, {len(owners)} planned studies)",
                f"|r| at most {CORRELATION}",
                verdict(value, low, high, (-CORRELATION, CORRELATION)),
            ),
            auc_figure("a severe recess told by age, sex and muscle fat, AUC", scores, severe, own, None),
            Figure(f"age against depth r {ages:+.2f}", "true of people", "told"),
        ),
    )


def sides(drawn: Sequence[Drawn], whole: Sequence[Person]) -> Trap:
    """3: side of a herniation, and of the narrower recess, told by vessels, muscles, rotation, chemical shift or order."""
    found: dict[str, list[bool]] = {}
    for person in drawn:
        for _, herniation in person.herniations:
            for name, value in person.signs.items():
                if np.isfinite(value) and value != 0:
                    found.setdefault(f"herniation and {name}", []).append((herniation.u > 0) == (value > 0))
    for one in whole:
        for level in LEVELS:
            narrower_left = one.depths[level, "left"] < one.depths[level, "right"]
            for name, value in one.signs.items():
                found.setdefault(f"narrower recess and {name}", []).append(narrower_left == (value > 0))
    worst = max(found, key=lambda name: abs(np.mean(found[name]) - 0.5))
    agreed = found[worst]
    return Trap(
        3,
        "side told by something else",
        (
            share_figure(
                f"largest of {len(found)} agreements: {worst}",
                sum(agreed),
                len(agreed),
                _EVEN,
                (0.5 - SIDE_OFF, 0.5 + SIDE_OFF),
            ),
        ),
    )


def gaps(whole: Sequence[Person]) -> Trap:
    """6: few cases near the cuts between grades."""
    recess, canal = grading().recess, grading().canal_area
    depths = np.array([list(person.depths.values()) for person in whole])
    areas = np.array([list(person.areas.values()) for person in whole])
    figures = []
    for name, values, cut, near in (
        ("recess", depths, recess.severe_at_or_below, _NEAR_MM),
        ("recess", depths, recess.moderate_at_or_below, _NEAR_MM),
        ("sac area", areas, canal.severe_below, _NEAR_MM2),
        ("sac area", areas, canal.moderate_below, _NEAR_MM2),
    ):
        unit = "mm" if name == "recess" else "mm2"
        close = np.abs(values - cut) <= near
        told = f"people with a {name} within {near:g} {unit} of {cut:g} (of all places {close.mean():.2f})"
        some = int(close.any(axis=1).sum())
        figures.append(share_figure(told, some, len(whole), f"at least {NEAR_CUT:.0%}", (NEAR_CUT, 1.0)))
    return Trap(6, "gaps at the cuts", tuple(figures))


def lesions(drawn: Sequence[Drawn], whole: Sequence[Person]) -> Trap:
    """7: one lesion per person, always on one side or level."""
    numbers = np.bincount([len(person.herniations) for person in drawn], minlength=5)[:5]
    told = ", ".join(f"{part / len(drawn):.2f}" for part in numbers)
    all_ = [(level, herniation) for person in drawn for level, herniation in person.herniations]
    left = sum(herniation.u > 0 for _, herniation in all_)
    levels = [level if level in LEVELS else "above" for level, _ in all_]
    shares = {name: levels.count(name) / len(levels) for name in LEVEL_SHARES}
    off = max(abs(shares[name] - wanted) for name, wanted in LEVEL_SHARES.items())
    cut = grading().recess.moderate_at_or_below
    narrow = [[person.depths[level, side] <= cut for side in ("left", "right")] for person in whole for level in LEVELS]
    both, any_ = sum(all(pair) for pair in narrow), sum(any(pair) for pair in narrow)
    return Trap(
        7,
        "one lesion per case",
        (
            Figure(
                f"people with 0, 1, 2, 3, 4 herniated levels {told} (n = {len(drawn)})",
                "0 to 3 all occur",
                certain(bool((numbers[:4] > 0).all())),
            ),
            share_figure("on the left", left, len(all_), _EVEN, (0.5 - SIDE_OFF, 0.5 + SIDE_OFF)),
            Figure(
                ", ".join(f"{name} {value:.2f}" for name, value in shares.items()),
                f"within {_LEVEL_OFF:.2f} of {', '.join(f'{value:.2f}' for value in LEVEL_SHARES.values())}",
                certain(off <= _LEVEL_OFF),
            ),
            share_figure("levels narrow on both sides, of those narrow on one", both, any_, "at least 5%", (0.05, 1.0)),
        ),
    )


def spared(whole: Sequence[Person]) -> Trap:
    """8: the sac always compressed where a herniation is, and never without one."""
    kept = [person.kept_sac for person in whole if person.kept_sac is not None]
    untouched = sum(share >= _UNTOUCHED for share in kept)
    narrow = [
        level in person.herniated
        for person in whole
        for level, area in person.areas.items()
        if area < grading().canal_area.moderate_below
    ]
    without = len(narrow) - sum(narrow)
    return Trap(
        8,
        "sac and herniation",
        (
            share_figure(
                f"subarticular herniations that leave the sac where and as it was (Dice of each slice at least {_UNTOUCHED})",
                untouched,
                len(kept),
                f"{SPARED[0]} to {SPARED[1]}",
                SPARED,
            ),
            share_figure(
                f"canals under {grading().canal_area.moderate_below:g} mm2 without a herniation",
                without,
                len(narrow),
                f"at least {WITHOUT_HERNIATION:.0%}",
                (WITHOUT_HERNIATION, 1.0),
            ),
        ),
    )


def positions(whole: Sequence[Person]) -> Trap:
    """9: slices that always lie on the apex of the herniation."""
    offsets = np.array([offset for person in whole for offset, _ in person.offsets])
    owners = [person.seed for person in whole for _ in person.offsets]
    in_gap = sum(gap for person in whole for _, gap in person.offsets)

    def distance(part: Floats) -> float:
        return float(kstest(part, "uniform", args=(-0.5, 1.0)).statistic)

    low, high = bootstrap_interval(offsets, owners, distance, draws=300)
    value = distance(offsets)
    return Trap(
        9,
        "slice position",
        (
            Figure(
                f"distance of (slice - apex) / step from a uniform spread {value:.3f} (95 % {low:.3f} to {high:.3f}, n = {len(offsets)} "
                f"apexes of {len(set(owners))} people)",
                f"at most {OFFSET_DISTANCE}",
                verdict(value, low, high, (0.0, OFFSET_DISTANCE)),
            ),
            share_figure("apex between slices", in_gap, len(offsets), "at least 2%", (0.02, 1.0)),
        ),
    )


def level_identity(whole: Sequence[Person]) -> Trap:
    """10: level told by the place of a slice in its file, for each way of planning axial slices."""
    figures = []
    for protocol in ("block", "angled"):
        rows = [
            (person.seed, level, share) for person in whole for kind, level, share in person.places if kind == protocol
        ]
        names = sorted({level for _, level, _ in rows})
        level, share = np.array([names.index(row[1]) for row in rows]), np.array([row[2] for row in rows])
        # the level that is most frequent in a tenth of the stack, learnt on the other half of the people
        half, tenth = np.array([row[0] for row in rows]) % 4 < 2, np.minimum((share * 10).astype(int), 9)
        right = np.zeros(len(rows), dtype=bool)
        for held in (half, ~half):
            table = np.zeros((10, len(names)))
            np.add.at(table, (tenth[~held], level[~held]), 1)
            right[held] = table.argmax(axis=1)[tenth[held]] == level[held]
        low, high = bootstrap_interval(right.astype(float), [row[0] for row in rows])
        figures.append(
            Figure(
                f"{protocol}: right from the place alone {right.mean():.2f} (95 % {low:.2f} to {high:.2f}, n = {len(rows)}; chance 0.33)",
                f"at most {PLACE_RIGHT}",
                verdict(float(right.mean()), low, high, (0.0, PLACE_RIGHT)),
            )
        )
    lacking = [missing for person in whole for missing in person.incomplete]
    figures.append(
        share_figure("planned studies that lack a slice", sum(lacking), len(lacking), "at least 2%", (0.02, 0.2))
    )
    return Trap(10, "level told by place in the file", tuple(figures))


def edges(drawn: Sequence[Drawn], steps: Sequence[float]) -> Trap:
    """11: edges cleaner than those of bodies: thickness of the cortex, and sub-planes over the thickness of a slice."""
    cortex = np.quantile([person.cortex for person in drawn], (0.025, 0.975))
    planes = len(SUB_PLANES)
    low, high = bootstrap_interval(steps, range(len(steps)))
    return Trap(
        11,
        "clean edges",
        (
            Figure(
                f"cortex of 95 % of people {cortex[0]:.2f} to {cortex[1]:.2f} mm (n = {len(drawn)})",
                f"covers {CORTEX_MM[0]} to {CORTEX_MM[1]} mm",
                certain(bool(cortex[0] <= CORTEX_MM[0] and cortex[1] >= CORTEX_MM[1])),
            ),
            Figure(
                f"sub-planes over the slice {planes}",
                f"at least {LEAST_SUB_PLANES}",
                certain(planes >= LEAST_SUB_PLANES),
            ),
            Figure(
                f"slices painted of {3 * planes} differ from them by {np.mean(steps):.2f} of the noise "
                f"(95 % {low:.2f} to {high:.2f}, n = {len(steps)})",
                "less than the noise",
                verdict(float(np.mean(steps)), low, high, (0.0, 1.0)),
            ),
        ),
    )


def splits(drawn: Sequence[Drawn]) -> Trap:
    """12: a person in two splits, or a test set within the ranges of training."""
    starts = sorted(SPLIT_SEED.values())
    apart = min(np.diff(starts)) >= _PEOPLE_OF_SPLITS
    alike = len(drawn) - len({person.identity for person in drawn})
    beyond, within = phantom_settings(beyond=True).scanner, phantom_settings().scanner
    scanners = [draw_scanner(np.random.default_rng([number, 53]), beyond) for number in range(200)]
    outside = sum(
        not within.t2_repetition[0] <= item.tr["t2"] <= within.t2_repetition[1]
        and not within.t2_echo[0] <= item.te["t2"] <= within.t2_echo[1]
        for item in scanners
    )
    return Trap(
        12,
        "people and ranges of the splits",
        (
            Figure(
                f"seeds between splits at least {min(np.diff(starts))}", f"{_PEOPLE_OF_SPLITS}", certain(bool(apart))
            ),
            Figure(f"people drawn twice {alike} (n = {len(drawn)})", "none", certain(alike == 0)),
            share_figure(
                "scanners of the test set beyond, with TR and TE outside training",
                outside,
                len(scanners),
                "all",
                (1.0, 1.0),
            ),
        ),
    )
