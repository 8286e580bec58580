"""A service that really listens on loopback, for tests that speak HTTP to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from service.app import create_app
from service.settings import Settings

Serve = Callable[[Path], httpx.Client]


@contextmanager
def serving(data_dir: Path) -> Iterator[httpx.Client]:
    """A client of a service whose data lie in `data_dir`."""
    config = uvicorn.Config(
        create_app(Settings(data_dir=data_dir, device="cpu")), host="127.0.0.1", port=0, log_level="error", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts services on folders; all are stopped at the end of the test."""
    with ExitStack() as stack:
        yield lambda data_dir: stack.enter_context(serving(data_dir))


@pytest.fixture
def client(serve: Serve, tmp_path: Path) -> httpx.Client:
    """A service with nothing in it."""
    return serve(tmp_path / "data")
