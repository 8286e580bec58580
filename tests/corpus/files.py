"""Files that are broken, odd or hostile byte by byte (classes F-01 to F-18, F-25, F-32)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_io.intake import Entry
from dicom_io.isolation import examine_all
from dicom_io.study import Study
from tests.corpus.case import (
    MOST_MISPLACED_MM,
    STATES,
    Case,
    codes_of,
    outcomes_of,
    read,
    same,
)
from tests.corpus.edit import (
    all_bytes,
    beside,
    element,
    extra,
    in_place,
    value_replaced,
    where,
    with_syntax,
)
from tests.corpus.small_study import File, changed, encode, good
from tests.corpus.truth import misplaced_mm

_GAP = ("SLICE_MISSING",)


def _bad(change: Callable[[bytes], bytes]) -> Callable[[int], list[File]]:
    return lambda seed: beside(seed, change(encode(extra(seed))))


def _body(data: bytes) -> int:
    """Where the data set begins behind the file meta information."""
    (length,) = struct.unpack_from("<I", data, 140)
    return 144 + length


def _boundaries(data: bytes) -> list[int]:
    """Offsets at which elements of the data set begin (explicit little endian, no sequences)."""
    at, found = _body(data), []
    while at < len(data):
        found.append(at)
        long_form = data[at + 4 : at + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT")
        at += (
            12 + struct.unpack_from("<I", data, at + 8)[0]
            if long_form
            else 8 + struct.unpack_from("<H", data, at + 6)[0]
        )
    return found


def _cuts(seed: int) -> list[File]:
    data = encode(extra(seed))
    borders = _boundaries(data)
    last = where(data, "PixelData")
    inside = sorted(set(range(borders[0] + 1, last)) - set(borders))
    chosen = np.random.default_rng(seed).choice(inside, 64, replace=False)
    return beside(seed, *(data[: int(at)] for at in chosen))


def _header_cuts(seed: int) -> list[File]:
    data = encode(extra(seed))
    return beside(seed, *(data[: at + into] for at in _boundaries(data)[2:12] for into in (3, 6)))


def _shorter(data: bytes, by: int) -> bytes:
    return data[: len(data) - by]


def _pixels_longer(tail: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        at = where(data, "PixelData")
        (length,) = struct.unpack_from("<I", data, at + 8)
        return data[: at + 8] + struct.pack("<I", length + len(tail)) + data[at + 12 :] + tail

    return change


def _odd_matrix(name: str, dataset: Dataset) -> Dataset:
    """Eight bits and an odd number of pixels: one byte of padding is the standard's own."""
    if name.startswith("sagT2"):
        plane = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)[:109]
        dataset.Rows = 109
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = (plane // 8).clip(0, 255).astype("u1").tobytes() + b"\0"
        dataset["PixelData"].VR = "OB"
    return dataset


def _length(value: int) -> Callable[[bytes], bytes]:
    """An element (OB, before the pixel data) that claims this many bytes."""

    def change(data: bytes) -> bytes:
        at = where(data, "PixelData")
        return data[:at] + element(0x00910010, "OB", b"1234")[:8] + struct.pack("<I", value) + b"1234" + data[at:]

    return change


def _nested(depth: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        opened = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        at = _body(data)
        return data[:at] + opened * depth + closed * depth + data[at:]

    return change


def _many_elements(data: bytes) -> bytes:
    item = b"".join(element(0x00091000 + number % 0xEFFF, "LO", b"") for number in range(200_000))
    sequence = element(0x00081140, "SQ", element(0xFFFEE000, "OB", b"")[:4] + struct.pack("<I", len(item)) + item)
    at = _body(data)
    return data[:at] + sequence + data[at:]


def _large_text(data: bytes) -> bytes:
    at = where(data, "PixelData")
    return data[:at] + element(0x00910010, "UT", b"x" * (65 << 20)) + data[at:]


def _swapped(data: bytes) -> bytes:
    at = _boundaries(data)
    first, second, third = at[8], at[9], at[10]
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def _twice(data: bytes) -> bytes:
    at = _boundaries(data)
    number = next(n for n, offset in enumerate(at) if offset == where(data, "PatientID"))
    copy = data[at[number] : at[number + 1]]
    return data[: at[number]] + copy + data[at[number] :]


def _rows_as_ul(data: bytes) -> bytes:
    at = where(data, "Rows")
    (rows,) = struct.unpack_from("<H", data, at + 8)
    return data[:at] + element(0x00280010, "UL", struct.pack("<I", rows)) + data[at + 10 :]


def _implicit_body(seed: int) -> list[File]:
    """Implicit bytes behind a header that says explicit, and the reverse."""
    implicit, explicit = encode(extra(seed), ImplicitVRLittleEndian), encode(extra(seed))
    one = explicit[: _body(explicit)] + implicit[_body(implicit) :]
    other = implicit[: _body(implicit)] + explicit[_body(explicit) :]
    return beside(seed, one, other)


def deflated_bomb(mebibytes: int) -> bytes:
    """A deflated object of some 1 : 1000."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(mebibytes)) + deflater.flush()
    syntax = element(0x00020010, "UI", DeflatedExplicitVRLittleEndian.encode())
    return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(syntax))) + syntax + body


def _odd_text(name: str, dataset: Dataset) -> Dataset:
    dataset.SeriesDescription = "T1\n<script>alert(1)</script>../../x"
    return dataset


def _bit_flips(seed: int) -> str:
    """One bit flipped in every file of the study in turn: a declared outcome each, and nothing is moved in silence."""
    rng = np.random.default_rng(seed)
    files = list(good(seed))
    flipped = []
    for name, data in files:
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data) if rng.random() < 0.2 else 1600))] ^= 1 << int(rng.integers(8))
        flipped.append((name, bytes(damaged)))
    for item in examine_all([Entry(name, lambda data=data: data) for name, data in flipped]):  # type: ignore[misc]
        if item.verdict.state != STATES.get(item.verdict.code, item.verdict.state):
            return f"{item.verdict.code} {item.verdict.state}"
    for at in rng.choice(len(files), 3, replace=False):
        (outcome,) = outcomes_of([*files[:at], flipped[at], *files[at + 1 :]], seed)
        if isinstance(outcome, Study) and not codes_of(outcome):
            worst = max(misplaced_mm(stack) for stack in outcome.stacks)
            if not worst <= MOST_MISPLACED_MM:
                return f"a flip in {files[at][0]} moves a stack by {worst:.2f} mm in silence"
    return ""


CASES: tuple[Case, ...] = (
    Case("F-01", "empty file", lambda seed: beside(seed, b""), same("EMPTY")),
    Case("F-02", "text", lambda seed: beside(seed, b"lumbar spine\n" * 90), same("NOT_DICOM")),
    Case("F-02", "PNG", lambda seed: beside(seed, b"\x89PNG\r\n\x1a\n" + bytes(400)), same("NOT_DICOM")),
    Case("F-02", "PDF", lambda seed: beside(seed, b"%PDF-1.7\n" + bytes(400)), same("NOT_DICOM")),
    Case("F-03", "no preamble", lambda seed: all_bytes(seed, lambda data: data[132:]), same("NO_PREAMBLE")),
    Case("F-03", "no group 2 either", _bad(lambda data: data[_body(data) :]), same("NOT_DICOM")),
    *(
        Case(
            "F-04",
            f"preamble begins {magic!r}",
            lambda seed, magic=magic: all_bytes(seed, lambda data: magic + data[len(magic) :]),  # type: ignore[misc]
            same("PREAMBLE_EXECUTABLE"),
        )
        for magic in (b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\n")
    ),
    Case("F-05", "cut at 64 places before the pixels", _cuts, same("TRUNCATED")),
    Case("F-06", "cut inside an element's header", _header_cuts, same("TRUNCATED")),
    Case("F-07", "one byte of pixels short", _bad(lambda data: _shorter(data, 1)), same("PIXEL_LENGTH")),
    Case(
        "F-08",
        "half of the pixels short",
        lambda seed: in_place(seed, "sagT2/007", lambda data: _shorter(data, 10450)),
        read("PIXEL_LENGTH", *_GAP, changed=["sagT2"]),
    ),
    Case("F-09", "one byte of padding", lambda seed: changed(seed, _odd_matrix), read(changed=["sagT2"])),
    Case("F-09", "zeros behind", lambda seed: all_bytes(seed, _pixels_longer(bytes(64))), same("PIXEL_TRAILING")),
    Case("F-09", "values behind", _bad(_pixels_longer(b"\1" * 64)), same("PIXEL_LENGTH")),
    Case("F-10", "bytes appended", _bad(lambda data: data + b"\xff" * 1000), same("TRAILING_BYTES")),
    Case(
        "F-10",
        "padding element appended",
        lambda seed: all_bytes(seed, lambda data: data + element(0xFFFCFFFC, "OB", bytes(64))),
        same(),
    ),
    Case("F-11", "element longer than the file", _bad(_length(0x00F00000)), same("LENGTH_INVALID")),
    Case("F-11", "element of absurd length", _bad(_length(0xFFFFFFF0)), same("LENGTH_INVALID")),
    *(Case("F-12", f"sequences {depth} deep", _bad(_nested(depth)), same("DEPTH")) for depth in (17, 300, 5000)),
    Case("F-13", "200,000 elements", _bad(_many_elements), same("TOO_MANY_ELEMENTS"), costly=True),
    Case("F-13", "text of 65 MiB", _bad(_large_text), same("ELEMENT_TOO_LARGE"), costly=True),
    Case("F-14", "elements out of order", lambda seed: all_bytes(seed, _swapped), same("TAG_ORDER")),
    Case("F-14", "an element twice", _bad(_twice), same("TAG_DUPLICATE")),
    Case("F-15", "rows as a long", _bad(_rows_as_ul), same("VR_INVALID")),
    Case("F-15", "a short of three bytes", _bad(lambda d: value_replaced(d, "Rows", b"\x6e\0\0")), same("VR_INVALID")),
    Case("F-15", "text of odd length", _bad(lambda d: value_replaced(d, "PatientID", b"ABC")), same("VR_INVALID")),
    Case("F-16", "encoded otherwise than told", _implicit_body, same("SYNTAX_MISMATCH")),
    *(
        Case("F-17", f"syntax {name}", _bad(lambda d, value=value: with_syntax(d, value)), same("SYNTAX_UNKNOWN"))  # type: ignore[misc]
        for name, value in (("unknown", b"1.2.3.4.5.6"), ("private", b"1.3.46.670589.33"), ("absent", b""))
    ),
    Case(
        "F-18", "deflated bomb", lambda seed: beside(seed, deflated_bomb(256)), same("DECOMPRESSION_LIMIT"), costly=True
    ),
    Case("F-25", "script and control characters", lambda seed: changed(seed, _odd_text), same("TEXT_CONTROL")),
    Case("F-32", "one bit flipped", check=_bit_flips, outcome="a declared outcome each; nothing is moved in silence"),
)
