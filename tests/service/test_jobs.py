"""The background worker: a study that cannot be read fails alone, and the queue goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs import Worker
from service.store import Store

_PATIENCE_S = 120


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


def _queue_broken(store: Store, name: str) -> None:
    """Queue an analysis of a study whose original is no DICOM object (any more)."""
    spooled = store.incoming / name
    spooled.write_bytes(b"damaged " + name.encode())
    digest = store.keep(spooled)
    study = store.put_study(
        pseudonym=f"P-{name}", study_instance_uid="2.25.1", manifest_sha256="m", summary={}, originals=[digest]
    )
    store.submit(name, study, None, None)


def _until_ended(store: Store, name: str) -> dict[str, object]:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        row = store.analysis(name)
        if row is not None and row["status"] not in {"queued", "running"}:
            return row
        time.sleep(0.05)
    raise AssertionError(f"{name} has not ended")


def test_unreadable_study_fails_with_the_kind_of_error_and_the_next_is_taken(store: Store) -> None:
    worker = Worker(store, device="cpu")
    _queue_broken(store, "one")
    worker.start()
    assert _until_ended(store, "one")["error"] == "UnreadableInput"
    _queue_broken(store, "two")
    worker.wake()
    assert _until_ended(store, "two")["status"] == "failed"
    assert worker.alive
    worker.stop()
    assert not worker.alive


def test_failed_analysis_leaves_no_result(store: Store) -> None:
    worker = Worker(store, device="cpu")
    _queue_broken(store, "one")
    worker.start()
    _until_ended(store, "one")
    worker.stop()
    assert list(store.results.iterdir()) == []
