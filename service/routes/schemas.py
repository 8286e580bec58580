"""JSON Schemas of everything that goes in and comes out, the same ones that the command line checks against."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter

router = APIRouter(prefix="/v1/schemas", tags=["schemas"])


@router.get("/{name}")
def get_schema(name: Literal["exam", "findings", "report"]) -> dict[str, Any]:
    """JSON Schema of the examination, of the findings, or of report.json."""
    from inference.exam import exam_schema
    from inference.report import json_schema
    from inference.roots import Imaging

    return {"exam": exam_schema, "findings": Imaging.model_json_schema, "report": json_schema}[name]()
