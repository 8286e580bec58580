"""Storage commitment (PS3.4 J): reads a request, says for each object whether its kept bytes are whole, reports it to the peer.

The one data set that is parsed outside the decoding child is the request; its structure, depth and size are checked first.
Limits: configs/limits.toml, [network].
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role
from pynetdicom.association import Association

from configs.loader import NetworkLimits, limits
from dicom_io.structure import StructureError, StructureLimits, walk
from dicom_io.wire import Checkpoint

PUSH_MODEL, PUSH_MODEL_INSTANCE = UID("1.2.840.10008.1.20.1"), UID("1.2.840.10008.1.20.1.1")
NO_SUCH_OBJECT, PROCESSING_FAILURE, CLASS_CONFLICT = 0x0112, 0x0110, 0x0119
REQUEST, ALL_KEPT, SOME_FAILED = 1, 1, 2

Confirm = Callable[[str, str], int]
"""(SOP class UID, SOP instance UID) -> 0 when the kept bytes hash to their digest, else a failure reason of PS3.3 C.14."""


@dataclass(frozen=True)
class Peer:
    """Where a known application entity listens, for answers on an association of our own."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Asked:
    """A commitment request: its transaction, and (SOP class UID, SOP instance UID) of each object."""

    transaction_uid: str
    objects: tuple[tuple[str, str], ...]


def read_request(raw: bytes, syntax: str, bounds: NetworkLimits) -> Asked | None:
    """The request in an encoded data set; None when it is not a valid one or beyond the limits."""
    if len(raw) > bounds.max_commitment_bytes:
        return None
    most = StructureLimits(limits().object.max_elements * 2, bounds.max_commitment_bytes, bounds.max_commitment_depth)
    try:
        walk(raw, 0, implicit=UID(syntax) == ImplicitVRLittleEndian, little=True, limits=most)
        dataset = dcmread(io.BytesIO(_head(syntax) + raw))
        pairs = tuple(
            (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in dataset.ReferencedSOPSequence
        )
        transaction = str(dataset.TransactionUID)
    except (StructureError, AttributeError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    good = UID(transaction).is_valid and all(UID(uid).is_valid for pair in pairs for uid in pair)
    return Asked(transaction, pairs) if good and pairs else None


def _head(syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    stream.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(stream, meta, enforce_standard=False)
    return stream.getvalue()


def request_of(objects: Sequence[tuple[str, str]]) -> Dataset:
    """A request to confirm these (SOP class UID, SOP instance UID), under a transaction UID of its own."""
    request = Dataset()
    request.TransactionUID = generate_uid(prefix=None)
    items: list[Dataset] = []
    for sop_class, instance in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        items.append(item)
    request.ReferencedSOPSequence = items
    return request


def report_of(asked: Asked, confirm: Confirm) -> Dataset:
    """The event report: every object asked for, either kept or failed with its reason."""
    report = Dataset()
    report.TransactionUID = asked.transaction_uid
    kept: list[Dataset] = []
    failed: list[Dataset] = []
    for sop_class, instance in asked.objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        reason = confirm(sop_class, instance)
        if reason:
            item.FailureReason = reason
        (failed if reason else kept).append(item)
    if kept:
        report.ReferencedSOPSequence = kept
    if failed:
        report.FailedSOPSequence = failed
    return report


def send_report(association: Association, report: Dataset) -> bool:
    """Send an event report on an association; returns whether the peer answered."""
    kind = SOME_FAILED if "FailedSOPSequence" in report else ALL_KEPT
    try:
        status, _ = association.send_n_event_report(report, kind, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except (RuntimeError, ValueError):
        return False
    return "Status" in status


def report_to(peer: Peer, own_title: str, title: str, report: Dataset) -> bool:
    """Send an event report on a new association to a known peer; returns whether it answered."""
    entity = AE(ae_title=own_title)
    entity.add_requested_context(PUSH_MODEL)
    role = build_role(PUSH_MODEL, scp_role=True)  # this side is the provider, though it calls
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=title,
        ext_neg=[role],
        tls_args=(peer.tls, peer.host) if peer.tls is not None else None,
    )
    if not association.is_established:
        return False
    Checkpoint.put_into(association)
    try:
        return send_report(association, report)
    finally:
        association.release()
