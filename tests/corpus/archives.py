"""Archives, folders and directory files that are hostile, damaged or still growing (classes F-26 to F-31)."""

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

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_io import read_outcomes
from dicom_io.study import Study
from tests.corpus.case import (
    Case,
    Expect,
    codes_of,
    good_study,
    same,
    unreadable,
    written,
)
from tests.corpus.edit import (
    beside,
    extra,
)
from tests.corpus.small_study import File, encode, good


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


CASES: tuple[Case, ...] = (
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
    Case("F-31", "directory file", _dicomdir(["IMAGES", "IM1"]), same("DICOMDIR")),
    Case("F-31", "directory that points outside", _dicomdir(["..", "..", "etc", "passwd"]), same("DICOMDIR_PATH")),
)
