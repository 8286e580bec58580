"""What stands between a socket and the DICOM parser: TLS, handshakes in the connection's own thread, and limits while bytes come in.

pynetdicom takes PDUs of any length and waits without end; here size, rate and what waits in memory are bounded before anything
is put together. Limits: configs/limits.toml, [network].
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from pathlib import Path
from socketserver import BaseServer
from typing import Any

import pydicom.config
from pynetdicom import _config as pynetdicom_config
from pynetdicom.transport import ThreadedAssociationServer

from configs.loader import NetworkLimits, limits

_LOG = logging.getLogger("recess.network")
_P_DATA = 0x04
_PDU_HEAD = 6
_LOOK_AGAIN_S = 0.05  # an association may end without coming by its checkpoint


def quieten() -> None:
    """Switch off all texts of the DICOM libraries in this process: they repeat what peers and files say."""
    pynetdicom_config.LOG_HANDLER_LEVEL = "none"
    pynetdicom_config.LOG_REQUEST_IDENTIFIERS = False
    pynetdicom_config.LOG_RESPONSE_IDENTIFIERS = False
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote the value


def server_tls(certificate: Path, key: Path, client_authorities: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer for a listener; clients must show a certificate of `client_authorities`. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context


def client_tls(
    authorities: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """TLS 1.2 or newer for a sender, with its own certificate if it has one. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


class InFlight:
    """Bytes that were received and are not kept yet, over all associations of a listener."""

    def __init__(self, most: int) -> None:
        self._most, self._now, self._lock = most, 0, threading.Lock()

    def add(self, size: int) -> None:
        """Count bytes in. Raises OSError when all associations together hold too many."""
        with self._lock:
            if self._now + size > self._most:
                raise OSError(errno.ENOBUFS, "in flight")
            self._now += size

    def remove(self, size: int) -> None:
        """Count bytes out."""
        with self._lock:
            self._now -= size


class LimitedServer(ThreadedAssociationServer):
    """A server that shakes hands in the connection's own thread and counts the sockets it holds."""

    def __init__(self, *arguments: Any, bounds: NetworkLimits, **named: Any) -> None:
        self._bounds = bounds
        self._greeting = threading.Semaphore(bounds.max_connections - bounds.max_associations)
        super().__init__(*arguments, **named)

    def shutdown(self) -> None:
        """Stop listening."""
        BaseServer.shutdown(self)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        assert self.socket is not None
        client, address = self.socket.accept()
        client.settimeout(self._bounds.header_seconds)
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self.active_associations) > self._bounds.max_connections or not self._greeting.acquire(blocking=False):
            self.shutdown_request(request)
            return
        threading.Thread(target=self._greet, args=(request, client_address), daemon=True).start()

    def _greet(self, request: socket.socket, client_address: Any) -> None:
        try:
            if self.ssl_context is not None:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            request.settimeout(self._bounds.idle_seconds)
            self.finish_request(request, client_address)
        except OSError:  # no TLS, an unknown certificate, or the client went away
            _LOG.info("connection refused at the handshake")
            self.shutdown_request(request)
        finally:
            self._greeting.release()


class Wire:
    """Counts what one association receives and cuts it off at the limits, before anything is put together or parsed.

    Takes the place of the `recv` of pynetdicom's socket, which takes PDUs of any length and waits without end.
    """

    def __init__(self, connection: socket.socket, in_flight: InFlight, bounds: NetworkLimits) -> None:
        self._connection, self._in_flight, self._bounds = connection, in_flight, bounds
        self._left_in_pdu, self._kind = 0, 0
        self._command, self._data, self._began = 0, 0, 0.0
        self._waiting, self._lock = 0, threading.Lock()  # bytes received and not yet handled

    def handled(self, size: int | None = None) -> None:
        """Say that `size` bytes (all, when None) no longer wait."""
        with self._lock:
            size = self._waiting if size is None else min(size, self._waiting)
            self._waiting -= size
        self._in_flight.remove(size)

    def recv(self, length: int) -> bytearray:
        """`length` bytes: a PDU's head, or its body. Raises OSError at a limit."""
        if length > self._bounds.max_pdu_bytes:
            raise OSError(errno.EMSGSIZE, "PDU")
        deadline = time.monotonic() + self._bounds.idle_seconds
        data = bytearray(length)
        view, done = memoryview(data), 0
        while done < length:
            got = self._connection.recv_into(view[done:])
            if got == 0:
                return data[:done]
            done += got
            if time.monotonic() > deadline:
                raise OSError(errno.ETIMEDOUT, "PDU")
        if length == _PDU_HEAD and not self._left_in_pdu:
            self._kind, self._left_in_pdu = data[0], int.from_bytes(data[2:6], "big")
        else:
            self._left_in_pdu = 0
            if self._kind == _P_DATA:
                self._count(data)
        return data

    def _count(self, body: bytearray) -> None:
        at = 0
        while at + 6 <= len(body):
            length, control = int.from_bytes(body[at : at + 4], "big"), body[at + 5]
            if length < 2:
                raise OSError(errno.EBADMSG, "PDV")
            if control & 1:
                self._command = 0 if control & 2 else self._command + length
                self._data, self._began = 0, time.monotonic()
                if max(self._command, length) > self._bounds.max_command_bytes:
                    raise OSError(errno.EMSGSIZE, "command")
            else:
                length_of_data = length - 2  # context and control header
                self._data += length_of_data
                self._check_data()
                self._in_flight.add(length_of_data)
                with self._lock:
                    self._waiting += length_of_data
            at += 4 + length

    def _check_data(self) -> None:
        if self._data > limits().object.max_bytes:
            raise OSError(errno.EMSGSIZE, "object")
        late = time.monotonic() - self._began - self._bounds.idle_seconds
        if late > 0 and self._data < late * self._bounds.min_bytes_per_second:
            raise OSError(errno.ETIMEDOUT, "object")


class Checkpoint(threading.Event):
    """Where the reactor of an association rests while another thread sends over it and waits for the answer.

    Takes the place of pynetdicom's event. There a sender takes the reactor to rest when its flag says so, but the flag is up
    for a moment in passing, too: a reactor that is seen just then runs on and takes the answer away from the sender, which waits
    for it in vain. Here `clear` returns only once the reactor stands.
    """

    def __init__(self, association: threading.Thread) -> None:
        super().__init__()
        self._association = association
        self._changed = threading.Condition()
        self._resting = False
        self.set()

    @classmethod
    def put_into(cls, association: Any) -> None:
        """Give an association, running or not, a checkpoint of this kind."""
        association._reactor_checkpoint = cls(association)

    def set(self) -> None:
        """Let the reactor run on."""
        with self._changed:
            super().set()
            self._changed.notify_all()

    def clear(self) -> None:
        """Stop the reactor; returns when it stands or has ended. The reactor does not wait for itself."""
        with self._changed:
            super().clear()
            if self._association is threading.current_thread():
                return
            while not self._resting and self._association.is_alive():
                self._changed.wait(_LOOK_AGAIN_S)

    def wait(self, timeout: float | None = None) -> bool:
        """Rest until the reactor may run on. For the reactor's own thread, which waits without end."""
        with self._changed:
            while not self.is_set():
                self._resting = True
                self._changed.notify_all()
                self._changed.wait()
            self._resting = False
        return True
