"""Runs the decoding children and listens to them: bytes in, validated verdicts and pixel arrays out.

What a child says is checked like any foreign input. A child that dies or overruns its limits condemns the object it was
working on, never the program. One child a study, never reused (dicom_io/decoding_process.py).
Limits: configs/limits.toml, [child] and [object].
"""

from __future__ import annotations

import hashlib
import os
import selectors
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from configs.loader import Limits, limits
from dicom_io.decoding_process import DecodingProcess
from dicom_io.header import Verdict
from dicom_io.intake import Entry, EntryError

_VERDICT = TypeAdapter(Verdict)
_DTYPES = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4"})
_REPLY_BYTES = 13
_READ_CHUNK = 1 << 20


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


@dataclass
class _Sent:
    """An object on its way: its bytes are kept until it is judged, since its pixels may stand in them."""

    name: str
    digest: str
    fault: str  # of reading it
    data: bytes = field(repr=False)


class _Child:
    """One decoding process, fed by a thread while the caller reads its answers."""

    def __init__(self, entries: Sequence[Entry], study: str | None, bounds: Limits) -> None:
        self.entries = entries
        self.bounds = bounds
        self.study = study
        self.sent: list[_Sent] = []
        self.known = threading.Condition()
        self.answered = 0
        self.last = False  # the child has said that it hands over
        self.fault = ""
        self.feed_error: BaseException | None = None

    def __enter__(self) -> _Child:
        self.decoder = DecodingProcess.start(self.bounds, self.study)
        self.deadline = time.monotonic() + self.bounds.child.wall_seconds
        self.feeder = threading.Thread(target=self._feed, daemon=True)
        self.feeder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.decoder.kill()
        self.feeder.join()
        self.decoder.end()
        if self.feed_error is not None:
            raise self.feed_error

    def _feed(self) -> None:
        try:
            for entry in self.entries:
                data, fault = b"", ""
                try:
                    data = entry.read()
                except EntryError as error:
                    fault = error.code
                digest = hashlib.sha256(data).hexdigest()
                with self.known:
                    self.sent.append(_Sent(entry.name, digest, fault, data))
                    self.known.notify_all()
                if not fault:
                    self.decoder.send(data)
            self.decoder.finish()
        except BrokenPipeError:
            pass  # the child has gone: its side tells why
        except BaseException as error:  # handed to the reading thread, which raises it
            self.feed_error = error
            self.decoder.kill()
        with self.known:
            self.known.notify_all()

    def last_sent(self, at_offset: int) -> tuple[str, str]:
        """Name and digest of the object that was being worked on."""
        if at_offset < len(self.sent):
            return self.sent[at_offset].name, self.sent[at_offset].digest
        return self.entries[at_offset].name, ""

    def answers(self) -> Iterator[Examined]:
        """Verdicts in order until all are given, the child hands over, or it fails (`fault` then holds the code)."""
        while self.answered < len(self.entries) and not self.last:
            sent = self._next_sent()
            if sent is None:
                return
            if sent.fault:
                self.answered += 1
                yield Examined(sent.name, sent.digest, Verdict("refused", sent.fault))
                continue
            try:
                item = self._answer(sent)
            except _ChildError as gone:
                self.fault = gone.code
                return
            sent.data = b""
            self.answered += 1
            yield item

    def _next_sent(self) -> _Sent | None:
        with self.known:
            while len(self.sent) <= self.answered:
                if not self.feeder.is_alive():
                    return None
                self.known.wait(0.1)
            return self.sent[self.answered]

    def _answer(self, sent: _Sent) -> Examined:
        """The next verdict, with pixels."""
        head = self._read(_REPLY_BYTES)
        message_length, pixel_length = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:12], "little")
        if message_length > self.bounds.child.max_message_bytes:
            raise _ChildError("CHILD_PROTOCOL")
        if pixel_length > self.bounds.object.max_decoded_bytes:
            raise _ChildError("CHILD_PROTOCOL")
        message, raw = self._read(message_length), self._read(pixel_length)
        try:
            verdict = _VERDICT.validate_json(message)
        except ValidationError as error:
            raise _ChildError("CHILD_PROTOCOL") from error
        self.last = bool(head[12])
        return Examined(sent.name, sent.digest, verdict, _pixel_array(verdict, raw, sent.data))

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        view, done = memoryview(data), 0
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.decoder.answers, selectors.EVENT_READ)
            while done < length:
                left = self.deadline - time.monotonic()
                if left <= 0 or not waiting.select(left):
                    raise _ChildError("CHILD_TIME")
                got = os.readv(self.decoder.answers, [view[done : done + _READ_CHUNK]])
                if got == 0:
                    raise _ChildError("CHILD_DIED")
                done += got
        return data


def _pixel_array(verdict: Verdict, raw: bytearray, data: bytes) -> NDArray[np.integer[Any]] | None:
    """The pixels that follow a verdict, or stand in the object's own bytes where it says; anything out of bounds is a fault."""
    if not verdict.dtype:
        if raw or verdict.pixel_offset is not None:
            raise _ChildError("CHILD_PROTOCOL")
        return None
    header = verdict.header
    if verdict.dtype not in _DTYPES or header is None:
        raise _ChildError("CHILD_PROTOCOL")
    shape = (header.number_of_frames, header.rows, header.columns)
    kind = np.dtype(verdict.dtype)
    count = shape[0] * shape[1] * shape[2]
    if min(shape) < 0:
        raise _ChildError("CHILD_PROTOCOL")
    if verdict.pixel_offset is None:
        if len(raw) != count * kind.itemsize:
            raise _ChildError("CHILD_PROTOCOL")
        return np.frombuffer(raw, kind).reshape(shape)
    if raw or not 0 <= verdict.pixel_offset <= len(data) - count * kind.itemsize:
        raise _ChildError("CHILD_PROTOCOL")
    return np.frombuffer(data, kind, count, verdict.pixel_offset).reshape(shape)
