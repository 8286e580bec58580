"""Liveness and readiness: is the process there, and can it take a study in and read it."""

from __future__ import annotations

import shutil

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from inference.doctor import weight_checks
from service.access import TheReception, TheSettings, TheStore, TheWorker

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(store: TheStore, worker: TheWorker, reception: TheReception, settings: TheSettings) -> JSONResponse:
    """200 when index, weights, disk, worker and reception are all good, 503 otherwise, with each of them."""
    try:
        database = store.answers()
    except SQLAlchemyError:
        database = False
    checks = {
        "database": database,
        "weights": all(check.good for check in weight_checks()),
        "disk": shutil.disk_usage(store.root).free >= settings.low_water_bytes,
        "worker": worker.alive,
        "reception": reception.ready,
    }
    ready = all(checks.values())
    return JSONResponse(
        {"ready": ready, "device": settings.device, "checks": checks}, status_code=200 if ready else 503
    )
