"""DICOM objects that the service keeps one by one: those received over a network and those made by analyses. All queries on them.

An object is acknowledged after its bytes were synced under their digest and its row was committed. The column `attributes` holds
what a DICOMweb search answers with, patient's name and number included; it is the only place of the index that does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from configs.loader import limits
from dicom_io.arrivals import NotKeptError
from dicom_io.commitment import CLASS_CONFLICT, NO_SUCH_OBJECT, PROCESSING_FAILURE
from dicom_io.header import Header
from dicom_io.isolation import Examined
from service.tables import ArrivalRow, ObjectRow

_PASSING = frozenset({"CHILD_TIME", "CHILD_DIED"})  # verdicts that another look at the same bytes may change


@dataclass(frozen=True)
class Kept:
    """One kept object: where its bytes lie, how they are encoded, and what a search shows of it (DICOM JSON)."""

    path: Path
    digest: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """A study or a series as a search shows it: attributes of one of its objects, and counts."""

    attributes: dict[str, Any]
    modalities: tuple[str, ...]
    series: int
    instances: int


class Objects:
    """The kept objects of one store. `write` opens a transaction, `keep` moves a spooled file durably under its digest."""

    def __init__(
        self,
        root: Path,
        read: sessionmaker[Session],
        write: Callable[[], AbstractContextManager[Session]],
        keep: Callable[[Path], str],
        original: Callable[[str], Path],
        low_water_bytes: int,
    ) -> None:
        self._root, self._read, self._write, self._keep, self._original = root, read, write, keep, original
        self._low_water_bytes = low_water_bytes

    def receive(self, data: bytes, examined: Examined) -> str:
        """Keep a judged object durably and enter it. Returns SOP_UID_CONFLICT when other bytes hold its place, else "".

        Raises NotKeptError when the disk or the study is full or the index is locked, OSError when the disk fails: then nothing
        is acknowledged.
        """
        if shutil.disk_usage(self._root).free - len(data) < self._low_water_bytes:
            raise NotKeptError("NO_SPACE")
        header = examined.verdict.header
        if header is not None:
            self._check_study(header.study_instance_uid, examined.digest, len(data))
        if self._spool_and_keep(data) != examined.digest:
            raise OSError(errno.EIO, "what was written is not what came in")
        try:
            return self._enter(examined, len(data))
        except OperationalError as error:
            raise NotKeptError("INDEX_BUSY") from error

    def _spool_and_keep(self, data: bytes) -> str:
        descriptor, name = tempfile.mkstemp(dir=self._root / "incoming")
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as spooled:
                spooled.write(data)
            return self._keep(path)
        finally:
            path.unlink(missing_ok=True)

    def _enter(self, examined: Examined, size: int) -> str:
        header, digest = examined.verdict.header, examined.digest
        with self._write() as session:
            clash = _clash(session, header, digest) if header is not None else ""
            known = session.get(ObjectRow, digest)
            if known is not None and known.code not in _PASSING:
                return clash
            session.merge(_row(self._original(digest).relative_to(self._root), digest, size, examined, clash))
            study = header.study_instance_uid if header is not None else ""  # set aside unread: listed, and of no study
            session.merge(ArrivalRow(study_instance_uid=study, waiting=study != "", code=""))
        return clash

    def _check_study(self, study: str, digest: str, size: int) -> None:
        counted = select(func.count(), func.coalesce(func.sum(ObjectRow.size), 0))
        with self._read() as session:
            if session.get(ObjectRow, digest) is not None:
                return  # sent again: takes up nothing
            objects, total = session.execute(counted.where(ObjectRow.study_instance_uid == study)).one()
        bounds = limits().network
        if objects >= bounds.max_study_objects or total + size > bounds.max_study_bytes:
            raise NotKeptError("STUDY_LIMIT")

    def add_made(self, folder: Path) -> None:
        """Enter the DICOM objects that an analysis wrote into `folder` (our own files, read in this process)."""
        rows = [_made_row(path, path.relative_to(self._root)) for path in sorted(folder.glob("*.dcm"))]
        with self._write() as session:
            for row in rows:
                session.merge(row)

    def confirm(self, sop_class_uid: str, sop_instance_uid: str) -> int:
        """Storage commitment of one object: 0 when its bytes are there and hash to their digest, else the failure reason."""
        found = self.find(instance=sop_instance_uid)
        if not found:
            return NO_SUCH_OBJECT
        if any(kept.sop_class_uid != sop_class_uid for kept in found):
            return CLASS_CONFLICT
        return 0 if all(is_whole(kept) for kept in found) else PROCESSING_FAILURE

    def find(self, study: str | None = None, series: str | None = None, instance: str | None = None) -> list[Kept]:
        """Kept objects of a study, series or with an instance UID, in a fixed order."""
        with self._read() as session:
            query = select(ObjectRow).where(*_places(study, series, instance))
            order = (ObjectRow.series_instance_uid, ObjectRow.sop_instance_uid, ObjectRow.digest)
            return [_kept(self._root, row) for row in session.scalars(query.order_by(*order))]

    def groups(self, level: Literal["study", "series"], study: str | None = None) -> Iterator[Group]:
        """Studies, or series (of a study), as a search shows them, ordered by UID."""
        columns = [ObjectRow.study_instance_uid] + ([ObjectRow.series_instance_uid] if level == "series" else [])
        query = (
            select(
                func.min(ObjectRow.digest),
                func.count(func.distinct(ObjectRow.series_instance_uid)),
                func.count(func.distinct(ObjectRow.sop_instance_uid)),
                func.group_concat(func.distinct(ObjectRow.modality)),
            )
            .where(*_places(study, None, None))
            .group_by(*columns)
            .order_by(*columns)
        )
        with self._read() as session:
            for digest, series, instances, modalities in session.execute(query).all():
                row = session.get_one(ObjectRow, digest)
                named = tuple(sorted(part for part in (modalities or "").split(",") if part))
                yield Group(row.attributes, named, series, instances)

    # studies that come in object by object

    def waiting(self) -> dict[str, int]:
        """Study UIDs that have objects which no study was entered with yet, and how many objects each has by now."""
        counted = (
            select(ArrivalRow.study_instance_uid, func.count(ObjectRow.digest))
            .join(ObjectRow, ObjectRow.study_instance_uid == ArrivalRow.study_instance_uid)
            .where(ArrivalRow.waiting, ObjectRow.origin == "received")
            .group_by(ArrivalRow.study_instance_uid)
        )
        with self._read() as session:
            return {str(study): int(count) for study, count in session.execute(counted)}

    def received_of(self, study: str) -> tuple[str, ...]:
        """Digests of all objects received for a study UID."""
        query = select(ObjectRow.digest).where(ObjectRow.study_instance_uid == study, ObjectRow.origin == "received")
        with self._read() as session:
            return tuple(sorted(session.scalars(query)))

    def entered(self, study: str, objects: int, code: str) -> None:
        """Say what became of a study with so many objects; it waits on when more have come since."""
        with self._write() as session:
            now = session.execute(
                select(func.count()).where(ObjectRow.study_instance_uid == study, ObjectRow.origin == "received")
            ).scalar_one()
            values = {"waiting": now != objects, "code": code}
            session.execute(update(ArrivalRow).where(ArrivalRow.study_instance_uid == study).values(**values))

    def arrivals(self) -> list[dict[str, Any]]:
        """What came in over a network: each study UID with its objects by state, and why it could not be entered, if so."""
        query = (
            select(ArrivalRow, ObjectRow.state, ObjectRow.code, func.count())
            .join(ObjectRow, ObjectRow.study_instance_uid == ArrivalRow.study_instance_uid)
            .where(ObjectRow.origin == "received")
            .group_by(ArrivalRow.study_instance_uid, ObjectRow.state, ObjectRow.code)
            .order_by(ArrivalRow.study_instance_uid, ObjectRow.state, ObjectRow.code)
        )
        found: dict[str, dict[str, Any]] = {}
        with self._read() as session:
            for row, state, code, count in session.execute(query).all():
                uid = row.study_instance_uid
                one = found.setdefault(uid, {"study_instance_uid": uid, "waiting": row.waiting, "code": row.code})
                one.setdefault("objects", []).append({"state": state, "code": code, "count": count})
        return list(found.values())


def _places(study: str | None, series: str | None, instance: str | None) -> list[ColumnElement[bool]]:
    asked = ((ObjectRow.study_instance_uid, study), (ObjectRow.series_instance_uid, series))
    found = [column == uid for column, uid in (*asked, (ObjectRow.sop_instance_uid, instance)) if uid is not None]
    return [*found, ObjectRow.study_instance_uid != ""]


def _clash(session: Session, header: Header, digest: str) -> str:
    """SOP_UID_CONFLICT when the place of the object in its series is held by other bytes; both are kept."""
    same_place = (
        ObjectRow.series_instance_uid == header.series_instance_uid,
        ObjectRow.sop_instance_uid == header.sop_instance_uid,
        ObjectRow.study_instance_uid == header.study_instance_uid,
    )
    other = session.scalars(select(ObjectRow.digest).where(*same_place, ObjectRow.digest != digest).limit(1)).first()
    return "SOP_UID_CONFLICT" if other is not None else ""


def _row(path: Path, digest: str, size: int, examined: Examined, clash: str) -> ObjectRow:
    verdict = examined.verdict
    header = verdict.header or Header("", "", "")
    quarantined = bool(clash) or verdict.state == "quarantined"
    return ObjectRow(
        digest=digest,
        origin="received",
        path=path.as_posix(),
        size=size,
        state="quarantined" if quarantined else "stored",
        code=clash or verdict.code or next(iter(verdict.warnings), ""),
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        modality=header.modality,
        attributes=_attributes(header),
    )


def _made_row(path: Path, relative: Path) -> ObjectRow:
    from pydicom import dcmread

    data = path.read_bytes()
    dataset = dcmread(path, stop_before_pixels=True)

    def text(keyword: str) -> str:
        return str(dataset.get(keyword) or "")

    header = Header(
        study_instance_uid=text("StudyInstanceUID"),
        series_instance_uid=text("SeriesInstanceUID"),
        sop_instance_uid=text("SOPInstanceUID"),
        sop_class_uid=text("SOPClassUID"),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        modality=text("Modality"),
        patient_id=text("PatientID"),
        patient_name=text("PatientName"),
        birth_date=text("PatientBirthDate"),
        sex=text("PatientSex"),
        study_date=text("StudyDate"),
        study_time=text("StudyTime"),
        accession_number=text("AccessionNumber"),
        study_id=text("StudyID"),
        referring_physician=text("ReferringPhysicianName"),
        series_number=int(dataset.get("SeriesNumber") or 0),
        description=text("SeriesDescription"),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        number_of_frames=int(dataset.get("NumberOfFrames") or 0),
    )
    return ObjectRow(
        digest=hashlib.sha256(data).hexdigest(),
        origin="made",
        path=relative.as_posix(),
        size=len(data),
        state="stored",
        code="",
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        modality=header.modality,
        attributes=_attributes(header),
    )


def _attributes(header: Header) -> dict[str, Any]:
    """DICOM JSON (PS3.18 F) of what a search shows at any level."""
    texts = {
        "00080020": ("DA", header.study_date if re.fullmatch(r"\d{8}", header.study_date) else ""),
        "00080030": ("TM", header.study_time),
        "00080050": ("SH", header.accession_number),
        "00080090": ("PN", header.referring_physician),
        "00080016": ("UI", header.sop_class_uid),
        "00080018": ("UI", header.sop_instance_uid),
        "00080060": ("CS", header.modality),
        "0008103E": ("LO", header.description),
        "00100010": ("PN", header.patient_name),
        "00100020": ("LO", header.patient_id),
        "00100030": ("DA", header.birth_date if re.fullmatch(r"\d{8}", header.birth_date) else ""),
        "00100040": ("CS", header.sex),
        "0020000D": ("UI", header.study_instance_uid),
        "0020000E": ("UI", header.series_instance_uid),
        "00200010": ("SH", header.study_id),
    }
    numbers = {
        "00200011": ("IS", header.series_number),
        "00280008": ("IS", header.number_of_frames or None),
        "00280010": ("US", header.rows or None),
        "00280011": ("US", header.columns or None),
    }
    shown = {tag: dicom_json(vr, [text] if text else []) for tag, (vr, text) in texts.items()}
    return shown | {tag: dicom_json(vr, [number]) for tag, (vr, number) in numbers.items() if number is not None}


def dicom_json(vr: str, values: Sequence[str | int]) -> dict[str, Any]:
    """One attribute in DICOM JSON (PS3.18 F.2); no values means that it is empty."""
    shown: list[Any] = [{"Alphabetic": value} if vr == "PN" else value for value in values]
    return {"vr": vr, "Value": shown} if shown else {"vr": vr}


def _kept(root: Path, row: ObjectRow) -> Kept:
    return Kept(
        root / row.path,
        row.digest,
        row.study_instance_uid,
        row.series_instance_uid,
        row.sop_instance_uid,
        row.sop_class_uid,
        row.transfer_syntax_uid,
        row.attributes,
    )


def is_whole(kept: Kept) -> bool:
    """Whether the kept bytes still hash to their digest."""
    try:
        with kept.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == kept.digest
    except OSError:
        return False
