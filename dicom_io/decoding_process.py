"""Decoding processes as their owner sees them: started by a clean server, written to and read from by pipes, ended for good.

Light on purpose: it needs the standard library alone, so that a program can start the server first and import the rest meanwhile.
Limits: configs/limits.toml, [child].
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_io.forkserver import END, ORDER, REPLY, START

if TYPE_CHECKING:
    from configs.loader import Limits

_PIPE_BYTES = 1 << 20
_NO_MORE = (0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
_ROOT = str(Path(__file__).resolve().parent.parent)
_KEPT_ENVIRONMENT = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
)


class _Server:
    """The process that forks decoding children, and the socket to it."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        places = os.pathsep.join([_ROOT, *(place for place in sys.path if place)])
        environment |= {"PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.owner = os.getpid()
        self.control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-P", "-c", "from dicom_io.forkserver import main; main()"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # what is typed at a terminal concerns the program, not its children
            )

    def alive(self) -> bool:
        """Whether this process may use the server: a fork of the program must not speak into its parent's socket."""
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, kind: bytes, process: int, descriptors: Sequence[int] = ()) -> tuple[int, int]:
        """Give an order and wait for the reply. Raises OSError when the server is gone."""
        socket.send_fds(self.control, [ORDER.pack(kind, process)], list(descriptors))
        reply = self.control.recv(REPLY.size, socket.MSG_WAITALL)
        if len(reply) != REPLY.size:
            raise ConnectionError("the decoding server has gone")
        first, second = REPLY.unpack(reply)
        return int(first), int(second)

    def close(self) -> None:
        """End the server and what it has started; waits for it."""
        self.control.close()
        if self.owner == os.getpid():
            self.process.wait()


_server: _Server | None = None
_server_lock = threading.Lock()
_SERVER_TRIES = 2


def prepare() -> None:
    """Start the decoding server ahead of need, without waiting for it: it imports its decoders while the caller does the same."""
    with _server_lock:
        _running_server()


def close() -> None:
    """End the decoding server of this process; the next study starts another."""
    global _server
    with _server_lock:
        if _server is not None:
            _server.close()
            _server = None


atexit.register(close)


def _running_server() -> _Server:
    global _server
    if _server is None or not _server.alive():
        if _server is not None:
            _server.close()
        _server = _Server()
    return _server


@dataclass
class DecodingProcess:
    """One decoding process: where objects are written to and answers read from. `end` it when its study is done."""

    objects: int  # descriptor
    answers: int  # descriptor
    process: int
    server: _Server = field(repr=False)
    peak_memory_bytes: int = 0

    @classmethod
    def start(cls, bounds: Limits, study: str | None) -> DecodingProcess:
        """A fresh process that has seen no object yet. Raises OSError when none can be started."""
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        try:
            for pipe in (ours_out, ours_in):
                with suppress(OSError):  # a kernel that grants no larger pipe works with the small one
                    if hasattr(fcntl, "F_SETPIPE_SZ"):
                        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            server, process = _fork((theirs_in, theirs_out))
        except BaseException:
            os.close(ours_out)
            os.close(ours_in)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        decoder = cls(ours_out, ours_in, process, server)
        settings = {
            "object": bounds.object.model_dump(),
            "child": bounds.child.model_dump(),
            "cpu_share": bounds.child.cpu_share,
            "study": study,
        }
        with suppress(BrokenPipeError):  # it has died: the first answer tells
            decoder.send(json.dumps(settings).encode())
        return decoder

    def send(self, data: bytes) -> None:
        """Write one message. Raises BrokenPipeError when the process has gone."""
        for part in (len(data).to_bytes(8, "little"), data):
            view = memoryview(part)
            while view:
                view = view[os.write(self.objects, view) :]

    def finish(self) -> None:
        """Say that no more objects follow."""
        os.write(self.objects, _NO_MORE)

    def kill(self) -> None:
        """End the process for good; its pipes stay open until `end`."""
        with _server_lock:
            if self.process:
                with suppress(OSError):  # a server that has gone has taken its children along
                    _, self.peak_memory_bytes = self.server.ask(END, self.process)
                self.process = 0

    def end(self) -> None:
        """End the process and close its pipes."""
        self.kill()
        os.close(self.objects)
        os.close(self.answers)


def _fork(descriptors: Sequence[int]) -> tuple[_Server, int]:
    with _server_lock:
        for left in reversed(range(_SERVER_TRIES)):
            server = _running_server()
            try:
                return server, server.ask(START, 0, descriptors)[0]
            except OSError:
                server.close()
                if not left:
                    raise
        raise AssertionError
