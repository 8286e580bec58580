"""Analyses: status, progress as it happens, and results as files."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from service.access import TheStore, found
from service.problems import Problem
from service.store import ENDED, Store

router = APIRouter(prefix="/v1/analyses", tags=["analyses"])

_PLANES = ("axial", "sagittal")
_EVENT_S = 0.25  # how often progress is looked at for a listener
_TYPES = {
    "report.json": "application/json",
    "report.html": "text/html; charset=utf-8",
    "report.pdf": "application/pdf",
    "seg.dcm": "application/dicom",
    "sr.dcm": "application/dicom",
}
Result = Literal["report.json", "report.html", "report.pdf", "seg.dcm", "sr.dcm"]


@router.get("/{analysis_id}")
def get_analysis(analysis_id: str, store: TheStore) -> dict[str, Any]:
    """Status and progress; when ended, the results that can be fetched."""
    row = found(store.analysis(analysis_id), "analysis")
    folder = store.results / row["id"]
    results = [name for name in _TYPES if (folder / name).is_file()]
    images = [f"images/{p}/{n}.png" for p in _PLANES for n in range(1, len(_images(folder, p)) + 1)]
    return row | {"results": [f"/v1/analyses/{row['id']}/{name}" for name in (*results, *images)]}


@router.get("/{analysis_id}/events", response_class=StreamingResponse)
async def get_events(analysis_id: str, store: TheStore) -> StreamingResponse:
    """Progress as server-sent events until the analysis has ended."""
    found(await run_in_threadpool(store.analysis, analysis_id), "analysis")
    return StreamingResponse(_events(analysis_id, store), media_type="text/event-stream")


async def _events(analysis_id: str, store: Store) -> AsyncIterator[str]:
    last: dict[str, Any] = {}
    while True:
        row = await run_in_threadpool(store.analysis, analysis_id)
        if row is None:
            return
        if row != last:
            last = row
            name = "end" if row["status"] in ENDED else "progress"
            yield f"event: {name}\ndata: {json.dumps(row)}\n\n"
        if row["status"] in ENDED:
            return
        await asyncio.sleep(_EVENT_S)


@router.get("/{analysis_id}/images/{plane}/{number}.png", response_class=FileResponse)
def get_image(analysis_id: str, plane: Literal["axial", "sagittal"], number: int, store: TheStore) -> FileResponse:
    """Key image `number` (from 1) of a plane."""
    images = _images(_folder(analysis_id, store), plane)
    if not 1 <= number <= len(images):
        raise Problem(404, "NO_RESULT", f"this analysis has {len(images)} {plane} images, numbered from 1")
    return _file(images[number - 1], "image/png")


@router.get("/{analysis_id}/{name}", response_class=FileResponse)
def get_result(analysis_id: str, name: Result, store: TheStore) -> FileResponse:
    """The report as JSON, page or PDF, or its DICOM objects."""
    return _file(_folder(analysis_id, store) / name, _TYPES[name])


def _images(folder: Path, plane: str) -> list[Path]:
    """Key images of a plane in their order in the report."""
    return sorted(folder.glob(f"images/*_{plane}_*.png"))


def _folder(analysis_id: str, store: Store) -> Path:
    row = found(store.analysis(analysis_id), "analysis")
    if row["status"] not in ENDED:
        raise Problem(409, "NOT_READY", f"the analysis is {row['status']}; ask again when it has ended")
    if row["status"] == "failed" or not re.fullmatch(r"[0-9a-f]{32}", row["id"]):
        raise Problem(404, "NO_RESULT", "the analysis failed and has no result; ask for it again")
    return store.results / str(row["id"])


def _file(path: Path, media_type: str) -> FileResponse:
    if not path.is_file():
        raise Problem(404, "NO_RESULT", "this analysis has no such result; its report says why")
    return FileResponse(path, media_type=media_type, filename=path.name, content_disposition_type="inline")
