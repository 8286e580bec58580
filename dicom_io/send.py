"""Sends DICOM files to an archive: by C-STORE to AE@host:port, or by STOW-RS to a DICOMweb address.

Objects go out as they are, in their own transfer syntax; an object is sent only once the peer has said that it has it (PS3.4 B.2.3,
PS3.18 10.5). A peer's texts are never put into an error.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, build_context, evt
from pynetdicom import _config as pynetdicom_config
from pynetdicom.association import Association

from configs.loader import limits
from dicom_io.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, REQUEST, request_of
from dicom_io.wire import Checkpoint, quieten

_ADDRESS = re.compile(r"(?P<title>[^@\\\s]{1,16})@(?P<host>\[[0-9a-fA-F:]+\]|[^@:\s/]+):(?P<port>\d{1,5})")
_MOST_CONTEXTS = 128  # of one association (PS3.8 9.3.2.2); one is for storage commitment
_WARNINGS = range(0xB000, 0xC000)


class SendError(Exception):
    """Nothing, or not all, could be sent; the text says why and what to do."""


@dataclass(frozen=True)
class Address:
    """An application entity to send to."""

    title: str
    host: str
    port: int


@dataclass(frozen=True)
class Outgoing:
    """A file to be sent, and how it is encoded."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True)
class Sent:
    """What became of a file: DICOM status (0 stored, 0xBxxx stored with a remark, else not), and whether it was confirmed."""

    file: Outgoing
    status: int
    confirmed: bool | None = None

    @property
    def stored(self) -> bool:
        """Whether the peer has it."""
        return self.status == 0 or self.status in _WARNINGS


def address_of(text: str) -> Address | None:
    """The address in "AE@host:port"; None when it is not one."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        return None
    return Address(match["title"], match["host"].strip("[]"), int(match["port"]))


def outgoing(folder: Path) -> list[Outgoing]:
    """The DICOM files of a folder (results of an analysis), searched through, in the order of their names. Raises SendError."""
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    found: list[Outgoing] = []
    for path in files:
        try:
            dataset = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
        except InvalidDicomError:
            continue  # the report's other files
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        found.append(Outgoing(path, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), syntax))
    if not found:
        raise SendError(f"{folder}: no DICOM files in it; run `recess analyze --formats seg,sr,sc --out ...` first")
    return found


def send(
    files: Sequence[Outgoing],
    to: Address,
    calling: str = "RECESS",
    tls: ssl.SSLContext | None = None,
    confirm_s: float = 0.0,
) -> list[Sent]:
    """C-STORE all files over as many associations as their kinds need. `confirm_s` above 0 asks for storage commitment, too,
    and waits so long for the report on the same association. Raises SendError when the peer cannot be reached."""
    sent: list[Sent] = []
    for batch in _batches(files):
        sent += _send_batch(batch, to, calling, tls, confirm_s)
    return sent


def _batches(files: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Files whose kinds fit into one association."""
    batch: list[Outgoing] = []
    kinds: set[tuple[str, str]] = set()
    for file in files:
        kind = (file.sop_class_uid, file.transfer_syntax_uid)
        if kind not in kinds and len(kinds) == _MOST_CONTEXTS - 1:
            yield batch
            batch, kinds = [], set()
        batch.append(file)
        kinds.add(kind)
    if batch:
        yield batch


def _send_batch(
    files: Sequence[Outgoing], to: Address, calling: str, tls: ssl.SSLContext | None, confirm_s: float
) -> list[Sent]:
    quieten()
    pynetdicom_config.STORE_SEND_CHUNKED_DATASET = (
        True  # files go out byte for byte; else they would be parsed and written anew
    )
    entity = AE(ae_title=calling)
    bounds = limits().network
    entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = bounds.idle_seconds
    contexts = [build_context(*kind) for kind in sorted({(f.sop_class_uid, f.transfer_syntax_uid) for f in files})]
    if confirm_s > 0:
        contexts.append(build_context(PUSH_MODEL))
    reports: list[Dataset] = []

    def on_report(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_information)
        return 0x0000, None

    association = entity.associate(
        to.host,
        to.port,
        contexts=contexts,
        ae_title=to.title,
        max_pdu=bounds.max_pdu_bytes,
        tls_args=(tls, to.host) if tls is not None else None,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)],
    )
    if association.is_rejected:
        raise SendError("the peer rejects the association; check both AE titles and that it knows this one")
    if not association.is_established:
        raise SendError("the peer cannot be reached; check address, port and TLS")
    Checkpoint.put_into(association)
    try:
        sent = [Sent(file, _store(association, file)) for file in files]
        if confirm_s <= 0:
            return sent
        confirmed = _confirmed(association, [one.file for one in sent if one.stored], reports, confirm_s)
        return [Sent(one.file, one.status, one.file.sop_instance_uid in confirmed) for one in sent]
    finally:
        if association.is_established:
            association.release()


def _store(association: Association, file: Outgoing) -> int:
    """Status of one C-STORE; 0x0122 when the peer does not take its kind, 0xC000 when it does not answer."""
    try:
        status = association.send_c_store(file.path)
    except (ValueError, AttributeError):
        return 0x0122
    except RuntimeError:
        return 0xC000
    return int(status.Status) if "Status" in status else 0xC000


def _confirmed(
    association: Association, files: Sequence[Outgoing], reports: list[Dataset], wait_s: float
) -> frozenset[str]:
    """UIDs that the peer confirms to keep; nothing when it reports too late or otherwise than on this association."""
    if not files:
        return frozenset()
    request = request_of([(file.sop_class_uid, file.sop_instance_uid) for file in files])
    try:
        status, _ = association.send_n_action(request, REQUEST, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except (ValueError, RuntimeError):
        return frozenset()
    if "Status" not in status or status.Status != 0x0000:
        return frozenset()
    until = time.monotonic() + wait_s
    while time.monotonic() < until and association.is_established:
        for report in reports:
            if report.get("TransactionUID") == request.TransactionUID:
                return frozenset(str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence", []))
        time.sleep(0.05)
    return frozenset()
