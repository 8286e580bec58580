"""C-ECHO, C-STORE and storage commitment: a listener that acknowledges only what was kept, and its limits (PS3.4 B, J; PS3.7; PS3.8).

Data sets are judged and kept by `dicom_io.arrivals`; the commit is the caller's. This process parses PDUs and command sets, and
commitment requests after their structure was checked. Limits: configs/limits.toml, [network]. Nothing a peer sends is logged.
"""

from __future__ import annotations

import errno
import io
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt

from configs.loader import NetworkLimits, limits
from dicom_io.arrivals import Commit, Examiner, NotKeptError, Outcome, take
from dicom_io.commitment import PUSH_MODEL, REQUEST, Confirm, Peer, read_request, report_of, report_to, send_report
from dicom_io.isolation import Examined
from dicom_io.wire import Checkpoint, InFlight, LimitedServer, Wire, quieten

_LOG = logging.getLogger("recess.network")
# names this program in file headers; never changes
_IMPLEMENTATION = UID("2.25.284741366216471563930716312937493183221")
VERIFICATION = UID("1.2.840.10008.1.1")
SUCCESS, KEPT_WITH_REMARK, NOT_UNDERSTOOD = 0x0000, 0xB007, 0xC000
CLASS_MISMATCH, CLASS_UNSUPPORTED, NO_RESOURCES = 0xA900, 0x0122, 0xA700
NO_SUCH_ACTION, INVALID_ARGUMENT = 0x0123, 0x0115
_ANSWER_FIRST_S = 0.3  # the response to a commitment request goes out before the report on the same association
_SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    *JPEGTransferSyntaxes,
    *JPEGLSTransferSyntaxes,
    *JPEG2000TransferSyntaxes,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    HTJ2K,
    RLELossless,
]


@dataclass(frozen=True)
class ListenerSettings:
    """Where to listen. With `tls` that demands client certificates, their common name must be the calling AE title."""

    ae_title: str
    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    peers: Mapping[str, Peer] = field(default_factory=dict)


class Listener:
    """A running listener; `close` ends it. `port` is the one in use."""

    def __init__(self, entity: AE, server: LimitedServer, thread: threading.Thread) -> None:
        self._entity, self._server, self._thread = entity, server, thread
        self.port = int(server.server_address[1])

    @property
    def alive(self) -> bool:
        """Whether connections are taken."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening and cut what is still connected; an object that was not acknowledged is not lost to its sender."""
        self._server.shutdown()
        self._thread.join(5)
        self._entity.shutdown()


def listen(settings: ListenerSettings, commit: Commit, confirm: Confirm) -> Listener:
    """Start listening in threads of its own. `commit` keeps objects, `confirm` answers storage commitment. Raises OSError.

    Switches off all texts of the DICOM libraries in this process, since they repeat what peers send.
    """
    quieten()
    reception = _Reception(settings, commit, confirm, limits().network)
    entity = AE(ae_title=settings.ae_title)
    entity.supported_contexts = []
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, _SYNTAXES)
    entity.add_supported_context(VERIFICATION)
    entity.add_supported_context(PUSH_MODEL, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    bounds = limits().network
    entity.require_called_aet = True
    entity.maximum_associations = bounds.max_associations
    entity.maximum_pdu_size = bounds.max_pdu_bytes
    entity.acse_timeout = bounds.header_seconds
    entity.network_timeout = entity.dimse_timeout = bounds.idle_seconds
    handlers: list[Any] = [
        (evt.EVT_CONN_OPEN, reception.on_open),
        (evt.EVT_REQUESTED, reception.on_request),
        (evt.EVT_CONN_CLOSE, reception.on_close),
        (evt.EVT_C_ECHO, lambda _: SUCCESS),
        (evt.EVT_C_STORE, reception.on_store),
        (evt.EVT_N_ACTION, reception.on_commitment),
    ]
    server: Any = entity.make_server(
        (settings.host, settings.port),
        evt_handlers=handlers,
        server_class=LimitedServer,
        ssl_context=settings.tls,
        bounds=bounds,
    )
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="recess-dicom", daemon=True
    )
    thread.start()
    return Listener(entity, server, thread)


@dataclass
class _Session:
    wire: Wire
    examiner: Examiner
    peer: str = ""
    busy: threading.Lock = field(default_factory=threading.Lock)

    def end(self) -> None:
        """Give up what waits and end the children, after the object that is being judged."""
        self.wire.handled()
        with self.busy:
            self.examiner.close()


class _Reception:
    """The handlers of one listener and what they know of each association."""

    def __init__(self, settings: ListenerSettings, commit: Commit, confirm: Confirm, bounds: NetworkLimits) -> None:
        self.settings, self.commit, self.confirm, self.bounds = settings, commit, confirm, bounds
        self._sessions: dict[Any, _Session] = {}
        self._lock = threading.Lock()
        self._in_flight = InFlight(bounds.max_in_flight_bytes)

    def on_open(self, event: evt.Event) -> None:
        """Put the limits between the socket and the parser, before the first byte is read."""
        wrapped: Any = event.assoc.dul.socket
        wire = Wire(wrapped.socket, self._in_flight, self.bounds)
        wrapped.recv = wire.recv
        Checkpoint.put_into(event.assoc)
        with self._lock:
            self._sessions[event.assoc] = _Session(wire, Examiner())

    def on_close(self, event: evt.Event) -> None:
        """Forget the association and end its children."""
        with self._lock:
            session = self._sessions.pop(event.assoc, None)
        if session is not None:
            threading.Thread(target=session.end, name="recess-hang-up", daemon=True).start()

    def on_request(self, event: evt.Event) -> None:
        """Reject a peer that its certificate does not name, or that has too many associations already."""
        association: Any = event.assoc
        title = str(association.requestor.primitive.calling_ae_title).strip()
        if not self._authorised(association, title):
            _LOG.info("association rejected: %s", "CERTIFICATE")
            self._reject(association, 0x01, 0x01, 0x03)
            return
        with self._lock:
            session = self._sessions.get(association)
            others = sum(one.peer == title for one in self._sessions.values())
            if session is not None and others < self.bounds.max_associations_per_peer:
                session.peer = title
                return
        _LOG.info("association rejected: %s", "PEER_LIMIT")
        self._reject(association, 0x02, 0x03, 0x02)

    def _authorised(self, association: Any, title: str) -> bool:
        if self.settings.tls is None:
            return True
        connection = association.dul.socket.socket
        certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
        return title in _common_names(certificate or {})

    @staticmethod
    def _reject(association: Any, result: int, source: int, reason: int) -> None:
        association.acse.send_reject(result, source, reason)
        association.kill()  # waits until the rejection has gone out

    def on_store(self, event: evt.Event) -> int | Dataset:
        """Answer C-STORE: 0x0000 and 0xB007 only after the commit has returned."""
        began = time.monotonic()
        request: Any = event.request
        body = request.DataSet.getvalue() if request.DataSet is not None else b""
        with self._lock:
            session = self._sessions.get(event.assoc)
        if session is None:
            return NO_RESOURCES
        try:
            with session.busy:
                status, outcome = self._store(session, event, body)
        except NotKeptError as full:
            status, outcome = NO_RESOURCES, Outcome("refused", full.code)
        except _MismatchError:
            status, outcome = CLASS_MISMATCH, Outcome("refused", "META_UID_MISMATCH")
        except OSError as error:
            status, outcome = NO_RESOURCES, Outcome("refused", "NO_SPACE" if error.errno == errno.ENOSPC else "IO")
        except (
            Exception
        ) as error:  # never an acknowledgement for what was perhaps not kept; the text may hold what was sent
            _LOG.error("an object could not be kept: %s", type(error).__name__)
            status, outcome = NOT_UNDERSTOOD, Outcome("refused", "INTERNAL")
        finally:
            session.wire.handled(len(body))
        ms = round((time.monotonic() - began) * 1000)
        _LOG.info("object %s code=%s bytes=%d ms=%d", outcome.state, outcome.code, len(body), ms)
        return _answer(status, outcome.code)

    def _store(self, session: _Session, event: evt.Event, body: bytes) -> tuple[int, Outcome]:
        context: Any = event.context
        request: Any = event.request
        sop_class, instance = str(request.AffectedSOPClassUID or ""), str(request.AffectedSOPInstanceUID or "")
        if sop_class != str(context.abstract_syntax):
            return CLASS_UNSUPPORTED, Outcome("refused", "SOP_CLASS")
        if not UID(instance).is_valid:
            return NOT_UNDERSTOOD, Outcome("refused", "UID_MALFORMED")
        if not body:
            return NOT_UNDERSTOOD, Outcome("refused", "EMPTY")
        head = _file_head(sop_class, instance, str(context.transfer_syntax))
        outcome = take(session.examiner, head + body, _unless_mismatched(self.commit))
        return _status(outcome), outcome

    def on_commitment(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Take a storage commitment request; the answer follows on this association, or on one to the peer when it has gone."""
        request: Any = event.request
        body = request.ActionInformation
        raw = body.getvalue() if body is not None else b""
        with self._lock:
            session = self._sessions.get(event.assoc)
        if session is None or event.action_type != REQUEST:
            return NO_SUCH_ACTION, None
        session.wire.handled(len(raw))
        asked = read_request(raw, str(event.context.transfer_syntax), self.bounds)
        if asked is None:
            return INVALID_ARGUMENT, None
        arguments = (event.assoc, report_of(asked, self.confirm), session.peer)
        threading.Thread(target=self._report, args=arguments, name="recess-commitment", daemon=True).start()
        return SUCCESS, None

    def _report(self, association: Any, report: Dataset, title: str) -> None:
        time.sleep(_ANSWER_FIRST_S)
        if association.is_established and send_report(association, report):
            return
        peer = self.settings.peers.get(title)
        if peer is None or not report_to(peer, self.settings.ae_title, title, report):
            _LOG.warning("a storage commitment could not be reported: %s", "UNREACHABLE" if peer else "UNKNOWN_PEER")


def _common_names(certificate: Mapping[str, Any]) -> set[str]:
    return {value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"}


class _MismatchError(Exception):
    """The data set is not the object that its own request names."""


def _unless_mismatched(commit: Commit) -> Commit:
    """Refuse what contradicts its request: the file header that the verdict compares with is made from the request."""

    def checked(data: bytes, examined: Examined) -> str:
        if examined.verdict.code == "META_UID_MISMATCH":
            raise _MismatchError
        return commit(data, examined)

    return checked


def _status(outcome: Outcome) -> int:
    """C-STORE status of an outcome (PS3.4 B.2.3; 0xB007 also for what is kept but set aside)."""
    if outcome.state == "stored":
        return SUCCESS
    return NOT_UNDERSTOOD if outcome.state == "refused" else KEPT_WITH_REMARK


def _answer(status: int, code: str) -> int | Dataset:
    if not code:
        return status
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = code
    return answer


def _file_head(sop_class: str, instance: str, syntax: str) -> bytes:
    """Preamble and file meta information; the same object always gets the same bytes, whoever sends it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, instance
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID, meta.ImplementationVersionName = _IMPLEMENTATION, "RECESS"
    stream = io.BytesIO()
    stream.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(stream, meta)
    return stream.getvalue()
