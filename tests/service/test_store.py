"""What the service keeps: originals under their digest, one study once, versions that do not change, a queue that survives a stop."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


def _spool(store: Store, content: bytes) -> Path:
    path = store.incoming / hashlib.sha256(content).hexdigest()[:6]
    path.write_bytes(content)
    return path


def _study(store: Store, pseudonym: str = "P-1", manifest: str = "m1", originals: tuple[str, ...] = ()) -> str:
    return store.put_study(
        pseudonym=pseudonym,
        study_instance_uid="2.25.1",
        manifest_sha256=manifest,
        summary={"objects": 3, "roles": ["axial_t2"], "series": [], "warnings": []},
        originals=originals,
    )


def _status(store: Store, analysis: str) -> str:
    row = store.analysis(analysis)
    assert row is not None
    return str(row["status"])


def test_original_is_found_by_its_digest_and_leaves_the_spool(store: Store) -> None:
    spooled = _spool(store, b"pixels")
    digest = store.keep(spooled)
    assert digest == hashlib.sha256(b"pixels").hexdigest()
    assert store.original(digest).read_bytes() == b"pixels"
    assert not spooled.exists()


def test_same_original_is_kept_once(store: Store) -> None:
    assert store.keep(_spool(store, b"same")) == store.keep(_spool(store, b"same"))
    assert len([path for path in (store.root / "originals").rglob("*") if path.is_file()]) == 1


def test_many_originals_are_synced_before_they_are_moved_and_each_folder_once_after_the_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = [_spool(store, bytes([number, number])) for number in range(40)]
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in spooled]
    done: list[tuple[str, str]] = []
    sync, move = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        sync(descriptor)
        done.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def moved(path: Path, target: Path) -> Path:
        done.append(("move", str(path)))
        done.append(("into", str(target.parent)))
        return move(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", moved)
    assert list(store.keep_all(spooled)) == expected
    assert all(done.index(("sync", str(path))) < done.index(("move", str(path))) for path in spooled)
    folders = {str(store.original(digest).parent) for digest in expected}
    last = {folder: len(done) - 1 - done[::-1].index(("into", folder)) for folder in folders}
    assert all(done.count(("sync", folder)) == 1 and done.index(("sync", folder)) > last[folder] for folder in folders)
    assert done[-1] == ("sync", str(store.root / "originals"))


def test_nothing_counts_as_kept_when_one_of_many_cannot_be_synced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = [_spool(store, bytes([number])) for number in range(10)]

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="broken"):
        store.keep_all(spooled)
    assert [path for path in (store.root / "originals").rglob("*") if path.is_file()] == []


def test_index_commits_with_full_synchronisation_and_write_ahead_log(store: Store) -> None:
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2


def test_study_that_comes_again_keeps_its_id_and_gathers_its_originals(store: Store) -> None:
    first = _study(store, manifest="m1", originals=("a",))
    second = _study(store, manifest="m2", originals=("b",))
    assert first == second
    assert store.originals_of("P-1") == ("a", "b")
    assert store.manifest_of(first) == "m2"
    assert _study(store, pseudonym="P-2") != first


def test_examination_gets_a_new_version_only_when_it_differs(store: Store) -> None:
    study = _study(store)
    assert store.put_entry(study, "exam", {"left": {}}) == 1
    assert store.put_entry(study, "exam", {"left": {}}) == 1
    assert store.put_entry(study, "exam", {"left": {"ref.patellar": 1}}) == 2
    assert store.entry(study, "exam") == (2, {"left": {"ref.patellar": 1}})
    assert store.entry(study, "first_read") is None


def test_analysis_keeps_the_examination_it_was_asked_with(store: Store) -> None:
    study = _study(store)
    store.put_entry(study, "exam", {"left": {"ref.patellar": 1}})
    store.submit("a1", study, 1, None)
    store.put_entry(study, "exam", {"left": {"ref.patellar": 0}})
    job = store.claim()
    assert job is not None
    assert job.exam.bodies == ({"left": {"ref.patellar": 1}},)
    assert job.first_read is None


def test_the_first_analysis_with_an_examination_tells_which_version_came_before_the_findings(store: Store) -> None:
    study = _study(store)
    store.submit("a0", study, None, None)
    for grade in (2, 1):
        store.put_entry(study, "exam", {"left": {"ref.patellar": grade}})
    assert store.examinations(study).analysed is None
    store.submit("a1", study, 2, None, "de")
    store.put_entry(study, "exam", {"left": {"ref.patellar": 0}})
    store.submit("a2", study, 3, None)
    entries = store.examinations(study)
    assert len(entries.bodies) == 3
    assert entries.analysed is not None
    assert entries.analysed[0] == 1
    jobs = [job for job in (store.claim(), store.claim(), store.claim()) if job is not None]
    assert [(len(job.exam.bodies), job.language) for job in jobs] == [(0, "en"), (2, "de"), (3, "en")]


def test_versions_of_an_examination_are_bounded(store: Store) -> None:
    study = _study(store)
    assert [store.put_entry(study, "exam", {"left": {"ref.patellar": n}}, most=2) for n in (0, 1, 2)] == [1, 2, None]


def test_an_index_made_before_analyses_had_a_language_gets_one(store: Store, tmp_path: Path) -> None:
    study = _study(store)
    store.submit("a1", study, None, None)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE analysis DROP COLUMN language")
    store.close()
    again = Store(store.root)
    row = again.analysis("a1")
    again.close()
    assert row is not None
    assert row["language"] == "en"


def test_equal_analysis_is_queued_once_and_a_failed_one_again(store: Store) -> None:
    study = _study(store)
    assert store.submit("a1", study, None, None)
    assert not store.submit("a1", study, None, None)
    assert store.claim() is not None
    assert store.claim() is None
    store.end("a1", "failed", error="X")
    assert store.submit("a1", study, None, None)
    store.claim()
    store.end("a1", "done", tier="T2", flags=1)
    assert not store.submit("a1", study, None, None)
    assert _status(store, "a1") == "done"


def test_analyses_are_taken_in_the_order_they_were_asked_for(store: Store) -> None:
    study = _study(store)
    for name in ("z", "a", "m"):
        store.submit(name, study, None, None)
    jobs = [store.claim() for _ in range(3)]
    assert [job.id for job in jobs if job] == ["z", "a", "m"]


def test_interrupted_analysis_waits_again_after_a_restart(tmp_path: Path) -> None:
    before = Store(tmp_path)
    study = _study(before)
    before.submit("a1", study, None, None)
    before.claim()
    before.close()
    after = Store(tmp_path)
    after.requeue_interrupted(3)
    assert _status(after, "a1") == "queued"
    assert after.claim() is not None
    after.close()


def test_analysis_that_stops_the_service_each_time_is_given_up(store: Store) -> None:
    store.submit("a1", _study(store), None, None)
    for _ in range(3):
        store.requeue_interrupted(3)
        assert store.claim() is not None
    store.requeue_interrupted(3)
    assert store.claim() is None
    row = store.analysis("a1")
    assert row is not None
    assert row["status"] == "failed"
    assert row["error"].startswith("POISON")


def test_worklist_shows_the_most_urgent_study_first_and_pages(store: Store) -> None:
    tiers = {"P-1": "T3", "P-2": "T1", "P-3": None, "P-4": "T2"}
    for name, tier in tiers.items():
        study = _study(store, pseudonym=name)
        if tier:
            store.submit(f"a{name}", study, None, None)
            store.claim()
            store.end(f"a{name}", "done", tier=tier, flags=0)

    def names(**asked: Any) -> list[str]:
        chosen: dict[str, Any] = {"limit": 10, "offset": 0, "tier": None, "status": None}
        return [item["pseudonym"] for item in store.studies(**(chosen | asked))[1]]

    assert names() == ["P-2", "P-4", "P-1", "P-3"]
    assert names(limit=2, offset=1) == ["P-4", "P-1"]
    assert names(tier="T2") == ["P-4"]
    assert store.studies(1, 0, None, None)[0] == 4


def test_newest_analysis_decides_the_place_in_the_worklist(store: Store) -> None:
    study = _study(store)
    for number, tier in enumerate(("T1", "T4")):
        store.submit(f"a{number}", study, None, None)
        store.claim()
        store.end(f"a{number}", "done", tier=tier, flags=0)
    _, items = store.studies(10, 0, None, None)
    assert [item["analysis"]["tier"] for item in items] == ["T4"]
