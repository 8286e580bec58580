"""The child process: the only place where bytes of unknown origin are parsed and decoded.

Reads objects from standard input and answers each with a JSON verdict and, unless the values stand in the object as they are, with
raw pixel bytes. Never reused for another study: decoders have been seen to hand out memory that another patient's pixels had
occupied. Started by dicom_io/forkserver.py; what it may do: dicom_io/confinement.py.
"""

from __future__ import annotations

import codecs
import json
import logging
import struct
import time
import warnings
import zlib
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import pydicom
import pydicom.config
from numpy.typing import NDArray
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_fragments
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder
from pydicom.uid import UID, RLELossless

from dicom_io.confinement import confine
from dicom_io.forkserver import IN, OUT
from dicom_io.header import Verdict
from dicom_io.header_reading import HeaderError, read_header
from dicom_io.structure import Structure, StructureError, StructureLimits, walk

REQUEST = struct.Struct("<Q")  # length of the object that follows
REPLY = struct.Struct("<IQB")  # length of the JSON verdict, of the pixel bytes, and whether this was the last answer
END = 0xFFFFFFFFFFFFFFFF
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_BITS = 8
_IMAGE_BEGINS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # JPEG and JPEG-LS; JPEG 2000
_IMAGE_ENDS = b"\xff\xd9"
_EXECUTABLE_PREAMBLES = (b"MZ", b"\x7fELF", b"#!")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_LOSSY = frozenset(
    {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91"}
    | {"1.2.840.10008.1.2.4.203"}
)
_PIXEL_DATA = 0x7FE00010
_WORD_BITS = 16
_KEPT_BITS = {8: "u1", 16: "u2", 32: "u4"}


class _RefusedError(Exception):
    def __init__(self, code: str, state: str = "refused") -> None:
        super().__init__(code)
        self.code = code
        self.state = state


class _ParentGoneError(Exception):
    """Standard input ended within a message."""


def load_character_sets() -> None:
    """Load every codec that a data set may name: later, nothing can be loaded any more."""
    for name in python_encoding.values():
        codecs.lookup(name)


def main(rules: Any = None) -> None:
    """Answer objects until the end mark, the CPU share of one child is used up, or the pipe closes.

    `rules`: the system calls that stay allowed (dicom_io/confinement.py).
    """
    stream = open(IN, "rb", closefd=False)  # noqa: SIM115 (descriptors, not paths)
    out = open(OUT, "wb", closefd=False)  # noqa: SIM115
    try:
        settings = json.loads(_exactly(stream, REQUEST.unpack(_exactly(stream, REQUEST.size))[0]))
        confine(settings["child"], rules)
        logging.disable(logging.CRITICAL)  # parser messages repeat header text
        warnings.simplefilter("ignore")
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
        _answer_all(stream, out, settings)
    except _ParentGoneError:
        return


def _answer_all(stream: BinaryIO, out: BinaryIO, settings: dict[str, Any]) -> None:
    study, last = settings.get("study"), False
    while not last:
        length = REQUEST.unpack(_exactly(stream, REQUEST.size))[0]
        if length == END:
            return
        verdict, pixels = examine(_exactly(stream, length), settings["object"], study)
        if verdict.header is not None and study is None:
            study = verdict.header.study_instance_uid
        message = json.dumps(verdict, default=vars, allow_nan=False).encode()
        last = time.process_time() > settings["cpu_share"]
        out.write(REPLY.pack(len(message), 0 if pixels is None else pixels.nbytes, last) + message)
        if pixels is not None:
            out.write(pixels.data.cast("B"))
        out.flush()


def examine(
    data: bytes, limits: dict[str, Any], study: str | None = None
) -> tuple[Verdict, NDArray[np.integer[Any]] | None]:
    """Verdict on one object, and its stored values (frames, rows, columns) when they are wanted, whole and not in `data` as they are.

    Pixels are decoded only for the study named (or for any, when None): objects of another study are answered with
    their header alone, to be handed to another child.
    """
    found: list[str] = []
    header = None
    try:
        meta, syntax, start = _file_meta(data, found)
        body, start = _inflate(data, start, syntax, limits)
        structure = _structure(body, start, syntax, limits)
        found += structure.warnings
        dataset = _parse(body, start, meta, syntax, structure)
        header = read_header(dataset, found, has_pixels=bool(structure.pixel_tags))
        if study is not None and header.study_instance_uid != study:
            return Verdict("accepted", warnings=tuple(found), header=header, other_study=True), None
        if syntax in _LOSSY:
            found.append("LOSSY")
        if not header.has_pixels:
            return Verdict("accepted", "", tuple(found), header), None
        pixels = _pixels(dataset, body, structure, syntax, limits, found)
    except (_RefusedError, HeaderError) as fault:
        return Verdict(fault.state, fault.code, tuple(found), header), None
    except StructureError as fault:
        return Verdict("refused" if fault.refused else "quarantined", fault.code, tuple(found), header), None
    except (MemoryError, RecursionError):
        return Verdict("refused", "LIMIT", tuple(found), header), None
    except Exception:  # every fault of a foreign parser must become a declared outcome
        return Verdict("quarantined", "INTERNAL", tuple(found), header), None
    if body is data and np.may_share_memory(pixels, np.frombuffer(data, np.uint8)):
        return Verdict(
            "accepted", "", tuple(found), header, pixels.dtype.str, pixel_offset=structure.pixel_offset
        ), None
    return Verdict("accepted", "", tuple(found), header, pixels.dtype.str), pixels


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise _ParentGoneError
    return data


def _file_meta(data: bytes, found: list[str]) -> tuple[FileMetaDataset, str, int]:
    """File meta information, transfer syntax UID and where the data set begins."""
    if not data:
        raise _RefusedError("EMPTY")
    if data[128:132] != b"DICM":
        if data[:4] != b"\x02\x00\x00\x00":
            raise _RefusedError("NOT_DICOM")
        found.append("NO_PREAMBLE")
    elif data.startswith(_EXECUTABLE_PREAMBLES):
        found.append("PREAMBLE_EXECUTABLE")
    stream = BytesIO(data)
    try:
        read_preamble(stream, force=True)
        meta = _read_file_meta_info(stream)
        syntax = str(meta.get("TransferSyntaxUID", "")).strip(" \0")
    except Exception as error:
        raise _RefusedError("TRUNCATED") from error
    if not syntax or not UID(syntax).is_transfer_syntax or UID(syntax).is_private:
        raise _RefusedError("SYNTAX_UNKNOWN", "quarantined")
    if stream.tell() >= len(data):
        raise _RefusedError("TRUNCATED")
    return meta, syntax, stream.tell()


def _inflate(data: bytes, start: int, syntax: str, limits: dict[str, Any]) -> tuple[bytes, int]:
    """The data set's plain bytes; a deflated one is inflated only as far as the limit allows."""
    if syntax != _DEFLATED:
        return data, start
    most = min(limits["max_bytes"], max(limits["inflate_floor_bytes"], limits["max_inflate_ratio"] * len(data)))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflater.decompress(data[start:], most)
    except zlib.error as error:
        raise _RefusedError("TRUNCATED") from error
    if inflater.unconsumed_tail:
        raise _RefusedError("DECOMPRESSION_LIMIT")
    if not inflater.eof:
        raise _RefusedError("TRUNCATED")
    return body, 0


def _structure(body: bytes, start: int, syntax: str, limits: dict[str, Any]) -> Structure:
    bounds = StructureLimits(limits["max_elements"], limits["max_element_bytes"], limits["max_depth"])
    return walk(body, start, implicit=syntax == _IMPLICIT, little=syntax != _BIG_ENDIAN, limits=bounds)


def _parse(body: bytes, start: int, meta: FileMetaDataset, syntax: str, structure: Structure) -> Dataset:
    """The data set as pydicom reads it; it must hold every element that stands in the bytes. Plain pixels stay where they are."""
    left_there = structure.pixel_length >= 0 and structure.tags[-1:] == [_PIXEL_DATA]
    stream = BytesIO(body)
    stream.seek(start)
    dataset = read_dataset(
        stream,
        is_implicit_VR=syntax == _IMPLICIT,
        is_little_endian=syntax != _BIG_ENDIAN,
        stop_when=(lambda tag, vr, length: tag == _PIXEL_DATA) if left_there else None,
    )
    expected = {tag for tag in structure.tags if tag & 0xFFFF and tag >> 16 != 0xFFFC}
    if left_there:
        expected -= structure.pixel_tags
    if not structure.tags or not expected <= {int(tag) for tag in dataset.keys()}:  # noqa: SIM118 (a Dataset iterates values)
        raise _RefusedError("TRUNCATED")
    dataset.file_meta = meta
    return dataset


def _integer(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """An unsigned value that decides how pixels are read; anything but one small integer is a fault."""
    value = dataset.get(keyword, default)
    if isinstance(value, MultiValue) or value is None or isinstance(value, bytes | float):
        raise _RefusedError("PIXEL_FORMAT", "quarantined")
    try:
        return int(str(value))
    except ValueError as error:
        raise _RefusedError("PIXEL_FORMAT", "quarantined") from error


def _pixels(
    dataset: Dataset, body: bytes, structure: Structure, syntax: str, limits: dict[str, Any], found: list[str]
) -> NDArray[np.integer[Any]]:
    """Stored values, masked to BitsStored and sign-extended: (frames, rows, columns), little endian; in `body` if they stand there so."""
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    frames, samples = _integer(dataset, "NumberOfFrames", 1) or 1, _integer(dataset, "SamplesPerPixel", 1)
    allocated, stored = _integer(dataset, "BitsAllocated"), _integer(dataset, "BitsStored")
    high, signed = _integer(dataset, "HighBit", stored - 1), _integer(dataset, "PixelRepresentation", 0)
    if not (0 < rows <= limits["max_rows_columns"] and 0 < columns <= limits["max_rows_columns"]):
        raise _RefusedError("DIMENSION_LIMIT")
    if not 0 < frames <= limits["max_frames"]:
        raise _RefusedError("DIMENSION_LIMIT")
    if samples != 1 or allocated not in _KEPT_BITS or not 0 < stored <= allocated or signed not in (0, 1):
        raise _RefusedError("COLOUR" if samples != 1 else "PIXEL_FORMAT", "quarantined")
    if not stored - 1 <= high < allocated:
        raise _RefusedError("PIXEL_FORMAT", "quarantined")
    size = rows * columns * frames * allocated // 8
    if size > limits["max_decoded_bytes"]:
        raise _RefusedError("DIMENSION_LIMIT")
    if structure.pixel_tags != {_PIXEL_DATA}:
        raise _RefusedError("PIXEL_FORMAT", "quarantined")
    if syntax == _JPEG_EXTENDED and stored > _JPEG_BITS:
        raise _RefusedError("JPEG_12_BITS", "quarantined")  # decoders disagree on it, or fail
    if structure.pixel_length >= 0:
        values = _native(body, structure, size, allocated, syntax != _BIG_ENDIAN, found)
        values = _masked(values, allocated, stored, high, bool(signed))
    else:
        _check_fragments(dataset.PixelData, frames, syntax)
        values = _compressed(dataset, syntax, size, allocated, bool(signed))
    return np.ascontiguousarray(values.reshape(frames, rows, columns))


def _native(
    body: bytes, structure: Structure, size: int, allocated: int, little: bool, found: list[str]
) -> NDArray[np.integer[Any]]:
    begin, length = structure.pixel_offset or 0, structure.pixel_length
    if length < size:
        raise _RefusedError("PIXEL_LENGTH", "quarantined")
    if length > size + size % 2:
        if any(memoryview(body)[begin + size : begin + length]):
            raise _RefusedError("PIXEL_LENGTH", "quarantined")
        found.append("PIXEL_TRAILING")
    if not little and allocated != _WORD_BITS and structure.pixel_vr == b"OW":
        raise _RefusedError(
            "PIXEL_FORMAT", "quarantined"
        )  # the order of bytes within and between words is not to be trusted
    kind = np.dtype(("<" if little else ">") + _KEPT_BITS[allocated])
    values = np.frombuffer(body, kind, count=size // kind.itemsize, offset=begin)
    return values.astype(kind.newbyteorder("<"), copy=False)


def _masked(
    values: NDArray[np.integer[Any]], allocated: int, stored: int, high: int, signed: bool
) -> NDArray[np.integer[Any]]:
    """Only the stored bits count (PS3.5 8.1.1): overlays once lived in the others. Values that need no change are not copied."""
    as_told = values.view(f"<i{allocated // 8}") if signed else values
    least, most = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    if high == stored - 1 and least <= int(as_told.min()) and int(as_told.max()) <= most:
        return as_told
    values = (values >> (high + 1 - stored)) & np.array((1 << stored) - 1, values.dtype)
    if not signed:
        return values
    spare = allocated - stored
    return (values << spare).view(f"<i{allocated // 8}") >> spare


def _check_fragments(encapsulated: bytes, frames: int, syntax: str) -> None:
    """Fragments that no frame accounts for are a fault: decoders pass over them in silence (PS3.5 A.4)."""
    fragments = list(generate_fragments(encapsulated))[1:]  # the first item is the offset table
    if len(fragments) <= frames:
        return
    begun = sum(fragment.startswith(_IMAGE_BEGINS) for fragment in fragments)
    whole = fragments[-1].rstrip(b"\0").endswith(_IMAGE_ENDS)
    if syntax == RLELossless or begun != frames or not whole:
        raise _RefusedError("DECODE", "quarantined")


def _compressed(dataset: Dataset, syntax: str, size: int, allocated: int, signed: bool) -> NDArray[np.integer[Any]]:
    try:
        decoded, _ = get_decoder(UID(syntax)).as_array(dataset, raw=True)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise _RefusedError("DECODE", "quarantined") from error
    kind = np.dtype(("<i" if signed else "<u") + str(allocated // 8))
    if decoded.size * kind.itemsize != size or decoded.dtype.kind != kind.kind:
        raise _RefusedError("DECODE", "quarantined")
    return decoded.astype(kind, copy=False)
