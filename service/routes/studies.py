"""Studies: take them in, list them, and take what people enter about them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from service.access import JsonBody, Language, TheSettings, TheStore, TheWorker, found, known_language
from service.examples import FIRST_READ, exam_request, json_request
from service.jobs import analysis_id, examination, parse_first_read
from service.problems import Problem
from service.uploads import take_in

router = APIRouter(prefix="/v1/studies", tags=["studies"])

Tier = Literal["T1", "T2", "T3", "T4"]
Status = Literal["queued", "running", "done", "abstained", "failed"]
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}


@router.post("", status_code=201, openapi_extra=_UPLOAD)
async def post_study(request: Request, response: Response, settings: TheSettings, store: TheStore) -> dict[str, Any]:
    """Take in a zip or DICOM parts. 201 with the study ids, 422 with what became of every object."""
    taken = await take_in(request, settings, store)
    first = taken["studies"][0]
    response.headers["Location"] = f"/v1/studies/{first['id']}"
    return {"id": first["id"], **taken}


@router.get("")
def list_studies(
    store: TheStore,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
    tier: Tier | None = None,
    status: Status | None = None,
) -> dict[str, Any]:
    """Worklist, the most urgent first."""
    total, items = store.studies(limit, offset, tier, status)
    return {"total": total, "limit": limit, "offset": offset, "items": items}


@router.get("/{study_id}")
def get_study(study_id: str, store: TheStore) -> dict[str, Any]:
    """One study with its series, versions of what was entered, and analyses."""
    return found(store.study(study_id), "study")


@router.put("/{study_id}/exam", openapi_extra=exam_request())
def put_exam(study_id: str, body: JsonBody, store: TheStore) -> dict[str, Any]:
    """A new version of the examination; 422 names the field. The one of the first analysis stays that of the verdict."""
    from inference.exam import Exam
    from inference.exam_versions import MAX_VERSIONS, check_patient

    study = found(store.study(study_id), "study")
    entered = Exam.parse(body)
    check_patient(entered, study["pseudonym"])
    version = store.put_entry(study_id, "exam", entered.to_plain(), MAX_VERSIONS)
    if version is None:
        raise Problem(422, "TOO_MANY", f"an examination has at most {MAX_VERSIONS} versions", field="exam")
    return {"study_id": study_id, "version": version}


@router.put("/{study_id}/first-read", openapi_extra=json_request(FIRST_READ))
def put_first_read(study_id: str, body: JsonBody, store: TheStore) -> dict[str, Any]:
    """A new version of the first read; 422 names the field."""
    found(store.study(study_id), "study")
    parse_first_read(body)
    return {"study_id": study_id, "version": store.put_entry(study_id, "first_read", body)}


@router.post("/{study_id}/analyses", status_code=202)
def post_analysis(
    study_id: str, response: Response, store: TheStore, worker: TheWorker, language: Language = "en"
) -> dict[str, Any]:
    """Ask for an analysis of the study with its examinations and newest first read. Equal inputs give the same id.

    The examination is locked by its first analysis: later versions give a verdict of their own beside it and may raise the tier.
    """
    found(store.study(study_id), "study")
    exam, first_read = store.entry(study_id, "exam"), store.entry(study_id, "first_read")
    identity = analysis_id(
        store.manifest_of(study_id),
        examination(store.examinations(study_id)),
        parse_first_read(first_read[1] if first_read else None),
        known_language(language),
    )
    versions = (exam[0] if exam else None, first_read[0] if first_read else None)
    if store.submit(identity, study_id, *versions, language):
        worker.wake()
    response.headers["Location"] = f"/v1/analyses/{identity}"
    return found(store.analysis(identity), "analysis")
