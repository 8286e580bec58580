"""Everything the service keeps: originals by digest in a folder, rows in SQLite. All queries stand here.

An original is written, synced, renamed into place and its folder synced before it is mentioned in the index; the index commits
with write-ahead logging and full synchronisation. File names are digests, never names or UIDs that a client sent.
"""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, func, inspect, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from service.originals import Originals
from service.received import Objects
from service.tables import AnalysisRow, EntryRow, OriginalRow, Row, StudyRow

_BUSY_MS = 30_000
ENDED = ("done", "abstained", "failed")


@dataclass(frozen=True)
class Entries:
    """Examinations of a study as entered, oldest first, and the first with which an analysis was asked for: its index and when."""

    bodies: tuple[Any, ...] = ()
    analysed: tuple[int, str] | None = None


@dataclass(frozen=True)
class Job:
    """What the worker needs to run one analysis."""

    id: str
    study_id: str
    pseudonym: str
    study_instance_uid: str
    manifest_sha256: str
    originals: tuple[Path, ...]
    exam: Entries
    first_read: Any
    language: str


class Store:
    """The folder and the index of one service. Safe to use from several threads."""

    def __init__(self, data_dir: Path, low_water_bytes: int = 0) -> None:
        self.root = data_dir
        self.incoming = data_dir / "incoming"
        self.results = data_dir / "results"
        for folder in (self.incoming, self.results):
            folder.mkdir(parents=True, exist_ok=True)
        self._originals = Originals(data_dir / "originals")
        self._engine = create_engine(
            f"sqlite:///{data_dir / 'index.sqlite'}", connect_args={"timeout": _BUSY_MS / 1000}
        )
        event.listen(self._engine, "connect", _pragmas)
        Row.metadata.create_all(self._engine)
        _add_language(self._engine)
        self._session = sessionmaker(self._engine, expire_on_commit=False)
        self._writing = threading.Lock()
        self.objects = Objects(data_dir, self._session, self._write, self.keep, self.original, low_water_bytes)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with self._writing, self._session.begin() as session:
            session.execute(text("BEGIN IMMEDIATE"))
            yield session

    def sweep(self) -> None:
        """Remove what an interrupted upload left in the spool. Only for the one service of this folder, before it listens."""
        for left in self.incoming.iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def answers(self) -> bool:
        """Whether the index can be read."""
        with self._session() as session:
            return bool(session.execute(text("SELECT 1")).scalar_one())

    # originals

    def keep(self, path: Path) -> str:
        """Move a spooled file into the originals under its SHA-256, durably; returns the digest."""
        return self._originals.keep([path])[0]

    def keep_all(self, paths: Sequence[Path]) -> tuple[str, ...]:
        """Like `keep` for many files; returns when all of them are durable."""
        return self._originals.keep(paths)

    def original(self, digest: str) -> Path:
        """Where the original with this digest lies."""
        return self._originals.path_of(digest)

    # studies

    def originals_of(self, pseudonym: str) -> tuple[str, ...]:
        """Digests of everything kept for the study with this pseudonym; empty when it is not known."""
        with self._session() as session:
            query = select(OriginalRow.digest).join(StudyRow).where(StudyRow.pseudonym == pseudonym)
            return tuple(sorted(session.scalars(query)))

    def put_study(
        self,
        *,
        pseudonym: str,
        study_instance_uid: str,
        manifest_sha256: str,
        summary: dict[str, Any],
        originals: Sequence[str],
    ) -> str:
        """Add a study or renew what is known of it; returns its id. The same study always has the same id."""
        with self._write() as session:
            row = session.scalars(select(StudyRow).where(StudyRow.pseudonym == pseudonym)).one_or_none()
            if row is None:
                row = StudyRow(
                    id=secrets.token_hex(8),
                    pseudonym=pseudonym,
                    study_instance_uid=study_instance_uid,
                    manifest_sha256=manifest_sha256,
                    summary=summary,
                    created_at=_now(),
                )
                session.add(row)
                session.flush()
            row.manifest_sha256, row.summary = manifest_sha256, summary
            for digest in originals:
                session.merge(OriginalRow(study_id=row.id, digest=digest))
            return row.id

    def manifest_of(self, study_id: str) -> str:
        """Digest over the accepted objects of a study."""
        with self._session() as session:
            return session.get_one(StudyRow, study_id).manifest_sha256

    def study(self, study_id: str) -> dict[str, Any] | None:
        """One study with its series, the versions of what people entered, and its analyses; None when there is none."""
        with self._session() as session:
            row = session.get(StudyRow, study_id)
            if row is None:
                return None
            analyses = session.scalars(
                select(AnalysisRow).where(AnalysisRow.study_id == study_id).order_by(AnalysisRow.sequence.desc())
            )
            return _listed(row) | {
                "exam_version": _version(session, study_id, "exam"),
                "first_read_version": _version(session, study_id, "first_read"),
                "series": row.summary.get("series", []),
                "warnings": row.summary.get("warnings", []),
                "analyses": [_analysis(one) for one in analyses],
            }

    def studies(
        self, limit: int, offset: int, tier: str | None, status: str | None
    ) -> tuple[int, list[dict[str, Any]]]:
        """Worklist: total and one page, the most urgent first (tier of the newest analysis), then the newest study."""
        newest = (
            select(AnalysisRow.study_id, func.max(AnalysisRow.sequence).label("sequence"))
            .group_by(AnalysisRow.study_id)
            .subquery()
        )
        query = (
            select(StudyRow, AnalysisRow)
            .outerjoin(newest, newest.c.study_id == StudyRow.id)
            .outerjoin(AnalysisRow, AnalysisRow.sequence == newest.c.sequence)
        )
        if tier:
            query = query.where(AnalysisRow.tier == tier)
        if status:
            query = query.where(AnalysisRow.status == status)
        with self._session() as session:
            total = session.execute(select(func.count()).select_from(query.subquery())).scalar_one()
            order = (func.coalesce(AnalysisRow.tier, "T9"), StudyRow.created_at.desc(), StudyRow.id)
            rows = session.execute(query.order_by(*order).limit(limit).offset(offset)).all()
            return total, [_listed(study) | {"analysis": _analysis(one) if one else None} for study, one in rows]

    # what people enter

    def put_entry(self, study_id: str, kind: str, body: Any, most: int | None = None) -> int | None:
        """Add a version of the examination or first read; an entry equal to the newest adds none.

        Returns the version; None where there are `most` versions already.
        """
        with self._write() as session:
            newest = _newest(session, study_id, kind)
            if newest is not None and newest.body == body:
                return newest.version
            version = 1 if newest is None else newest.version + 1
            if most is not None and version > most:
                return None
            session.add(EntryRow(study_id=study_id, kind=kind, version=version, body=body, created_at=_now()))
            return version

    def entry(self, study_id: str, kind: str) -> tuple[int, Any] | None:
        """Newest version of the examination or first read with its content."""
        with self._session() as session:
            row = _newest(session, study_id, kind)
            return None if row is None else (row.version, row.body)

    def examinations(self, study_id: str) -> Entries:
        """All examinations of a study."""
        with self._session() as session:
            return _examinations(session, study_id, _version(session, study_id, "exam"))

    # analyses

    def submit(
        self,
        analysis_id: str,
        study_id: str,
        exam_version: int | None,
        first_read_version: int | None,
        language: str = "en",
    ) -> bool:
        """Queue an analysis unless one with the same id is there; a failed one is queued again. Returns whether it was queued."""
        with self._write() as session:
            row = session.get(AnalysisRow, analysis_id)
            if row is not None:
                if row.status != "failed":
                    return False
                row.status, row.error, row.attempts, row.ended_at = "queued", None, 0, None
                return True
            study = session.get_one(StudyRow, study_id)
            highest = session.execute(select(func.max(AnalysisRow.sequence))).scalar() or 0
            session.add(
                AnalysisRow(
                    id=analysis_id,
                    sequence=highest + 1,
                    study_id=study_id,
                    manifest_sha256=study.manifest_sha256,
                    exam_version=exam_version,
                    first_read_version=first_read_version,
                    language=language,
                    status="queued",
                    step="",
                    fraction=0.0,
                    attempts=0,
                    created_at=_now(),
                )
            )
            return True

    def analysis(self, analysis_id: str) -> dict[str, Any] | None:
        """Status and progress of one analysis; None when there is none."""
        with self._session() as session:
            row = session.get(AnalysisRow, analysis_id)
            return None if row is None else _analysis(row)

    def requeue_interrupted(self, most_attempts: int) -> None:
        """At start: what was running when the service stopped waits again; what stopped it too often has failed."""
        with self._write() as session:
            running = AnalysisRow.status == "running"
            poison = {
                "status": "failed",
                "error": "POISON: the service stopped during this analysis each time",
                "ended_at": _now(),
            }
            session.execute(update(AnalysisRow).where(running, AnalysisRow.attempts >= most_attempts).values(**poison))
            session.execute(update(AnalysisRow).where(running).values(status="queued", step="", fraction=0.0))

    def claim(self) -> Job | None:
        """Take the oldest waiting analysis; None when nothing waits."""
        with self._write() as session:
            query = select(AnalysisRow).where(AnalysisRow.status == "queued").order_by(AnalysisRow.sequence).limit(1)
            row = session.scalars(query).one_or_none()
            if row is None:
                return None
            row.status, row.attempts, row.fraction = "running", row.attempts + 1, 0.0
            study = session.get_one(StudyRow, row.study_id)
            digests = session.scalars(select(OriginalRow.digest).where(OriginalRow.study_id == row.study_id))
            return Job(
                id=row.id,
                study_id=row.study_id,
                pseudonym=study.pseudonym,
                study_instance_uid=study.study_instance_uid,
                manifest_sha256=row.manifest_sha256,
                originals=tuple(self.original(digest) for digest in sorted(digests)),
                exam=_examinations(session, row.study_id, row.exam_version),
                first_read=_body(session, row.study_id, "first_read", row.first_read_version),
                language=row.language,
            )

    def progress(self, analysis_id: str, step: str, fraction: float) -> None:
        """Say which step an analysis is at."""
        with self._write() as session:
            session.execute(
                update(AnalysisRow).where(AnalysisRow.id == analysis_id).values(step=step, fraction=fraction)
            )

    def end(
        self,
        analysis_id: str,
        status: str,
        *,
        tier: str | None = None,
        flags: int | None = None,
        error: str | None = None,
    ) -> None:
        """Record how an analysis ended: done, abstained or failed."""
        values = {
            "status": status,
            "step": "",
            "fraction": 1.0,
            "tier": tier,
            "flags": flags,
            "error": error,
            "ended_at": _now(),
        }
        with self._write() as session:
            session.execute(update(AnalysisRow).where(AnalysisRow.id == analysis_id).values(**values))


def _add_language(engine: Engine) -> None:
    """An index made before analyses had a language gets the column."""
    columns = {column["name"] for column in inspect(engine).get_columns(AnalysisRow.__tablename__)}
    if "language" not in columns:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE analysis ADD COLUMN language VARCHAR NOT NULL DEFAULT 'en'"))


def _pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _newest(session: Session, study_id: str, kind: str) -> EntryRow | None:
    query = select(EntryRow).where(EntryRow.study_id == study_id, EntryRow.kind == kind)
    return session.scalars(query.order_by(EntryRow.version.desc()).limit(1)).one_or_none()


def _version(session: Session, study_id: str, kind: str) -> int | None:
    row = _newest(session, study_id, kind)
    return row.version if row else None


def _examinations(session: Session, study_id: str, up_to: int | None) -> Entries:
    """Examinations up to a version, with the one that the study's first analysis with an examination used."""
    if up_to is None:
        return Entries()
    bodies = session.scalars(
        select(EntryRow.body)
        .where(EntryRow.study_id == study_id, EntryRow.kind == "exam", EntryRow.version <= up_to)
        .order_by(EntryRow.version)
    )
    first = session.execute(
        select(AnalysisRow.exam_version, AnalysisRow.created_at)
        .where(AnalysisRow.study_id == study_id, AnalysisRow.exam_version.is_not(None))
        .order_by(AnalysisRow.sequence)
        .limit(1)
    ).first()
    return Entries(tuple(bodies), (first[0] - 1, first[1]) if first and first[0] else None)


def _body(session: Session, study_id: str, kind: str, version: int | None) -> Any:
    if version is None:
        return None
    query = select(EntryRow.body).where(
        EntryRow.study_id == study_id, EntryRow.kind == kind, EntryRow.version == version
    )
    return session.scalars(query).one()


def _listed(row: StudyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "pseudonym": row.pseudonym,
        "created_at": row.created_at,
        "objects": row.summary.get("objects", 0),
        "roles": row.summary.get("roles", []),
    }


def _analysis(row: AnalysisRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "study_id": row.study_id,
        "status": row.status,
        "step": row.step,
        "fraction": row.fraction,
        "tier": row.tier,
        "flags": row.flags,
        "error": row.error,
        "exam_version": row.exam_version,
        "first_read_version": row.first_read_version,
        "language": row.language,
        "created_at": row.created_at,
        "ended_at": row.ended_at,
    }
