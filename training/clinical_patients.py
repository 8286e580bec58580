"""Draws patients from the correlation model itself: causes, the signs they give and the grades an image shows of them.

They are not patients. They answer one question: what could the examination and the images tell if the tables were right, or were
somewhat wrong. Priors, weights and ratios: configs/clinical; grades on roots without trouble: expert estimate, see `GRADE_AT_REST`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.clinical import LOCAL, ROOTS, Sign, matrix, model
from inference.clinical_engine import SHARED_STATES
from inference.exam import SIDES, Exam, Side
from inference.roots import Imaging

GRADE_AT_REST = (0.62, 0.25, 0.10, 0.03)
"""How often a root without trouble shows grade 0 to 3: a protrusion in some 30 to 40 of 100 people (Brinjikji 2015), compression
in few (Weishaupt 1998). Expert estimate."""
BLANK = 0.2
"""Share of bedside items that nobody examined. Expert estimate."""
_LEVEL = {"L3": "L2-L3", "L4": "L3-L4", "L5": "L4-L5", "S1": "L5-S1"}
_MILD, _MARKED = ("4+", "4", "4-"), ("3", "2")


@dataclass(frozen=True)
class Population:
    """How the drawn patients differ from the tables: weights of roots times a factor, and log-odds noise on every weight."""

    name: str
    root_factor: float = 1.0
    noise: float = 0.0


@dataclass(frozen=True)
class Patient:
    """What was drawn: the truth per side and root (0, 1, 2), the examination and the images."""

    roots: dict[tuple[Side, str], int]
    exam: Exam
    imaging: Imaging


def draw_patient(rng: np.random.Generator, population: Population) -> Patient:
    """One patient. The same generator state gives the same patient."""
    numbers = model()
    shared = _pick(rng, numbers.shared_prior)
    forms = [form for name, form in SHARED_STATES if name == shared]
    form = str(rng.choice(forms)) if shared is not None else ""
    roots: dict[tuple[Side, str], int] = {}
    blocks: dict[str, dict[str, Any]] = {"general": _general(rng, shared)}
    for side in SIDES:
        local = _pick(rng, numbers.local_prior)
        for root in ROOTS:
            roots[side, root] = int(rng.choice(3, p=numbers.root_prior[root]))
        states = {root: roots[side, root] for root in ROOTS}
        acting = shared if shared is not None and form in {"both", "whole", "sacral", side} else None
        blocks[side] = _signs(rng, states, local, acting, form == "sacral", population)
    return Patient(roots, Exam.parse(blocks), _images(rng, roots))


def _pick(rng: np.random.Generator, prior: dict[str, float]) -> str | None:
    names = [*prior, None]
    weights = np.array([*prior.values(), max(1 - sum(prior.values()), 0.0)])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _general(rng: np.random.Generator, shared: str | None) -> dict[str, Any]:
    out: dict[str, Any] = {"attest.safety_negative": True, "time.course": "stable", "time.onset_days": 60}
    for sign in matrix().sign:
        if sign.kind == "general" and rng.random() > BLANK:
            found = rng.random() < 1 - (1 - sign.leak) * (1 - sign.w.get(shared or "", 0.0))
            out |= _general_entry(sign.id, bool(found))
    return out


def _general_entry(sign: str, found: bool) -> dict[str, Any]:
    if sign == "bb.pvr":
        return {"bb.pvr_ml": 300 if found else 30}
    if sign == "bb.anal_tone":
        return {sign: "reduced" if found else "normal"}
    return {sign: found}


def _signs(
    rng: np.random.Generator,
    states: dict[str, int],
    local: str | None,
    shared: str | None,
    sacral: bool,
    population: Population,
) -> dict[str, Any]:
    numbers = model()
    out: dict[str, Any] = {"pain.distribution": []}
    for sign in matrix().sign:
        if sign.kind == "general" or sign.id.startswith(("emg.", "ncs.")) or rng.random() < BLANK:
            continue
        absent, absent_marked = 1 - sign.leak, 1 - sign.leak * numbers.marked_weakness["leak"]
        for root, state in states.items():
            if state == 0:
                continue
            weight = _weight(rng, sign, root, population) * population.root_factor
            mild, hard = numbers.mild_root[sign.kind], numbers.marked_weakness
            absent *= 1 - weight * (mild if state == 1 else 1.0)
            absent_marked *= 1 - weight * hard["irritated" if state == 1 else "compromised"]
        for cause in (local, shared):
            if cause is None:
                continue
            weight = _weight(rng, sign, cause, population)
            if sacral and cause == shared and sign.id not in numbers.sacral_form.kept:
                weight *= numbers.sacral_form.leg_factor
            absent *= 1 - weight
            name = "local" if cause in LOCAL else cause
            absent_marked *= 1 - weight * numbers.marked_weakness[name]
        u = rng.random()
        level = 2 if u < 1 - absent_marked else 1 if u < 1 - absent else 0
        _enter(rng, out, sign, level)
    return out


def _weight(rng: np.random.Generator, sign: Sign, cause: str, population: Population) -> float:
    weight = sign.w.get(cause, 0.0)
    if population.noise == 0 or not 0 < weight < 1:
        return weight
    return float(1 / (1 + np.exp(-(np.log(weight / (1 - weight)) + rng.normal(0, population.noise)))))


def _enter(rng: np.random.Generator, out: dict[str, Any], sign: Sign, level: int) -> None:
    """Write one sign as an examiner would; level 2 is marked weakness."""
    name = sign.id
    if sign.kind == "motor":
        out[name] = "5" if level == 0 else str(rng.choice(_MARKED if level == 2 else _MILD))
    elif name == "umn.hyper":
        if level:
            out["ref.patellar"] = 3
    elif name.startswith("ref."):
        out.setdefault(name, 1 if level else 2)
    elif name == "sen.stocking":
        out[name] = "present" if level else "absent"
    elif name.startswith("sen."):
        out[name] = "reduced" if level else "normal"
    elif name.startswith("pain."):
        out["pain.distribution"] += [name.removeprefix("pain.")] if level else []
    elif name == "ten.slr":
        out["ten.slr_deg"] = 45 if level else "negative"
    elif name == "umn.tone":
        out[name] = "increased" if level else "normal"
    elif name.startswith("umn."):
        out[name] = "present" if level else "absent"
    else:
        out[name] = "positive" if level else "negative"


def _images(rng: np.random.Generator, roots: dict[tuple[Side, str], int]) -> Imaging:
    """A finding at each root's own disc and side with the grade that the ratios make likely."""
    ratios = np.array(model().imaging.ratio_by_grade)
    findings: list[dict[str, Any]] = []
    for (side, root), state in roots.items():
        weight = np.array(GRADE_AT_REST) * (1.0, np.sqrt(ratios), ratios)[state]
        grade = int(rng.choice(4, p=weight / weight.sum()))
        if grade:
            site = {"level": _LEVEL[root], "side": side, "zone": "subarticular"}
            findings.append(site | {"condition": "herniation", "type": "protrusion", "root_grade": grade})
    return Imaging.parse({"assessed": ["L2-L3", "L3-L4", "L4-L5", "L5-S1"], "findings": findings})
