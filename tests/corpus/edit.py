"""Small changes to files of the good study, byte by byte where a library would put things right."""

from __future__ import annotations

import copy
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.tag import BaseTag
from pydicom.uid import HTJ2KLossless, JPEGBaseline8Bit

from tests.corpus.small_study import File, datasets, encode, good

HTJ2K_WRITER = "ojph_compress"  # Debian: openjph-tools
LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})


def beside(seed: int, *bad: bytes) -> list[File]:
    """The good study with more files that are no part of it."""
    return [*good(seed), *((f"extra/{number}", data) for number, data in enumerate(bad))]


def extra(seed: int) -> Dataset:
    """One more MR slice of the study, in a series of its own, to be broken."""
    dataset = copy.deepcopy(dict(datasets(seed))["sagT2/007"])
    dataset.SOPInstanceUID += ".50"
    dataset.SeriesInstanceUID += ".50"
    return dataset


def in_place(seed: int, name: str, change: Callable[[bytes], bytes]) -> list[File]:
    """The good study with the bytes of one file changed."""
    return [(each, change(data) if each == name else data) for each, data in good(seed)]


def all_bytes(seed: int, change: Callable[[bytes], bytes], prefix: str = "") -> list[File]:
    """The good study with the bytes of every file changed whose name begins with `prefix`."""
    return [(name, change(data) if name.startswith(prefix) else data) for name, data in good(seed)]


def header_of(keyword: str, vr: str = "") -> bytes:
    """Tag and VR of an attribute as they stand in explicit little endian."""
    tag = BaseTag(tag_for_keyword(keyword) or 0)
    return struct.pack("<HH", tag.group, tag.element) + (vr or dictionary_VR(tag)[:2]).encode()


def where(data: bytes, keyword: str, vr: str = "") -> int:
    """Offset of an attribute's first byte (explicit little endian)."""
    if keyword == "PixelData":
        return data.index(header_of(keyword, vr or "OW"), 132)
    return data.index(header_of(keyword, vr), 132 if len(data) > 132 else 0)


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element in explicit little endian, whatever its value."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    return head + (b"\0\0" + struct.pack("<I", len(value)) if vr in LONG else struct.pack("<H", len(value))) + value


def value_replaced(data: bytes, keyword: str, value: bytes, vr: str = "") -> bytes:
    """The file with the value of one short attribute replaced as it is, its length put right."""
    at = where(data, keyword, vr)
    (length,) = struct.unpack_from("<H", data, at + 6)
    return data[: at + 6] + struct.pack("<H", len(value)) + value + data[at + 8 + length :]


def with_syntax(data: bytes, syntax: bytes) -> bytes:
    """The file claiming another transfer syntax (of no more characters than its own)."""
    at = data.index(b"\x02\x00\x10\x00UI")
    (length,) = struct.unpack_from("<H", data, at + 6)
    assert len(syntax) <= length
    return data[: at + 8] + syntax.ljust(length, b"\0") + data[at + 8 + length :]


def compressed(dataset: Dataset, syntax: str, **options: object) -> bytes:
    """The data set packed into another transfer syntax."""
    reread = dcmread(BytesIO(encode(dataset)))
    reread.compress(syntax, generate_instance_uid=False, **options)
    buffer = BytesIO()
    reread.save_as(buffer)
    return buffer.getvalue()


def jpeg_lossless(data: bytes) -> bytes:
    """The file as JPEG Lossless, process 14, selection value 1 (written by GDCM)."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.write_bytes(data)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(source))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


def encapsulated(dataset: Dataset, syntax: str, fragments: Sequence[bytes]) -> bytes:
    """The data set as a file whose pixel data are these fragments, without an offset table."""
    dataset = copy.deepcopy(dataset)
    padded = [fragment + b"\0" * (len(fragment) % 2) for fragment in fragments]
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(fragment)) + fragment for fragment in (b"", *padded))
    dataset.PixelData = items
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return encode(dataset, syntax)


def fragments_of(data: bytes) -> list[bytes]:
    """The fragments of a file's compressed pixel data, offset table left out."""
    return list(generate_fragments(dcmread(BytesIO(data)).PixelData))[1:]


def htj2k(dataset: Dataset) -> bytes:
    """The data set as lossless High-Throughput JPEG 2000, written by OpenJPH's own program."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.pgm"), Path(folder, "out.j2c")
        values = np.frombuffer(dataset.PixelData, "<u2")
        source.write_bytes(
            f"P5 {dataset.Columns} {dataset.Rows} {(1 << dataset.BitsStored) - 1}\n".encode()
            + values.astype(">u2").tobytes()
        )
        command = [HTJ2K_WRITER, "-i", str(source), "-o", str(target), "-reversible", "true"]
        subprocess.run(command, check=True, capture_output=True)
        return encapsulated(dataset, HTJ2KLossless, [target.read_bytes()])


def jpeg(dataset: Dataset, syntax: str = JPEGBaseline8Bit, quality: int = 95) -> bytes:
    """The data set as an eight-bit JPEG with loss."""
    plane = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
    stream = BytesIO()
    Image.fromarray((plane // 8).clip(0, 255).astype("u1")).save(stream, "jpeg", quality=quality)
    return encapsulated(dataset, syntax, [stream.getvalue()])


def eight_bits(dataset: Dataset) -> Dataset:
    """The same data set whose header says eight bits."""
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    return dataset
