"""Draws examinations and imaging from the whole form: every field, every missingness pattern, contradictions included."""

from __future__ import annotations

import random
from typing import Any

import pytest

from configs.clinical import ExamField, exam_table
from inference.exam import Exam
from inference.roots import Imaging

AMOUNTS = pytest.mark.parametrize(
    "cases", [pytest.param(range(300), id="300"), pytest.param(range(20_000), id="20000", marks=pytest.mark.soak)]
)
"""How many drawn cases a property is held against: some in every run, many in the long one."""
LEVELS = ("L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")


def random_exam(seed: int) -> Exam:
    """An examination with a random share of blanks, random abnormal rates and sometimes blanket statements."""
    rng = random.Random(seed)
    blank = {side: rng.choice([0.0, 0.2, 0.6, 0.9, 1.0]) for side in ("left", "right", "general")}
    ill = {side: rng.choice([0.0, 0.1, 0.4, 0.9]) for side in ("left", "right", "general")}
    data: dict[str, dict[str, Any]] = {}
    for block in ("left", "right", "general"):
        kind = "general" if block == "general" else "side"
        data[block] = {
            field.id: _value(field, rng, ill[block])
            for field in exam_table().block(kind)  # type: ignore[arg-type]
            if not field.id.startswith(("attest.", "meta.")) and rng.random() >= blank[block]
        }
    for side in ("left", "right"):
        if rng.random() < 0.4:
            groups = ["motor", "sensory", "reflex", "tension", "umn", "all"]
            data[side]["attest.remaining_normal"] = rng.sample(groups, rng.randint(1, 3))
    if rng.random() < 0.4:
        data["general"]["attest.safety_negative"] = True
    return Exam.parse(data)


def _value(field: ExamField, rng: random.Random, ill: float) -> Any:
    bad = rng.random() < ill
    if field.type == "bool":
        return bad
    if field.scale == "mrc":
        return rng.choice(["0", "1", "2", "3", "4-", "4", "4+"]) if bad else "5"
    if field.type == "enum":
        return rng.choice(list(exam_table().scale_of(field).values))
    if field.type == "list":
        choices = list(exam_table().scale_of(field).values)
        return rng.sample(choices, rng.randint(1, 3)) if bad else []
    if field.type == "date":
        return f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    if field.type == "int_or_negative":
        return rng.randint(5, 90) if bad else "negative"
    if field.id.endswith(("days", "days_after_onset", "days_after_exam")):
        return rng.choice([0, 1, 3, 7, 10, 14, 20, 30, 42, 60, 84, 100, 400, 3000])
    if field.id == "bb.pvr_ml":
        return rng.choice([250, 350, 600]) if bad else rng.choice([0, 30, 150])
    if field.scale == "reflex":
        return rng.choice([0, 1, 3, 4]) if bad else 2
    return rng.randint(field.min or 0, field.max or 10)


def random_imaging(seed: int) -> Imaging:
    """Up to four findings of any kind, some withheld, with levels read in part."""
    rng = random.Random(seed * 7919 + 1)
    findings = [_finding(rng) for _ in range(rng.randint(0, 4))]
    assessed: list[Any] = [level for level in LEVELS if rng.random() < 0.6]
    if rng.random() < 0.3:
        assessed = [{"level": level, "sites": ["disc", "recess"]} for level in assessed]
    return Imaging.parse(
        {
            "numbering": rng.choice(["certain", "certain", "uncertain"]),
            "assessed": assessed,
            "scoliosis_convex": rng.choice([None, None, "left", "right"]),
            "findings": findings,
        }
    )


def _finding(rng: random.Random) -> dict[str, Any]:
    condition = rng.choice(["herniation", "recess_stenosis", "foraminal_stenosis", "canal_stenosis"])
    out: dict[str, Any] = {"level": rng.choice(LEVELS), "condition": condition}
    sided = condition in {"recess_stenosis", "foraminal_stenosis"}
    out["side"] = rng.choice(["left", "right"] if sided else ["left", "right", "both", "midline"])
    if rng.random() < 0.15:
        return out | {"withheld": "motion artefact"}
    out["severity"] = rng.choice(["normal_mild", "moderate", "severe", "severe"])
    if condition == "herniation":
        out["type"] = rng.choice(["bulge", "protrusion", "extrusion", "sequestration"])
        if rng.random() < 0.85:
            out["zone"] = rng.choice(["central", "subarticular", "foraminal", "extraforaminal"])
        if rng.random() < 0.3:
            out["migration"] = {"dir": rng.choice(["up", "down"]), "mm": rng.choice([3.0, 8.0])}
    if rng.random() < 0.3:
        out["root_grade"] = rng.randint(0, 3)
    if rng.random() < 0.1:
        out["post_op"] = True
    if rng.random() < 0.1:
        out["red_flag_lesion"] = "fluid beside the facet"
    return out


def strings(value: Any) -> list[str]:
    """Every string in plain data."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []
