"""multipart/related for DICOMweb (PS3.18 8.6): parts taken out of a body while it comes in, and parts written for one.

A part may be as large as an object; part heads, their number and the text before the first boundary are bounded.
Limits: configs/limits.toml, [network] and [object].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message
from typing import Literal

from configs.loader import limits

_LINE, _END, _HEAD_END = b"\r\n", b"--", b"\r\n\r\n"
_LONGEST_BOUNDARY = 70  # RFC 2046 5.1.1
Part = tuple[str, bytes]
"""Content type (lower case, without parameters) and bytes of one part."""


class MultipartError(Exception):
    """A body that is not valid multipart, or beyond its limits; `code` says which."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type header. Raises MultipartError when it is no multipart/related."""
    message = Message()
    message["Content-Type"] = " ".join(content_type.split())
    boundary = message.get_boundary("")
    if message.get_content_type() != "multipart/related" or not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise MultipartError("MULTIPART", "the body is not multipart/related with a boundary")
    if not boundary.isascii():
        raise MultipartError("MULTIPART", "the boundary is not ASCII")
    return boundary.encode()


class PartReader:
    """Takes a body piece by piece and gives its parts out as they are complete."""

    def __init__(self, boundary: bytes, most_parts: int) -> None:
        self._mark = _LINE + _END + boundary
        self._most_parts = most_parts
        self._buffer = bytearray(_LINE)  # the first boundary may stand at the very beginning
        self._searched = 0
        self._state: Literal["preamble", "boundary", "head", "body", "end"] = "preamble"
        self._type = ""
        self._parts = 0

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts that `data` completes. Raises MultipartError."""
        self._buffer += data
        while self._state != "end":
            if self._state == "preamble":
                if self._until(self._mark, limits().network.max_part_header_bytes) is None:
                    return
                self._state = "boundary"
            elif self._state == "boundary":
                if not self._after_boundary():
                    return
            elif self._state == "head":
                head = self._until(_HEAD_END, limits().network.max_part_header_bytes)
                if head is None:
                    return
                self._type, self._state = _content_type(head), "body"
            else:
                body = self._until(self._mark, limits().object.max_bytes)
                if body is None:
                    return
                self._state = "boundary"
                yield self._type, body

    def close(self) -> None:
        """Say that the body has ended. Raises MultipartError when its last boundary has not come."""
        if self._state != "end":
            raise MultipartError("MULTIPART", "the body ends before its last boundary")

    def _after_boundary(self) -> bool:
        while self._buffer.startswith((b" ", b"\t")):
            del self._buffer[:1]
        if len(self._buffer) < len(_END):
            return False
        if self._buffer.startswith(_END):
            self._state = "end"
            return True
        if not self._buffer.startswith(_LINE):
            raise MultipartError("MULTIPART", "a boundary is not followed by a line end")
        self._parts += 1
        if self._parts > self._most_parts:
            raise MultipartError("TOO_MANY_PARTS", f"a body holds at most {self._most_parts} parts")
        self._state = "head"  # its end is looked for from this line end on, since a part may have no head
        return True

    def _until(self, mark: bytes, most: int) -> bytes | None:
        """The bytes before `mark`, which is taken away; None while it has not come."""
        at = self._buffer.find(mark, self._searched)
        if (len(self._buffer) - len(mark) if at < 0 else at) > most:
            raise MultipartError("TOO_LARGE", f"a part or its head is larger than {most} bytes")
        if at < 0:
            self._searched = max(0, len(self._buffer) - len(mark))
            return None
        found = bytes(memoryview(self._buffer)[:at])
        del self._buffer[: at + len(mark)]
        self._searched = 0
        return found


def _content_type(head: bytes) -> str:
    for line in head.split(_LINE):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            return value.split(b";")[0].strip().decode("latin-1").lower()
    return ""


def write_parts(files: Iterable[tuple[str, Iterable[bytes]]], boundary: bytes) -> Iterator[bytes]:
    """The body of a multipart message: for each part its content type and its bytes in pieces."""
    for content_type, pieces in files:
        yield _END + boundary + _LINE + b"Content-Type: " + content_type.encode("ascii") + _HEAD_END
        yield from pieces
        yield _LINE
    yield _END + boundary + _END + _LINE
