"""Errors as `application/problem+json` (RFC 9457): a stable code, a sentence, and where it helps the field or the objects."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dicom_io.errors import InputError
from inference.clinical_input import ClinicalInputError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 (the name that the standard gives it)
    """An answer other than success; `extra` are further members of the problem document."""

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.extra = extra


def problem_response(status: int, code: str, detail: str, **extra: Any) -> JSONResponse:
    """A problem document as a response."""
    body = {
        "type": f"urn:recess:problem:{code.lower().replace('_', '-')}",
        "title": code,
        "status": status,
        "detail": detail,
    }
    return JSONResponse(body | extra, status_code=status, media_type=MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app` as a problem document."""

    @app.exception_handler(Problem)
    def on_problem(_: Request, error: Problem) -> JSONResponse:
        return problem_response(error.status, error.code, error.detail, **error.extra)

    @app.exception_handler(ClinicalInputError)
    def on_clinical(_: Request, error: ClinicalInputError) -> JSONResponse:
        return problem_response(422, "FIELD", str(error), field=error.path, allowed=error.allowed)

    @app.exception_handler(InputError)
    def on_input(_: Request, error: InputError) -> JSONResponse:
        objects = [{"object": n.path, "code": n.code, "text": n.text} for n in error.notices]
        return problem_response(422, error.code, str(error), objects=objects)

    @app.exception_handler(RequestValidationError)
    def on_validation(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem_response(422, "REQUEST", f"{where}: {first['msg']}", field=where)

    @app.exception_handler(HTTPException)
    def on_http(_: Request, error: HTTPException) -> JSONResponse:
        return problem_response(error.status_code, f"HTTP_{error.status_code}", str(error.detail))

    @app.exception_handler(Exception)
    def on_fault(_: Request, error: Exception) -> JSONResponse:
        return problem_response(500, "FAULT", "the service failed on this request; its log names the place")
