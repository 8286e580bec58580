"""Judges objects one by one as they arrive over a network, and keeps them by a commit that the caller gives.

The bytes are parsed in the decoding child only (`dicom_io.decode`): one child per study and sender, started when needed, never
reused for another study. Limits: configs/limits.toml, [child] and [object]; outcomes: PS3.4 B.2.3 as the codes of `dicom_io.codes`.
"""

from __future__ import annotations

import hashlib
import os
import select
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from configs.loader import limits
from dicom_io.decoding_process import DecodingProcess
from dicom_io.header import Header, Verdict
from dicom_io.isolation import Examined

State = Literal["stored", "warned", "quarantined", "refused"]
_VERDICT = TypeAdapter(Verdict)
_MOST_CHILDREN = 4  # studies that one sender may interleave before a child is given up for another study
_PIPE_CHUNK = 1 << 20
_REPLY = struct.Struct("<IQB")  # as in dicom_io.decode, which is not imported: it parses, and this side must not


class NotKeptError(Exception):
    """An object that is good but cannot be kept now (disk, study limit); `code` says why. The sender may try again."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Outcome:
    """What became of one object: state and code ("" when stored without remark). Only a refused object is not kept."""

    state: State
    code: str = ""
    header: Header | None = None


Commit = Callable[[bytes, Examined], str]
"""Keeps the bytes of a judged object durably before it returns; returns a code when the object clashes with what is kept
already ("" otherwise). Raises NotKeptError when nothing was kept. Must bear being called twice with the same object."""


def take(examiner: Examiner, data: bytes, commit: Commit) -> Outcome:
    """Judge one object (a whole DICOM file) and keep it unless it is refused. Returns only after the commit has returned."""
    if len(data) > limits().object.max_bytes:
        return Outcome("refused", "TOO_LARGE")
    examined = examiner.examine(data)
    verdict = examined.verdict
    if verdict.state == "refused":
        return Outcome("refused", verdict.code, verdict.header)
    clash = commit(data, examined)
    if clash or verdict.state == "quarantined":
        return Outcome("quarantined", clash or verdict.code, verdict.header)
    state: State = "warned" if verdict.warnings else "stored"
    return Outcome(state, next(iter(verdict.warnings), ""), verdict.header)


class Examiner:
    """The decoding children of one sender. Not for use by several threads at once; close it when the sender has gone."""

    def __init__(self) -> None:
        self._children: OrderedDict[str, _Child] = OrderedDict()

    def __enter__(self) -> Examiner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all children."""
        while self._children:
            self._children.popitem()[1].close()

    def examine(self, data: bytes) -> Examined:
        """Verdict on one object (no pixels). A child that dies or overruns its limits condemns this object only."""
        digest = hashlib.sha256(data).hexdigest()
        verdict = self._ask(next(reversed(self._children), ""), data)
        if verdict.other_study and verdict.header is not None:
            verdict = self._ask(verdict.header.study_instance_uid, data)
        return Examined("", digest, verdict)

    def _ask(self, study: str, data: bytes) -> Verdict:
        child = self._children.pop(study, None)
        if child is None or not child.ready():
            if child is not None:
                child.close()
            child = _Child(study or None)
        verdict = child.answer(data)
        if child.ready():  # a child that has met no readable object yet waits under the empty name
            study = study or (verdict.header.study_instance_uid if verdict.header else "")
            self._children[study] = child
            while len(self._children) > _MOST_CHILDREN:
                self._children.popitem(last=False)[1].close()
        else:
            child.close()
        return verdict


class _Child:
    """One decoding process that is given one object at a time."""

    def __init__(self, study: str | None) -> None:
        self._bounds = limits()
        self._decoder = DecodingProcess.start(self._bounds, study)
        self._gone = False

    def ready(self) -> bool:
        """Whether the child takes another object: it runs, and has not handed over after its share of CPU."""
        told = select.poll()  # an idle child has nothing to say; what can be read now is its end
        told.register(self._decoder.answers, select.POLLIN)
        return not self._gone and not told.poll(0)

    def close(self) -> None:
        """End the process."""
        self._decoder.end()

    def answer(self, data: bytes) -> Verdict:
        """Verdict on one object; the pixels that may follow it are not kept."""
        overdue = threading.Event()

        def end() -> None:
            overdue.set()
            self._decoder.kill()

        timer = threading.Timer(self._bounds.child.wall_seconds, end)
        timer.daemon = True
        timer.start()
        try:
            self._decoder.send(data)
            verdict = self._verdict()
        except BrokenPipeError:
            verdict = None
        finally:
            timer.cancel()
        if verdict is None:
            self._gone = True
            return Verdict("quarantined", "CHILD_TIME" if overdue.is_set() else "CHILD_DIED")
        return verdict

    def _verdict(self) -> Verdict | None:
        head = self._exactly(_REPLY.size)
        if head is None:
            return None
        message_length, pixel_length, last = _REPLY.unpack(head)
        self._gone = bool(last)
        if message_length > self._bounds.child.max_message_bytes:
            return None
        message = self._exactly(message_length)
        left = pixel_length
        while left:
            part = os.read(self._decoder.answers, min(left, _PIPE_CHUNK))
            if not part:
                return None
            left -= len(part)
        try:
            return _VERDICT.validate_json(message or b"")
        except ValidationError:
            return None

    def _exactly(self, length: int) -> bytes | None:
        data = b""
        while len(data) < length:
            part = os.read(self._decoder.answers, length - len(data))
            if not part:
                return None
            data += part
        return data
