"""The HTTP application: settings in, FastAPI app out. Routes are thin; queries stand in store.py, work in jobs.py.

Importing this loads no network and no torch; that happens in the worker at its first analysis.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response

from inference.provenance import software
from service.jobs import Worker
from service.problems import add_problem_handlers, problem_response
from service.reception import Reception
from service.routes import analyses, arrivals, correlation, dicomweb, health, schemas, studies
from service.settings import Settings
from service.store import Store

if TYPE_CHECKING:
    from inference.analyze import Engine

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_PAGE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"


def create_app(settings: Settings | None = None, engine: Engine | None = None) -> FastAPI:
    """The application with its store and one background worker, which start and end with it.

    `engine` are networks that are loaded already; without it the worker loads them for its first analysis.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = Store(settings.data_dir, settings.low_water_bytes)
        store.sweep()
        worker = Worker(store, settings.device, engine)
        reception = Reception(store, settings)
        app.state.store, app.state.worker, app.state.reception = store, worker, reception
        app.state.uploads = asyncio.Semaphore(settings.max_uploads)
        worker.start()
        reception.start()
        try:
            yield
        finally:
            reception.stop()
            worker.stop()
            store.close()

    app = FastAPI(
        title="recess",
        version=software().version,
        description="Second reader for lumbar spine MRI. Research software, not a medical device.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    add_problem_handlers(app)
    for routes in (studies, arrivals, analyses, correlation, schemas, dicomweb, health):
        app.include_router(routes.router)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = _refused(request, settings)
        response = refused if refused is not None else await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        is_page = response.headers.get("content-type", "").startswith("text/html")
        response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY if is_page else _POLICY)
        return response

    return app


def _refused(request: Request, settings: Settings) -> Response | None:
    """A refusal of requests for a foreign host name or sent by a foreign page, and of bodies that are announced too large."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    if host not in settings.allowed_hosts:
        return problem_response(421, "HOST", "the service does not answer under this host name")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).hostname not in settings.allowed_hosts:
        return problem_response(403, "ORIGIN", "requests from pages of another host are refused")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > settings.max_body_bytes:
        return problem_response(413, "TOO_LARGE", f"a body holds at most {settings.max_body_bytes} bytes")
    return None
