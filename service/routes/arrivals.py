"""What came in object by object: which studies wait to be complete, and what was set aside or cannot be read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from service.access import TheStore

router = APIRouter(prefix="/v1/arrivals", tags=["studies"])


@router.get("")
def list_arrivals(store: TheStore) -> dict[str, Any]:
    """Studies received over a network: objects by state and code; `code` says why a study could not be entered."""
    return {"items": store.objects.arrivals()}
