"""What the stored numbers mean (classes P): scaling, bits, padding, colour, derived and clipped pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from tests.corpus.case import Case, close, read, same
from tests.corpus.edit import beside, extra, value_replaced
from tests.corpus.small_study import File, changed, encode

Pixels = np.ndarray


def _values(dataset: Dataset) -> Pixels:
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns).astype(np.int64)


def _each(change: Callable[[Dataset, Pixels, int], None], prefix: str = "") -> Callable[[int], list[File]]:
    """`change(dataset, values, number of the slice)` on the objects whose name begins with `prefix`."""

    def apply(name: str, dataset: Dataset) -> Dataset:
        if name.startswith(prefix):
            change(dataset, _values(dataset), int(name[-3:]))
        return dataset

    return lambda seed: changed(seed, apply)


def _monochrome1(dataset: Dataset, values: Pixels, _: int) -> None:
    dataset.PixelData = (4095 - values).astype("<u2").tobytes()
    dataset.PhotometricInterpretation = "MONOCHROME1"


def _signed(dataset: Dataset, values: Pixels, _: int) -> None:
    dataset.PixelData = (values - 1024).astype("<i2").tobytes()
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 16, 15
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "1024"


def _slope_by_slice(dataset: Dataset, values: Pixels, number: int) -> None:
    slope = 1 + number % 3
    dataset.PixelData = np.round(values / slope).astype("<u2").tobytes()
    dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), "0"


def _rescale(slope: str) -> Callable[[int], list[File]]:
    def make(seed: int) -> list[File]:
        def change(name: str, dataset: Dataset) -> Dataset:
            if name.startswith("axT2"):
                dataset.RescaleSlope, dataset.RescaleIntercept = "1.00", "0"
            return dataset

        value = slope.encode() + b" " * (len(slope) % 2)
        return [
            (name, value_replaced(data, "RescaleSlope", value) if name.startswith("axT2") else data)
            for name, data in changed(seed, change)
        ]

    return make


def _high_bit(dataset: Dataset, values: Pixels, _: int) -> None:
    dataset.PixelData = (values << 4).astype("<u2").tobytes()
    dataset.HighBit = 15


def _overlay_bits(dataset: Dataset, values: Pixels, _: int) -> None:
    values = values.copy()
    values[::7] |= 0x8000
    dataset.PixelData = values.astype("<u2").tobytes()


def _sixteen(dataset: Dataset, values: Pixels, _: int) -> None:
    dataset.BitsStored, dataset.HighBit = 16, 15


def _eight(dataset: Dataset, values: Pixels, _: int) -> None:
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    data = (values // 8).clip(0, 255).astype("u1").tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"


def _header(**values: Any) -> Callable[[int], list[File]]:
    """One more object with attributes that do not fit its pixels."""

    def make(seed: int) -> list[File]:
        dataset = extra(seed)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        return beside(seed, encode(dataset))

    return make


def _series(prefix: str, **values: Any) -> Callable[[int], list[File]]:
    def change(name: str, dataset: Dataset) -> Dataset:
        if name.startswith(prefix):
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
        return dataset

    return lambda seed: changed(seed, change)


def _fill(value: int) -> Callable[[Dataset, Pixels, int], None]:
    def change(dataset: Dataset, values: Pixels, _: int) -> None:
        dataset.PixelData = np.full_like(values, value).astype("<u2").tobytes()

    return change


def _clipped(dataset: Dataset, values: Pixels, _: int) -> None:
    dataset.PixelData = np.minimum(values, 150).astype("<u2").tobytes()


def _clipped_at_its_own(dataset: Dataset, values: Pixels, _: int) -> None:
    dataset.PixelData = np.minimum(values, int(np.percentile(values, 60))).astype("<u2").tobytes()


def _inverted_and_clipped(dataset: Dataset, values: Pixels, number: int) -> None:
    _monochrome1(dataset, np.minimum(values, 150), number)


def _brighter(dataset: Dataset, values: Pixels, _: int) -> None:
    dataset.PixelData = np.minimum(values * 2, 4095).astype("<u2").tobytes()


def _gained(gain: float) -> Callable[[Dataset, Pixels, int], None]:
    def change(dataset: Dataset, values: Pixels, _: int) -> None:
        dataset.PixelData = np.round(values * gain).clip(0, 4095).astype("<u2").tobytes()

    return change


def _shaded(dataset: Dataset, values: Pixels, _: int) -> None:
    """A receive field that falls off by a fifth to either side."""
    field = 1 + 0.2 * np.linspace(-1, 1, values.shape[1])
    dataset.PixelData = np.round(values * field).clip(0, 4095).astype("<u2").tobytes()


def _padded(dataset: Dataset, values: Pixels, _: int) -> None:
    values = values.copy()
    values[:6], values[-6:] = 4000, 4000
    dataset.PixelData = values.astype("<u2").tobytes()
    dataset.PixelPaddingValue = 4000


def _colour(seed: int) -> list[File]:
    out = []
    for photometric in ("RGB", "YBR_FULL"):
        dataset = extra(seed)
        dataset.SOPInstanceUID += f".{len(out)}"
        grey = (_values(dataset) // 8).clip(0, 255).astype("u1")
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, photometric, 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        data = np.stack([grey] * 3, axis=-1).tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        dataset["PixelData"].VR = "OB"
        out.append(encode(dataset))
    palette = extra(seed)
    palette.SOPInstanceUID += ".9"
    palette.PhotometricInterpretation = "PALETTE COLOR"
    return beside(seed, *out, encode(palette))


def _text(dataset: Dataset, values: Pixels, _: int) -> None:
    """The letters H and E, two pixels wide, brighter than all else."""
    values = values.copy()
    for left in (10, 26, 42):
        values[8:24, left : left + 2] = values[8:24, left + 8 : left + 10] = 1200
        values[15:17, left : left + 10] = 1200
    dataset.PixelData = values.astype("<u2").tobytes()


def _graphics(dataset: Dataset, values: Pixels, _: int) -> None:
    bits = np.zeros(values.size // 8 + 2, "u1")
    bits[40:60] = 255
    dataset.add_new(0x60000010, "US", int(dataset.Rows))
    dataset.add_new(0x60000011, "US", int(dataset.Columns))
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", bits[: bits.size // 2 * 2].tobytes())


_DERIVED = (
    ["DERIVED", "SECONDARY", "REFORMATTED"],
    ["DERIVED", "PRIMARY", "MPR"],
    ["DERIVED", "PRIMARY", "PROJECTION IMAGE"],
    ["DERIVED", "SECONDARY", "SUBTRACTION"],
)

CASES: tuple[Case, ...] = (
    Case("P-01", "MONOCHROME1", _each(_monochrome1), close()),
    Case("P-02", "signed with intercept", _each(_signed), same()),
    Case("P-02", "slope by slice", _each(_slope_by_slice), close()),
    *(
        Case("P-03", f"slope {slope}", _rescale(slope), read("RESCALE_INVALID", changed=["axT2"]))
        for slope in ("0", "NaN", "1e30")
    ),
    Case("P-04", "sixteen bits stored", _each(_sixteen), same()),
    Case("P-04", "eight bits", _each(_eight), close()),
    Case("P-04", "high bit shifted", _each(_high_bit), same()),
    Case("P-04", "overlay in the spare bits", _each(_overlay_bits), same()),
    Case("P-05", "more bits stored than allocated", _header(BitsStored=20, HighBit=19), same("PIXEL_FORMAT")),
    Case("P-05", "high bit below the stored ones", _header(HighBit=5), same("PIXEL_FORMAT")),
    Case("P-06", "all zero", _each(_fill(0), "axT2"), read("BLANK", changed=["axT2"])),
    Case("P-06", "all one value", _each(_fill(77), "axT2"), read("BLANK", changed=["axT2"])),
    Case("P-06", "one slice zero", _each(_fill(0), "sagT2/007"), read("BLANK", "SLICE_MISSING", changed=["sagT2"])),
    Case("P-07", "clipped", _each(_clipped, "axT2"), read("SATURATED", changed=["axT2"])),
    Case(
        "P-07",
        "every picture clipped at a value of its own",
        _each(_clipped_at_its_own, "axT2"),
        read("SATURATED", changed=["axT2"]),
    ),
    Case("P-07", "MONOCHROME1 and clipped", _each(_inverted_and_clipped, "axT2"), read("SATURATED", changed=["axT2"])),
    Case(
        "P-07",
        "one picture clipped",
        _each(_clipped_at_its_own, "sagT2/007"),
        read("SATURATED", "SLICE_MISSING", changed=["sagT2"]),
    ),
    *(
        Case("P-08", f"{name} by a fifth", _each(_gained(gain)), close())
        for name, gain in (("brighter", 1.2), ("darker", 0.8))
    ),
    Case("P-08", "twice as bright", _each(_brighter), close()),
    Case("P-08", "uneven field", _each(_shaded), close()),
    Case("P-09", "padding value", _each(_padded), close()),
    Case("P-10", "colour and palette", _colour, same("COLOUR")),
    *(
        Case("P-11", " ".join(kind), _series("axT2", ImageType=kind), read("DERIVED", changed=["axT2"]))
        for kind in _DERIVED
    ),
    Case(
        "P-11",
        "secondary capture",
        _header(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", ConversionType="WSD"),
        same("DERIVED"),
    ),
    Case(
        "P-12",
        "mosaic",
        _series("axT2", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]),
        read("MOSAIC", changed=["axT2"]),
    ),
    Case("P-16", "letters over the picture", _each(_text, "sagT2"), read("BURNED_IN", changed=["sagT2"])),
    Case("P-16", "graphics overlay", _each(_graphics), same("BURNED_IN")),
    Case("P-18", "half the rows told", _header(Rows=55), same("PIXEL_LENGTH")),
    Case("P-18", "two frames told", _header(NumberOfFrames=2), same("PIXEL_LENGTH")),
)
