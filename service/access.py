"""What every route needs from the application: its settings, store and worker, and bodies within their limits."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, cast

from fastapi import Depends, Query, Request

from service.jobs import Worker
from service.problems import Problem
from service.reception import Reception
from service.settings import Settings
from service.store import Store


def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _store(request: Request) -> Store:
    return cast(Store, request.app.state.store)


def _worker(request: Request) -> Worker:
    return cast(Worker, request.app.state.worker)


def _uploads(request: Request) -> asyncio.Semaphore:
    return cast(asyncio.Semaphore, request.app.state.uploads)


def _reception(request: Request) -> Reception:
    return cast(Reception, request.app.state.reception)


TheSettings = Annotated[Settings, Depends(_settings)]
TheStore = Annotated[Store, Depends(_store)]
TheWorker = Annotated[Worker, Depends(_worker)]
TheReception = Annotated[Reception, Depends(_reception)]
TheUploads = Annotated[asyncio.Semaphore, Depends(_uploads)]


async def json_body(request: Request, settings: TheSettings) -> Any:
    """The JSON body of a request, read up to the limit. Raises Problem 413 or 422."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > settings.max_json_bytes:
            raise Problem(413, "TOO_LARGE", f"a JSON body holds at most {settings.max_json_bytes} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(422, "NOT_JSON", "the body is not valid JSON") from error


JsonBody = Annotated[Any, Depends(json_body)]


Language = Annotated[str, Query(description="language of sentences, page and PDF: en, de or es")]


def known_language(language: str) -> str:
    """The language where it has a catalogue, or Problem 422."""
    from configs.clinical import languages

    if language not in languages():
        raise Problem(422, "FIELD", f"language: one of {', '.join(languages())}", field="language")
    return language


def found(row: dict[str, Any] | None, what: str) -> dict[str, Any]:
    """The row, or Problem 404."""
    if row is None:
        raise Problem(404, "NOT_FOUND", f"there is no such {what}")
    return row
