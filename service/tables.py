"""Tables of the index: studies, the originals they came in, what people entered, and analyses.

Rows hold pseudonyms, digests and counts; names and numbers of a patient stand in the original objects and, for DICOMweb searches,
in `ObjectRow.attributes`, nowhere else.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Row(DeclarativeBase):
    """Base of all tables."""


class StudyRow(Row):
    """One study of one patient, known by an opaque id; `summary` is what the worklist shows of it."""

    __tablename__ = "study"
    id: Mapped[str] = mapped_column(primary_key=True)
    pseudonym: Mapped[str] = mapped_column(unique=True)
    study_instance_uid: Mapped[str]
    manifest_sha256: Mapped[str]
    summary: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[str]


class OriginalRow(Row):
    """A file that came in for a study (one DICOM object or one archive), by digest."""

    __tablename__ = "original"
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)


class EntryRow(Row):
    """A version of an examination or a first read; versions are never changed, a new one is added."""

    __tablename__ = "entry"
    __table_args__ = (UniqueConstraint("study_id", "kind", "version"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"))
    kind: Mapped[str]
    version: Mapped[int]
    body: Mapped[Any] = mapped_column(JSON)
    created_at: Mapped[str]


class AnalysisRow(Row):
    """One analysis; its id follows from all its inputs, so that equal inputs meet in one row."""

    __tablename__ = "analysis"
    __table_args__ = (Index("analysis_status", "status", "sequence"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(unique=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"))
    manifest_sha256: Mapped[str]
    exam_version: Mapped[int | None]
    first_read_version: Mapped[int | None]
    language: Mapped[str] = mapped_column(server_default="en")
    status: Mapped[str]
    step: Mapped[str]
    fraction: Mapped[float]
    attempts: Mapped[int]
    tier: Mapped[str | None]
    flags: Mapped[int | None]
    error: Mapped[str | None]
    created_at: Mapped[str]
    ended_at: Mapped[str | None]


class ObjectRow(Row):
    """One DICOM object that is kept as a file of its own: received over a network, or made by an analysis."""

    __tablename__ = "object"
    __table_args__ = (
        Index("object_place", "study_instance_uid", "series_instance_uid", "sop_instance_uid"),
        Index("object_sop", "sop_instance_uid"),
    )
    digest: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str]
    path: Mapped[str]
    size: Mapped[int]
    state: Mapped[str]
    code: Mapped[str]
    study_instance_uid: Mapped[str]
    series_instance_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    modality: Mapped[str]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)


class ArrivalRow(Row):
    """A study UID under which objects came in over a network; `waiting` until they are entered as a study, `code` why they cannot be."""

    __tablename__ = "arrival"
    study_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    waiting: Mapped[bool]
    code: Mapped[str]
