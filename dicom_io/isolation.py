"""Runs the decoding child and listens to it: bytes in, validated verdicts and pixel arrays out.

What a child says is checked like any foreign input. A child that dies or overruns its limits condemns the object it was
working on, never the program.
Limits: configs/limits.toml, [child] and [object].
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from configs.loader import Limits, limits
from dicom_io.header import Verdict
from dicom_io.intake import Entry, EntryError

_VERDICT = TypeAdapter(Verdict)
_DTYPES = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4"})
_REPLY_BYTES = 12
_END = (0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
_READ_CHUNK = 1 << 20
_ROOT = str(Path(__file__).resolve().parent.parent)
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "PYTHONDONTWRITEBYTECODE")


class _ChildError(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Examined:
    """One object after the child looked at it. `pixels` (frames, rows, columns), stored values, or None."""

    name: str
    digest: str
    verdict: Verdict
    pixels: NDArray[np.integer[Any]] | None = None


def examine_all(entries: Sequence[Entry], study: str | None = None) -> Iterator[Examined]:
    """Examine every entry in children of one study each restarted as needed; one `Examined` per entry, in order.

    `study` None: the first readable object decides whose pixels are decoded; objects of other studies come back with
    `other_study` set and no pixels, to be handed to this function again with their own study UID.
    """
    at, restarts = 0, 0
    bounds = limits()
    while at < len(entries):
        code = ""
        with _Child(entries[at:], study, bounds) as child:
            for item in child.answers():
                at += 1
                header = item.verdict.header
                if study is None and header is not None and item.verdict.code not in ("UID_MISSING", "UID_MALFORMED"):
                    study = header.study_instance_uid
                yield item
            code = child.fault
        if at >= len(entries) or not code:
            continue
        name, digest = child.last_sent(at_offset=child.answered)
        yield Examined(name, digest, Verdict("quarantined", code))
        at, restarts = at + 1, restarts + 1
        if restarts > bounds.child.max_restarts:
            for entry in entries[at:]:
                yield Examined(entry.name, "", Verdict("quarantined", "NOT_EXAMINED"))
            return


class _Child:
    """One decoding process, fed by a thread while the caller reads its answers."""

    def __init__(self, entries: Sequence[Entry], study: str | None, bounds: Limits) -> None:
        self.entries = entries
        self.bounds = bounds
        self.study = study
        self.sent: list[tuple[str, str, str]] = []  # name, digest, fault of reading it
        self.known = threading.Condition()
        self.answered = 0
        self.fault = ""
        self.feed_error: BaseException | None = None

    def __enter__(self) -> _Child:
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment |= {"PYTHONPATH": _ROOT, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dicom_io.decode"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # a kernel that grants no larger pipe works with the small one
                if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _READ_CHUNK)
        self.deadline = time.monotonic() + self.bounds.child.wall_seconds
        self.feeder = threading.Thread(target=self._feed, daemon=True)
        self.feeder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self.feeder.join()
        if self.feed_error is not None:
            raise self.feed_error

    def _feed(self) -> None:
        settings = {
            "object": self.bounds.object.model_dump(),
            "child": self.bounds.child.model_dump(),
            "cpu_share": self.bounds.child.cpu_share,
            "study": self.study,
        }
        pipe = self.process.stdin
        try:
            _write(pipe, json.dumps(settings).encode())
            for entry in self.entries:
                data, fault = b"", ""
                try:
                    data = entry.read()
                except EntryError as error:
                    fault = error.code
                with self.known:
                    self.sent.append((entry.name, hashlib.sha256(data).hexdigest(), fault))
                    self.known.notify_all()
                if not fault:
                    _write(pipe, data)
            if pipe is not None:
                pipe.write(_END)
                pipe.flush()
        except (BrokenPipeError, ValueError):
            pass  # the child has gone: its side tells why
        except BaseException as error:  # handed to the reading thread, which raises it
            self.feed_error = error
            self.process.kill()
        with self.known:
            self.known.notify_all()

    def last_sent(self, at_offset: int) -> tuple[str, str]:
        """Name and digest of the object that was being worked on."""
        if at_offset < len(self.sent):
            return self.sent[at_offset][0], self.sent[at_offset][1]
        return self.entries[at_offset].name, ""

    def answers(self) -> Iterator[Examined]:
        """Verdicts in order until all are given, the child hands over, or it fails (`fault` then holds the code)."""
        while self.answered < len(self.entries):
            sent = self._next_sent()
            if sent is None:
                return
            name, digest, fault = sent
            if fault:
                self.answered += 1
                yield Examined(name, digest, Verdict("refused", fault))
                continue
            try:
                item = self._answer(name, digest)
            except _ChildError as gone:
                self.fault = gone.code
                return
            if item is None:
                return
            self.answered += 1
            yield item

    def _next_sent(self) -> tuple[str, str, str] | None:
        with self.known:
            while len(self.sent) <= self.answered:
                if not self.feeder.is_alive():
                    return None
                self.known.wait(0.1)
            return self.sent[self.answered]

    def _answer(self, name: str, digest: str) -> Examined | None:
        """The next verdict; None when the child has handed over after its CPU share."""
        head = self._read(_REPLY_BYTES, at_boundary=True)
        if head is None:
            return None
        message_length, pixel_length = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
        if message_length > self.bounds.child.max_message_bytes:
            raise _ChildError("CHILD_PROTOCOL")
        if pixel_length > self.bounds.object.max_decoded_bytes:
            raise _ChildError("CHILD_PROTOCOL")
        message, raw = self._read(message_length), self._read(pixel_length)
        try:
            verdict = _VERDICT.validate_json(message or b"")
        except ValidationError as error:
            raise _ChildError("CHILD_PROTOCOL") from error
        return Examined(name, digest, verdict, _pixel_array(verdict, raw or b""))

    def _read(self, length: int, *, at_boundary: bool = False) -> bytearray | None:
        pipe = self.process.stdout
        assert pipe is not None
        data = bytearray(length)
        view, done = memoryview(data), 0
        with selectors.DefaultSelector() as waiting:
            waiting.register(pipe, selectors.EVENT_READ)
            while done < length:
                left = self.deadline - time.monotonic()
                if left <= 0 or not waiting.select(left):
                    raise _ChildError("CHILD_TIME")
                got = os.readv(pipe.fileno(), [view[done : done + _READ_CHUNK]])
                if got == 0:
                    if at_boundary and done == 0 and self.process.wait() == 0:
                        return None
                    raise _ChildError("CHILD_DIED")
                done += got
        return data


def _write(pipe: IO[bytes] | None, data: bytes) -> None:
    assert pipe is not None
    view = memoryview(len(data).to_bytes(8, "little") + data) if len(data) < _READ_CHUNK else None
    if view is None:
        pipe.write(len(data).to_bytes(8, "little"))
        view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]
    pipe.flush()


def _pixel_array(verdict: Verdict, raw: bytearray | bytes) -> NDArray[np.integer[Any]] | None:
    if not verdict.dtype:
        if raw:
            raise _ChildError("CHILD_PROTOCOL")
        return None
    header = verdict.header
    if verdict.dtype not in _DTYPES or header is None:
        raise _ChildError("CHILD_PROTOCOL")
    shape = (header.number_of_frames, header.rows, header.columns)
    kind = np.dtype(verdict.dtype)
    if len(raw) != shape[0] * shape[1] * shape[2] * kind.itemsize:
        raise _ChildError("CHILD_PROTOCOL")
    return np.frombuffer(raw, kind).reshape(shape)
