"""Correlation alone: findings and an examination in, concordance out; no study and no pixels."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from service.access import JsonBody, Language, known_language
from service.examples import correlate_request
from service.problems import Problem

router = APIRouter(prefix="/v1", tags=["correlation"])
_MEMBERS = {"exam", "findings", "first_read"}


@router.post("/correlate", openapi_extra=correlate_request())
async def post_correlate(body: JsonBody, language: Language = "en") -> dict[str, Any]:
    """`{"exam": ..., "findings": ..., "first_read"?: ...}` -> concordance, triage and narrative."""
    if not isinstance(body, dict) or not {"exam", "findings"} <= set(body) <= _MEMBERS:
        raise Problem(
            422, "FIELD", "send an object with exam and findings, and first_read if there is one", field="body"
        )
    return await run_in_threadpool(_correlate, body, known_language(language))


def _correlate(body: dict[str, Any], language: str) -> dict[str, Any]:
    from inference.clinical import correlate_files

    with tempfile.TemporaryDirectory(prefix="recess-correlate-") as name:
        paths: dict[str, Path] = {}
        for member in sorted(set(body) & _MEMBERS):
            paths[member] = Path(name) / f"{member}.json"
            paths[member].write_text(json.dumps(body[member]), encoding="utf-8")
        return correlate_files(paths["exam"], paths["findings"], paths.get("first_read"), language)
