"""Compressed pixels and character sets, right, wrong and broken (classes F-19 to F-24)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
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

from tests.corpus.case import (
    Case,
    close,
    same,
)
from tests.corpus.edit import (
    HTJ2K_WRITER,
    all_bytes,
    beside,
    compressed,
    eight_bits,
    encapsulated,
    extra,
    fragments_of,
    htj2k,
    jpeg,
    jpeg_lossless,
    value_replaced,
    where,
    with_syntax,
)
from tests.corpus.small_study import File, changed, datasets, encode


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


CASES: tuple[Case, ...] = (
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
)
