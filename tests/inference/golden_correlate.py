"""Fixed made-up cases that between them use every field and every table, and what the correlation said about them.

`python -m tests.inference.golden_correlate` writes the file anew after a number was changed on purpose; the difference is the review.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from configs.clinical import ExamField, exam_table
from inference.clinical import assess
from inference.exam import Exam
from inference.roots import Imaging

FILE = Path(__file__).with_name("golden_correlate.json")
CASES = 48
FINDINGS: tuple[dict[str, Any], ...] = (
    {
        "level": "L4-L5",
        "side": "right",
        "zone": "subarticular",
        "condition": "herniation",
        "type": "extrusion",
        "severity": "severe",
    },
    {"level": "L5-S1", "side": "left", "condition": "foraminal_stenosis", "severity": "severe"},
    {"level": "L4-L5", "side": "both", "condition": "canal_stenosis", "severity": "severe"},
    {"level": "L3-L4", "side": "left", "condition": "recess_stenosis", "severity": "moderate"},
    {
        "level": "L2-L3",
        "side": "midline",
        "zone": "central",
        "condition": "herniation",
        "type": "protrusion",
        "root_grade": 2,
    },
    {"level": "L4-L5", "side": "right", "condition": "recess_stenosis", "root_grade": 2},
)


_FULL: dict[str, Any] = {"umn.babinski": "absent", "umn.clonus": "absent", "umn.tone": "normal", "fn.flail_foot": False}
_FULL |= {"umn.fasciculation": "absent", "sen.stocking": "absent", "sen.saddle": "normal", "pul.pedal": "present"}
_FULL |= {
    f"mrc.{name}": "5" for name in ("iliopsoas", "quadriceps", "tibialis_anterior", "gluteus_medius", "gastrocnemius")
}
_FULL |= {
    "mrc.extensor_hallucis_longus": "5",
    "mrc.tibialis_posterior": "5",
    "mrc.peronei": "5",
    "mrc.toe_extensors": "5",
}
_FULL |= {
    "ref.patellar": 2,
    "ref.achilles": 2,
    "sen.L3": "normal",
    "sen.L4": "normal",
    "sen.L5": "normal",
    "sen.S1": "normal",
}
ROOTS: tuple[dict[str, Any], ...] = (
    _FULL
    | {
        "mrc.tibialis_anterior": "4",
        "mrc.extensor_hallucis_longus": "3",
        "mrc.gluteus_medius": "4",
        "sen.L5": "reduced",
    },
    _FULL | {"mrc.gastrocnemius": "4", "ref.achilles": 0, "sen.S1": "reduced", "pain.distribution": ["S1"]},
    _FULL | {"mrc.quadriceps": "4-", "ref.patellar": 0, "sen.L4": "reduced", "ten.femoral_stretch": "positive"},
    _FULL | {"ten.slr_deg": 40, "pain.distribution": ["L5"]},
    _FULL,
)
"""A leg that fits one root, one with pain only, and a normal one."""


def _pick(seed: int, key: str, choices: list[Any]) -> Any:
    return choices[sha256(f"{seed}:{key}".encode()).digest()[0] % len(choices)]


def _value(seed: int, block: str, field: ExamField) -> Any:
    key = f"{block}:{field.id}"
    if field.scale == "mrc":
        return _pick(seed, key, [None, "5", "5", "5", "4", "4+", "3", "2"])
    if field.type == "enum":
        return _pick(seed, key, [None, *exam_table().scale_of(field).values])
    if field.type == "bool":
        return _pick(seed, key, [None, False, False, True])
    if field.type == "list":
        return _pick(seed, key, [None, [], ["L5"], ["S1", "L4"], ["L3"]]) if field.scale == "pain_area" else None
    if field.type == "int_or_negative":
        return _pick(seed, key, [None, "negative", 40, 75])
    if field.type == "int":
        high = field.max or 0
        return _pick(
            seed, key, [None, min(2, high), min(2, high), min(1, high), min(3, high), min(70, high), min(400, high)]
        )
    return None


def case(seed: int) -> tuple[Exam, Imaging]:
    """One made-up case; the same seed gives the same case whatever fields are added to the form later."""
    table = exam_table()
    data = {
        block: {
            field.id: _value(seed, block, field) for field in table.block("general" if block == "general" else "side")
        }
        for block in ("left", "right", "general")
    }
    if seed % 3 == 0:
        data["left"] = {"attest.remaining_normal": ["all"]}
    if seed % 2 == 0:
        calm = ("bb.", "rf.", "com.", "time.")
        kept = {name: value for name, value in data["general"].items() if not name.startswith(calm)}
        data["general"] = kept | {"attest.safety_negative": True, "time.course": "stable", "time.onset_days": 10 * seed}
    if seed % 4 == 0:
        data["right"], data["left"] = dict(ROOTS[seed // 4 % len(ROOTS)]), {"attest.remaining_normal": ["all"]}
    first = seed % len(FINDINGS)
    imaging = {
        "numbering": "uncertain" if seed % 7 == 6 else "certain",
        "assessed": ["L2-L3", "L3-L4", "L4-L5", "L5-S1"],
        "scoliosis_convex": "right" if seed % 2 else None,
        "findings": [FINDINGS[first], FINDINGS[(first + 2) % len(FINDINGS)]],
    }
    return Exam.parse(data), Imaging.parse(imaging)


def outcome(seed: int) -> dict[str, Any]:
    """What is said about a case, beliefs to three decimals."""
    result = assess(*case(seed))
    concordance = result.concordance
    assert concordance is not None
    return {
        "verdict": concordance.verdict,
        "findings": [[item.verdict, *item.rules] for item in concordance.per_finding],
        "roots": {
            f"{item.side}:{item.root}": [round(item.p_exam_only, 3), round(item.p_with_imaging, 3)]
            for item in concordance.roots
        },
        "causes": {f"{item.side or 'both'}:{item.name}": round(item.p, 3) for item in concordance.alternatives},
        "shares": {item.field: round(item.share, 3) for item in concordance.deficits},
        "missing": [item.field for item in concordance.missing[:4]],
        "tier": result.triage.tier,
        "rules": [rule.id for rule in result.triage.rules],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps({str(seed): outcome(seed) for seed in range(CASES)}, indent=1) + "\n", encoding="utf-8")
