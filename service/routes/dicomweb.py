"""DICOMweb (PS3.18 10.4 to 10.6): objects in by STOW-RS; what is kept one by one, and what analyses made, out by QIDO-RS and WADO-RS.

Bytes are parsed in the decoding child only. Objects are given out in the transfer syntax they are kept in; nothing is converted.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from configs.loader import limits
from dicom_io.arrivals import Commit, Examiner, NotKeptError, Outcome, take
from dicom_io.isolation import Examined
from dicom_io.multipart import MultipartError, Part, PartReader, boundary_of, write_parts
from service.access import TheSettings, TheStore, TheUploads
from service.problems import Problem
from service.received import Kept, dicom_json, is_whole
from service.routes.search import Search, found_instances, found_series, found_studies
from service.settings import Settings
from service.store import Store

router = APIRouter(prefix="/dicomweb", tags=["DICOMweb"])

_LOG = logging.getLogger("recess.dicomweb")
_DICOM, _JSON = "application/dicom", "application/dicom+json"
_CHUNK = 1 << 20
_KEPT_WITH_REMARK, _NOT_UNDERSTOOD, _NO_RESOURCES, _MISMATCH = 0xB007, 0xC000, 0xA700, 0xA900
Uid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]
_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {'multipart/related; type="application/dicom"': {"schema": {}}}}
}


class _OtherStudyError(Exception):
    """An object of another study than the one it is stored into."""


@router.post("/studies", openapi_extra=_BODY, response_class=JSONResponse)
async def store_objects(request: Request, settings: TheSettings, store: TheStore, uploads: TheUploads) -> Response:
    """Store objects. 200 all stored, 202 some with a remark or refused, 409 all refused; DICOM JSON says what became of each."""
    return await _in_turn(uploads, request, settings, store, None)


@router.post("/studies/{study}", openapi_extra=_BODY, response_class=JSONResponse)
async def store_into_study(
    study: Uid, request: Request, settings: TheSettings, store: TheStore, uploads: TheUploads
) -> Response:
    """Store objects of this study; others are refused."""
    return await _in_turn(uploads, request, settings, store, study)


async def _in_turn(
    uploads: asyncio.Semaphore, request: Request, settings: Settings, store: Store, study: str | None
) -> Response:
    if uploads.locked():
        raise Problem(503, "BUSY", "too many uploads at a time; send it again in a while")
    async with uploads:
        return await _stow(request, settings, store, study)


async def _stow(request: Request, settings: Settings, store: Store, study: str | None) -> Response:
    if shutil.disk_usage(store.root).free < settings.low_water_bytes:
        raise Problem(503, "DISK_LOW", "too little free disk to take objects in; free some space and send them again")
    if request.headers.get("content-encoding"):
        raise Problem(415, "ENCODING", "send the body without content encoding")
    commit = _into(store, study)
    outcomes: list[tuple[Outcome, int]] = []
    try:
        boundary = boundary_of(request.headers.get("content-type", ""))
        with Examiner() as examiner:
            async for content_type, content in _parts(request, settings, boundary):
                if content_type != _DICOM:
                    outcomes.append((Outcome("refused", "NOT_DICOM"), _NOT_UNDERSTOOD))
                else:
                    outcomes.append(await run_in_threadpool(_take, examiner, content, commit))
    except MultipartError as error:
        status = {"TOO_LARGE": 413, "TOO_MANY_PARTS": 413}.get(error.code, 400)
        raise Problem(status, error.code, f"{error}; objects that came before are kept") from error
    if not outcomes:
        raise Problem(400, "EMPTY", "the body holds no object")
    return _answer(outcomes, str(request.base_url))


async def _parts(request: Request, settings: Settings, boundary: bytes) -> AsyncIterator[Part]:
    reader = PartReader(boundary, settings.max_parts)
    stream, size = aiter(request.stream()), 0
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), limits().network.idle_seconds)
        except StopAsyncIteration:
            reader.close()
            return
        except TimeoutError as error:
            raise Problem(408, "IDLE", "nothing came for too long; objects that came before are kept") from error
        size += len(chunk)
        if size > settings.max_body_bytes:
            raise Problem(413, "TOO_LARGE", f"a body holds at most {settings.max_body_bytes} bytes")
        for part in reader.feed(chunk):
            yield part


def _into(store: Store, study: str | None) -> Commit:
    def commit(data: bytes, examined: Examined) -> str:
        header = examined.verdict.header
        if study is not None and (header is None or header.study_instance_uid != study):
            raise _OtherStudyError
        return store.objects.receive(data, examined)

    return commit


def _take(examiner: Examiner, data: bytes, commit: Commit) -> tuple[Outcome, int]:
    """Outcome and reason (0: none) of one object; never "stored" for bytes that were not kept."""
    try:
        outcome = take(examiner, data, commit)
    except _OtherStudyError:
        return Outcome("refused", "OTHER_STUDY"), _MISMATCH
    except NotKeptError as full:
        return Outcome("refused", full.code), _NO_RESOURCES
    except Exception as error:  # the text may hold what was sent
        _LOG.error("an object could not be kept: %s", type(error).__name__)
        return Outcome("refused", "IO" if isinstance(error, OSError) else "INTERNAL"), _NO_RESOURCES
    if outcome.state == "refused":
        return outcome, _NOT_UNDERSTOOD
    return outcome, 0 if outcome.state == "stored" else _KEPT_WITH_REMARK


def _answer(outcomes: list[tuple[Outcome, int]], base: str) -> Response:
    content: dict[str, Any] = {}
    for outcome, reason in outcomes:
        refused, header = outcome.state == "refused", outcome.header
        item: dict[str, Any] = {}
        if header is not None:
            item["00081150"] = dicom_json("UI", [header.sop_class_uid] if header.sop_class_uid else [])
            item["00081155"] = dicom_json("UI", [header.sop_instance_uid])
        if refused:
            item["00081197"] = dicom_json("US", [reason])
        else:
            if reason:
                item["00081196"] = dicom_json("US", [reason])
            if header is not None:
                item["00081190"] = dicom_json("UR", [_address(base, header)])
        sequence = ("00081198" if header is not None else "0008119A") if refused else "00081199"
        content.setdefault(sequence, {"vr": "SQ", "Value": []})["Value"].append(item)
    reasons = [reason for outcome, reason in outcomes if outcome.state == "refused"]
    if len(reasons) == len(outcomes):
        status = 503 if set(reasons) == {_NO_RESOURCES} else 409
    else:
        status = 202 if any(reason for _, reason in outcomes) else 200
    codes = ", ".join(sorted({outcome.code for outcome, _ in outcomes if outcome.code}))
    headers = {"Warning": f'299 recess "{codes}"'} if codes else {}
    return JSONResponse(content, status_code=status, media_type=_JSON, headers=headers)


def _address(base: str, header: Any) -> str:
    place = f"{header.study_instance_uid}/series/{header.series_instance_uid}/instances/{header.sop_instance_uid}"
    return f"{base.rstrip('/')}/dicomweb/studies/{place}"


@router.get("/studies", response_class=JSONResponse)
def search_studies(request: Request, store: TheStore, search: Annotated[Search, Query()]) -> Response:
    """Search studies."""
    return _found(found_studies(store.objects, search, _asked(request)))


@router.get("/series", response_class=JSONResponse)
def search_all_series(request: Request, store: TheStore, search: Annotated[Search, Query()]) -> Response:
    """Search series of all studies."""
    return _found(found_series(store.objects, None, search, _asked(request)))


@router.get("/instances", response_class=JSONResponse)
def search_all_instances(request: Request, store: TheStore, search: Annotated[Search, Query()]) -> Response:
    """Search objects of all studies."""
    return _found(found_instances(store.objects, None, None, search, _asked(request)))


@router.get("/studies/{study}/series", response_class=JSONResponse)
def search_series(study: Uid, request: Request, store: TheStore, search: Annotated[Search, Query()]) -> Response:
    """Search series of a study."""
    return _found(found_series(store.objects, study, search, _asked(request)))


@router.get("/studies/{study}/instances", response_class=JSONResponse)
def search_instances_of_study(
    study: Uid, request: Request, store: TheStore, search: Annotated[Search, Query()]
) -> Response:
    """Search objects of a study."""
    return _found(found_instances(store.objects, study, None, search, _asked(request)))


@router.get("/studies/{study}/series/{series}/instances", response_class=JSONResponse)
def search_instances(
    study: Uid, series: Uid, request: Request, store: TheStore, search: Annotated[Search, Query()]
) -> Response:
    """Search objects of a series."""
    return _found(found_instances(store.objects, study, series, search, _asked(request)))


def _asked(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.query_params.items() if name not in Search.model_fields}


def _found(items: list[dict[str, Any]]) -> Response:
    return JSONResponse(items, media_type=_JSON) if items else Response(status_code=204)


@router.get("/studies/{study}", response_class=StreamingResponse)
def retrieve_study(study: Uid, request: Request, store: TheStore) -> Response:
    """All objects of a study."""
    return _retrieved(request, store.objects.find(study))


@router.get("/studies/{study}/series/{series}", response_class=StreamingResponse)
def retrieve_series(study: Uid, series: Uid, request: Request, store: TheStore) -> Response:
    """All objects of a series."""
    return _retrieved(request, store.objects.find(study, series))


@router.get("/studies/{study}/series/{series}/instances/{instance}", response_class=StreamingResponse)
def retrieve_instance(study: Uid, series: Uid, instance: Uid, request: Request, store: TheStore) -> Response:
    """One object."""
    return _retrieved(request, store.objects.find(study, series, instance))


def _retrieved(request: Request, found: list[Kept]) -> Response:
    if not found:
        raise Problem(404, "NOT_FOUND", "no such object is kept one by one")
    accepted = request.headers.get("accept", "*/*")
    if not _acceptable(accepted, {kept.transfer_syntax_uid for kept in found}):
        raise Problem(406, "NOT_ACCEPTABLE", "objects are given as application/dicom, in the syntax they are kept in")
    if not all(is_whole(kept) for kept in found):
        raise Problem(500, "BIT_ROT", "a kept object no longer has the bytes that came in; it is not given out")
    if len(found) == 1 and "multipart/" not in accepted and _DICOM in accepted:
        headers = {"Content-Disposition": 'attachment; filename="object.dcm"'}
        return StreamingResponse(_pieces(found[0]), media_type=_DICOM, headers=headers)
    boundary = secrets.token_hex(16)
    body = write_parts(((_DICOM, _pieces(kept)) for kept in found), boundary.encode())
    return StreamingResponse(body, media_type=f'multipart/related; type="{_DICOM}"; boundary={boundary}')


def _acceptable(accepted: str, syntaxes: set[str]) -> bool:
    """Whether one of the media ranges takes DICOM in all of these transfer syntaxes (none named: as it is kept)."""
    for each in accepted.split(","):
        kind, *parameters = [part.strip() for part in each.split(";")]
        named = dict(part.partition("=")[::2] for part in parameters if "=" in part)
        wanted = named.get("transfer-syntax", "*").strip('"')
        type_ = named.get("type", _DICOM).strip('"')
        fits = kind.lower() in ("*/*", "multipart/*", "multipart/related", _DICOM) and type_ == _DICOM
        if fits and (wanted == "*" or {wanted} == syntaxes):
            return True
    return False


def _pieces(kept: Kept) -> Iterator[bytes]:
    with kept.path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            yield piece
