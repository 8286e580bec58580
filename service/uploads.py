"""Takes an upload in: streamed to disk, read as DICOM in a child process, kept by digest, and entered as studies.

Names and content types that a client sends decide nothing; a file is what its bytes are. Limits: settings and configs/limits.toml.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from dicom_io import Study, read_outcomes
from dicom_io.errors import InputError, NoUsableSeries
from service.jobs import study_of
from service.problems import Problem
from service.settings import Settings
from service.store import Store

_CHUNK = 1024 * 1024


async def take_in(request: Request, settings: Settings, store: Store) -> dict[str, Any]:
    """Read the body of a request into the store; returns what became of it. Raises Problem and InputError."""
    if shutil.disk_usage(store.root).free < settings.low_water_bytes:
        raise Problem(503, "DISK_LOW", "too little free disk to take a study in; free some space and send it again")
    if request.headers.get("content-encoding"):
        raise Problem(415, "ENCODING", "send the body without content encoding")
    with tempfile.TemporaryDirectory(dir=store.incoming) as name:
        folder = Path(name)
        if request.headers.get("content-type", "").startswith("multipart/"):
            await _spool_parts(request, settings, folder)
        else:
            await _spool_body(request, settings, folder / "0001")
        return await run_in_threadpool(enter, folder, store)


async def _spool_body(request: Request, settings: Settings, target: Path) -> None:
    size = 0
    with target.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > settings.max_body_bytes:
                raise Problem(413, "TOO_LARGE", f"a body holds at most {settings.max_body_bytes} bytes")
            file.write(chunk)
    if size == 0:
        raise Problem(422, "EMPTY", "the body is empty; send a zip or DICOM parts")


async def _spool_parts(request: Request, settings: Settings, folder: Path) -> None:
    try:
        form = await request.form(max_files=settings.max_parts, max_fields=100)
    except MultiPartException as error:
        raise Problem(422, "MULTIPART", "the body is not a valid multipart upload, or has too many parts") from error
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not files:
            raise Problem(422, "EMPTY", "the upload holds no file part; send a zip or DICOM parts")
        for number, part in enumerate(files, start=1):
            with (folder / f"{number:04d}").open("wb") as file:
                while chunk := await part.read(_CHUNK):
                    file.write(chunk)
    finally:
        await form.close()


def enter(folder: Path, store: Store) -> dict[str, Any]:
    """Keep the spooled files of `folder` and enter their studies. Raises InputError when no study can be used."""
    spooled = sorted(folder.iterdir())
    outcomes = read_outcomes(spooled)
    usable = [outcome for outcome in outcomes if isinstance(outcome, Study)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, NoUsableSeries)]
    if not usable:
        raise refused[0]
    digests = store.keep_all(spooled)
    return {
        "studies": [enter_study(store, study, digests) for study in usable],
        "refused": [_outcome(error) for error in refused],
    }


def enter_study(store: Store, study: Study, digests: Sequence[str]) -> dict[str, Any]:
    """Enter one study, together with what was kept of it before. Raises NoUsableSeries when the two do not go together."""
    pseudonym = study.patient.pseudonym
    together = sorted({*digests, *store.originals_of(pseudonym)})
    if set(together) != set(digests):
        study = study_of([store.original(digest) for digest in together], pseudonym)
    study_id = store.put_study(
        pseudonym=pseudonym,
        study_instance_uid=study.study_instance_uid,
        manifest_sha256=study.manifest_sha256,
        summary=_summary(study),
        originals=together,
    )
    left_out = [{"object": n.path, "code": n.code, "text": n.text} for n in study.excluded]
    return {"id": study_id, "objects": study.objects, "left_out": left_out}


def _summary(study: Study) -> dict[str, Any]:
    return {
        "objects": study.objects,
        "roles": sorted({stack.role for stack in study.stacks}),
        "series": [
            {
                "role": stack.role,
                "reason": stack.reason,
                "series_instance_uid": stack.series_instance_uid,
                "slices": stack.volume.grid.shape[0],
                "spacing_mm": [round(value, 4) for value in stack.volume.grid.spacing],
                "orientation": stack.volume.plane,
                "warnings": [warning.code for warning in stack.warnings],
            }
            for stack in study.stacks
        ],
        "warnings": [{"code": warning.code, "text": warning.text} for warning in study.warnings],
    }


def _outcome(error: InputError) -> dict[str, Any]:
    objects = [{"object": n.path, "code": n.code, "text": n.text} for n in error.notices]
    return {"code": error.code, "detail": str(error), "objects": objects}
