"""Bodies that the published interface shows as examples, with their schemas. The same examples are tried by the tests."""

from __future__ import annotations

from typing import Any

from inference.exam import exam_schema

EXAM: dict[str, Any] = {
    "general": {"pt.age": 44, "time.onset_days": 10, "time.course": "stable", "attest.safety_negative": True},
    "right": {
        "mrc.tibialis_anterior": "3",
        "mrc.extensor_hallucis_longus": "2",
        "mrc.tibialis_posterior": "4",
        "sen.L5": "reduced",
        "ref.achilles": 2,
        "pain.distribution": ["L5"],
    },
    "left": {"attest.remaining_normal": ["all"]},
}
FINDINGS: dict[str, Any] = {
    "numbering": "certain",
    "assessed": ["L3-L4", "L4-L5", "L5-S1"],
    "findings": [
        {
            "level": "L4-L5",
            "side": "right",
            "zone": "subarticular",
            "condition": "herniation",
            "type": "extrusion",
            "severity": "severe",
            "ap_mm": 7.5,
        }
    ],
}
FIRST_READ: dict[str, Any] = {"L4-L5": {"herniation": {"right": "severe"}, "recess_stenosis": {"right": "moderate"}}}


def json_request(example: Any, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """The part of an OpenAPI operation that describes a JSON body."""
    content = {"schema": schema or {"type": "object"}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def exam_request() -> dict[str, Any]:
    """An examination as body."""
    return json_request(EXAM, exam_schema())


def correlate_request() -> dict[str, Any]:
    """Examination, findings and perhaps a first read as body."""
    schema = {
        "type": "object",
        "required": ["exam", "findings"],
        "properties": {
            "exam": exam_schema(),
            "findings": {"type": "object", "description": "see /v1/schemas/findings"},
            "first_read": {"type": "object"},
        },
        "additionalProperties": False,
    }
    return json_request({"exam": EXAM, "findings": FINDINGS}, schema)
