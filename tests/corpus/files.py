"""Files that are broken, odd or hostile (classes F): bytes, encodings, texts and archives."""

from __future__ import annotations

import os
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from unittest import mock

import numpy as np
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_io import read_outcomes
from dicom_io.intake import Entry
from dicom_io.isolation import examine_all
from dicom_io.study import Study
from tests.corpus.case import (
    MOST_MISPLACED_MM,
    STATES,
    Case,
    Expect,
    close,
    codes_of,
    good_study,
    outcomes_of,
    read,
    same,
    unreadable,
    written,
)
from tests.corpus.edit import (
    HTJ2K_WRITER,
    all_bytes,
    beside,
    compressed,
    eight_bits,
    element,
    encapsulated,
    extra,
    fragments_of,
    htj2k,
    in_place,
    jpeg,
    jpeg_lossless,
    value_replaced,
    where,
    with_syntax,
)
from tests.corpus.small_study import File, changed, datasets, encode, good
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


def huge(seed: int, syntax: str) -> bytes:
    """A small compressed object that claims 65535 rows and columns."""
    dataset = extra(seed)
    data = compressed(dataset, syntax)
    for keyword in ("Rows", "Columns"):
        data = value_replaced(data, keyword, b"\xff\xff")
    return data


def _in_syntax(syntax: str) -> Callable[[int], list[File]]:
    def make(seed: int) -> list[File]:
        out = []
        for name, dataset in datasets(seed):
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            packed = syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless)
            out.append((name, compressed(dataset, syntax) if packed else encode(dataset, syntax)))
        return out

    return make


def _lossy(syntax: str, **options: object) -> Callable[[int], list[File]]:
    return lambda seed: [(name, compressed(dataset, syntax, **options)) for name, dataset in datasets(seed)]


def _without_offsets(seed: int) -> list[File]:
    out = []
    for name, dataset in datasets(seed):
        data = compressed(dataset, RLELossless)
        at = where(data, "PixelData", "OB") + 12
        (length,) = struct.unpack_from("<I", data, at + 4)
        assert length == 4
        out.append((name, data[: at + 4] + b"\0\0\0\0" + data[at + 8 + length :]))
    return out


def _corrupt_fragment(seed: int) -> list[File]:
    bad = []
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        data = bytearray(compressed(extra(seed), syntax))
        at = where(bytes(data), "PixelData", "OB") + 12 + 12
        data[at + 8 : at + 72] = bytes(range(64))
        bad.append(bytes(data))
    return beside(seed, *bad)


def _extra_fragment(seed: int) -> list[File]:
    """A second picture in a fragment of its own where one frame is told, and bytes that are none."""
    bad = []
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        dataset = extra(seed)
        (only,) = fragments_of(compressed(dataset, syntax))
        for number, more in enumerate((only, bytes(range(1, 65)))):
            dataset.SOPInstanceUID = f"{extra(seed).SOPInstanceUID}.{len(bad)}.{number}"
            bad.append(encapsulated(dataset, syntax, [only, more]))
    return beside(seed, *bad)


def _in_fragments(seed: int) -> list[File]:
    """One frame in several fragments is the standard's own."""
    out = []
    for name, dataset in datasets(seed):
        (only,) = fragments_of(compressed(dataset, JPEG2000Lossless))
        middle = len(only) // 4 * 2
        out.append((name, encapsulated(dataset, JPEG2000Lossless, [only[:middle], only[middle:]])))
    return out


def _other_codestream(seed: int) -> list[File]:
    """JPEG 2000 under the name of JPEG-LS, and a codestream of other dimensions than the header's."""
    packed = compressed(extra(seed), JPEG2000Lossless)
    small = extra(seed)
    small.Rows, small.Columns = 64, 64
    small.PixelData = bytes(range(256)) * 32
    data = bytearray(compressed(small, JPEG2000Lossless))
    resized = value_replaced(value_replaced(bytes(data), "Rows", b"\x6e\x00"), "Columns", b"\x5f\x00")
    return beside(seed, with_syntax(packed, JPEGLSLossless.encode()), resized)


def _charset(label: str, name: str, encoding: str) -> Callable[[int], list[File]]:
    def change(_: str, dataset: Dataset) -> Dataset:
        dataset.SpecificCharacterSet = label.split("\\") if "\\" in label else label
        dataset.PatientName = name
        return dataset

    del encoding
    return lambda seed: changed(seed, change)


def _mislabelled(seed: int) -> list[File]:
    """Latin text under the name of UTF-8, in every other file: the same bytes, so the same person."""

    def change(name: str, dataset: Dataset) -> Dataset:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "Müller^Jörg"
        return dataset

    files = changed(seed, change)
    return [
        (name, value_replaced(data, "SpecificCharacterSet", b"ISO_IR 192") if number % 2 else data)
        for number, (name, data) in enumerate(files)
    ]


def _odd_text(name: str, dataset: Dataset) -> Dataset:
    dataset.SeriesDescription = "T1\n<script>alert(1)</script>../../x"
    return dataset


def _zip(
    entries: Callable[[int], list[tuple[str | zipfile.ZipInfo, bytes]]],
) -> Callable[[int], Callable[[Path], Path]]:
    def make(seed: int) -> Callable[[Path], Path]:
        def place(folder: Path) -> Path:
            path = folder / "study.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a name that is there twice
                for name, data in entries(seed):
                    archive.writestr(name, data)
            return path

        return place

    return make


def _special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def _zip_bytes(change: Callable[[bytes], bytes]) -> Callable[[int], Callable[[Path], Path]]:
    def make(seed: int) -> Callable[[Path], Path]:
        def place(folder: Path) -> Path:
            path = _zip(lambda s: list(good(s)))(seed)(folder)
            path.write_bytes(change(path.read_bytes()))
            return path

        return place

    return make


def _encrypted(data: bytes) -> bytes:
    """Every entry's flag says encrypted, in its own header and in the directory."""
    out = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = out.find(mark)
        while at >= 0:
            out[at + offset] |= 1
            at = out.find(mark, at + 4)
    return bytes(out)


def _broken_entry(data: bytes) -> bytes:
    """One entry whose packed bytes no longer give its checksum."""
    out = bytearray(data)
    at = data.index(b"PK\x03\x04") + 400
    out[at : at + 64] = bytes(64)
    return bytes(out)


def _odd_folder(seed: int) -> Callable[[Path], Path]:
    def place(folder: Path) -> Path:
        for name, data in good(seed):
            (folder / name.replace("/", "_")).write_bytes(data)
        outside = folder.parent / "outside.dcm"
        outside.write_bytes(good(seed + 1)[0][1])
        (folder / "link.dcm").symlink_to(outside)
        (folder / "loop").symlink_to(folder)
        os.mkfifo(folder / "pipe")
        return folder

    return place


def _dicomdir(reference: list[str]) -> Callable[[int], list[File]]:
    def make(seed: int) -> list[File]:
        record, directory = Dataset(), Dataset()
        record.OffsetOfTheNextDirectoryRecord, record.RecordInUseFlag = 0, 65535
        record.DirectoryRecordType = "IMAGE"
        record.add(DataElement(0x00041500, "CS", reference, validation_mode=IGNORE))
        directory.SOPClassUID = "1.2.840.10008.1.3.10"
        directory.SOPInstanceUID = "1.2.3.4.5"
        directory.FileSetID = "SET"
        directory.DirectoryRecordSequence = [record]
        data = encode(directory)
        at = data.index(b"\x08\x00\x16\x00UI", 132)  # a directory keeps its UIDs in the file meta information only
        return beside(seed, data[:at])

    return make


def _bomb_entries(seed: int) -> list[tuple[str | zipfile.ZipInfo, bytes]]:
    return [*good(seed), ("bomb", bytes(64 << 20))]


def _nested_zip(seed: int) -> list[tuple[str | zipfile.ZipInfo, bytes]]:
    """An archive in the archive."""
    inner = BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1 << 20))
    return [*good(seed), ("inner.zip", inner.getvalue())]


def _overlapping(seed: int) -> Callable[[Path], Path]:
    """Sixty entries that share the packed bytes of the last one; each gives out the headers of those behind it as its content."""

    def place(folder: Path) -> Path:
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        content = bytes(1 << 20)
        packed = packer.compress(content) + packer.flush()
        heads: list[tuple[bytes, bytes]] = []  # name and what stands about it in both kinds of header, first entry last
        local = b""
        for number in reversed(range(60)):
            if local:
                packed = b"\0" + struct.pack("<HH", len(local), ~len(local) & 0xFFFF) + local + packed
                content = local + content
            name = f"{seed}-{number:02d}".encode()
            sizes = struct.pack("<IIIHH", zlib.crc32(content), len(packed), len(content), len(name), 0)
            told = struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes
            local = b"PK\x03\x04" + told + name
            heads.append((name, told))
        directory, offset = b"", 0
        for name, told in reversed(heads):
            directory += b"PK\x01\x02" + struct.pack("<H", 20) + told + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name
            offset += len(local) + 5
        body = local + packed
        end = struct.pack("<HHHHIIH", 0, 0, len(heads), len(heads), len(directory), len(body), 0)
        path = folder / "study.zip"
        path.write_bytes(body + directory + b"PK\x05\x06" + end)
        return path

    return place


def _grows(seed: int) -> str:
    """A file that gets longer between the look at its size and the end of its reading."""
    with tempfile.TemporaryDirectory() as name:
        folder = written(good(seed), Path(name), seed)
        growing = folder / "still-copied"
        growing.write_bytes(encode(extra(seed)))
        opened = os.fdopen

        def grown(descriptor: int, mode: str) -> object:
            if os.fstat(descriptor).st_ino == growing.stat().st_ino:
                with growing.open("ab") as stream:
                    stream.write(b"more")
            return opened(descriptor, mode)

        with mock.patch("dicom_io.intake.os.fdopen", grown):
            (study,) = read_outcomes(folder)
    if not isinstance(study, Study) or study.manifest_sha256 != good_study(seed).manifest_sha256:
        return "the rest is not read alike"
    return "" if codes_of(study) == {"GROWING"} else f"tells {sorted(codes_of(study))}"


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
    *(
        Case(
            "F-19",
            f"65535 x 65535 as {syntax.name}",
            lambda seed, syntax=syntax: beside(seed, huge(seed, syntax)),  # type: ignore[misc]
            same("DIMENSION_LIMIT"),
        )
        for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless)
    ),
    *(
        Case("F-20", syntax.name, _in_syntax(syntax), same())
        for syntax in (
            *(RLELossless, JPEG2000Lossless, JPEGLSLossless),
            *(DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian),
        )
    ),
    Case(
        "F-20",
        "High-Throughput JPEG 2000",
        lambda seed: [(name, htj2k(dataset)) for name, dataset in datasets(seed)],
        same(),
        needs=HTJ2K_WRITER,
    ),
    Case("F-20", "JPEG Lossless", lambda seed: all_bytes(seed, jpeg_lossless), same()),
    Case("F-21", "JPEG-LS with loss", _lossy(JPEGLSNearLossless, jls_error=2), close("LOSSY")),
    Case("F-21", "JPEG 2000, ratio 10", _lossy(JPEG2000, j2k_cr=[10]), close("LOSSY")),
    Case(
        "F-21",
        "JPEG of eight bits",
        lambda seed: [(name, jpeg(eight_bits(dataset))) for name, dataset in datasets(seed)],
        close("LOSSY"),
    ),
    Case("F-21", "JPEG of twelve bits", lambda s: beside(s, jpeg(extra(s), JPEGExtended12Bit)), same("JPEG_12_BITS")),
    Case("F-22", "one frame in several fragments", _in_fragments, same()),
    Case("F-22", "extra fragment", _extra_fragment, same("DECODE")),
    Case("F-22", "no offset table", _without_offsets, same()),
    Case("F-22", "corrupt fragment", _corrupt_fragment, same("DECODE")),
    Case("F-23", "another codestream", _other_codestream, same("DECODE")),
    *(
        Case("F-24", f"characters {label}", _charset(label, name, label), same())
        for label, name in (
            ("ISO_IR 100", "Müller^Jörg"),
            ("ISO_IR 192", "Иванов^Иван"),
            ("ISO_IR 144", "Иванов^Иван"),
            ("GB18030", "王^小东"),
            ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎"),
        )
    ),
    Case("F-24", "wrong label on the same bytes", _mislabelled, same("CHARSET")),
    Case("F-25", "script and control characters", lambda seed: changed(seed, _odd_text), same("TEXT_CONTROL")),
    *(
        Case(
            "F-26",
            f"zip with {name!r}",
            _zip(lambda seed, name=name: [*good(seed), (name, b"x")]),
            unreadable("ARCHIVE_UNSAFE"),
        )  # type: ignore[misc]
        for name in ("../x", "/etc/x", "C:\\x", "a/../../x")
    ),
    Case(
        "F-26",
        "zip with a link",
        _zip(lambda seed: [*good(seed), (_special("l", 0o120777), b"/etc/passwd")]),
        unreadable("ARCHIVE_UNSAFE"),
    ),
    Case(
        "F-26",
        "zip with a device",
        _zip(lambda seed: [*good(seed), (_special("d", 0o020666), b"")]),
        unreadable("ARCHIVE_UNSAFE"),
    ),
    Case(
        "F-26",
        "zip with a name twice",
        _zip(lambda seed: [*good(seed), good(seed)[0]]),
        unreadable("ARCHIVE_UNSAFE"),
    ),
    Case("F-27", "zip bomb", _zip(_bomb_entries), unreadable("ARCHIVE_LIMIT"), costly=True),
    Case("F-27", "overlapping entries", _overlapping, unreadable("ARCHIVE_LIMIT")),
    Case("F-27", "archive in the archive", _zip(_nested_zip), same("ARCHIVE_LIMIT")),
    Case("F-28", "zip cut", _zip_bytes(lambda data: data[:-40]), unreadable("ARCHIVE_INVALID")),
    Case("F-28", "zip encrypted", _zip_bytes(_encrypted), unreadable("ARCHIVE_INVALID")),
    Case(
        "F-28",
        "one entry damaged",
        _zip_bytes(_broken_entry),
        Expect(codes=frozenset({"ARCHIVE_INVALID"}), changed=("axT2", "sagT1", "sagT2")),
    ),
    Case("F-29", "links, loops and pipes in the folder", _odd_folder, same("NOT_REGULAR")),
    Case("F-30", "file that is still growing", check=_grows, outcome="left out with GROWING; the rest is read alike"),
    Case("F-32", "one bit flipped", check=_bit_flips, outcome="a declared outcome each; nothing is moved in silence"),
    Case("F-31", "directory file", _dicomdir(["IMAGES", "IM1"]), same("DICOMDIR")),
    Case("F-31", "directory that points outside", _dicomdir(["..", "..", "etc", "passwd"]), same("DICOMDIR_PATH")),
)
