"""The inputs of the comparison: each row of known failures, and what headers or bytes decide, over the sphere phantom."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.corpus.edit import compressed, value_replaced, where
from tests.corpus.small_study import encode
from tests.differential.phantom import Plan, axial, encoded, sagittal, series, turned

Files = list[bytes]


@dataclass(frozen=True)
class Input:
    """One input; `planes`: both planes are there and may be compared with each other."""

    id: str
    name: str
    make: Callable[[int], Files]
    planes: bool = False


def _each(change: Callable[[Dataset, int], None], plan: Plan | None = None) -> Callable[[int], Files]:
    def make(seed: int) -> Files:
        datasets = series(plan or axial(), seed)
        for number, dataset in enumerate(datasets):
            change(dataset, number)
        return encoded(datasets)

    return make


def _set(plan: Plan | None = None, **values: object) -> Callable[[int], Files]:
    def change(dataset: Dataset, number: int) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return _each(change, plan)


def _plan(plan: Plan) -> Callable[[int], Files]:
    return lambda seed: encoded(series(plan, seed))


def _bytes(change: Callable[[bytes, int], bytes | None]) -> Callable[[int], Files]:
    def make(seed: int) -> Files:
        made = [change(data, number) for number, data in enumerate(encoded(series(axial(), seed)))]
        return [data for data in made if data is not None]

    return make


def _text(keyword: str, text: bytes, only: int | None = None) -> Callable[[int], Files]:
    value = text + b" " * (len(text) % 2)
    return _bytes(lambda d, n: value_replaced(d, keyword, value) if only in (None, n) else d)


def _localizer(seed: int, uid: str) -> Files:
    scout = replace(sagittal(), positions=sagittal().positions[::5], step=20.0, shape=(100, 80), spacing=(1.1, 1.1))
    datasets = series(scout, seed, number=9)
    for dataset in datasets:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        if uid == "same":
            dataset.SeriesInstanceUID = dataset.StudyInstanceUID + ".1"
    return [*encoded(series(axial(), seed)), *encoded(datasets)]


def _two(seed: int, *, interleaved: bool) -> Files:
    """Two patients: slice by slice under one UID, or two studies in one folder."""
    first, second = series(axial(), seed), series(axial(), seed + (0 if interleaved else 50), patient="B")
    for dataset in second:
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") + 13).astype("<u2").tobytes()
    if interleaved:
        return encoded([two if n % 2 else one for n, (one, two) in enumerate(zip(first, second, strict=True))])
    return [*encoded(first), *encoded(second)]


def _blocks(plans: list[Plan], **differences: list[object]) -> Callable[[int], Files]:
    """Several plans in one series, told apart by attributes."""

    def make(seed: int) -> Files:
        out = []
        for number, plan in enumerate(plans):
            for dataset in series(plan, seed):
                dataset.SOPInstanceUID += f".{number}"
                dataset.InstanceNumber += 100 * number
                for keyword, values in differences.items():
                    setattr(dataset, keyword, values[number])
                out.append(dataset)
        return encoded(out)

    return make


def _negated(dataset: Dataset, number: int) -> None:
    """The header has x the wrong way round, in the position and in the direction of the rows."""
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [-x, y, z]
    dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def _mirrored(dataset: Dataset, number: int) -> None:
    values = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
    dataset.PixelData = np.ascontiguousarray(values[:, ::-1]).tobytes()


def _inverted(dataset: Dataset, number: int) -> None:
    dataset.PixelData = (1500 - np.frombuffer(dataset.PixelData, "<u2").astype(int)).astype("<u2").tobytes()
    dataset.PhotometricInterpretation = "MONOCHROME1"


def _slopes(dataset: Dataset, number: int) -> None:
    slope = 1 + number % 2
    values = np.frombuffer(dataset.PixelData, "<u2") // slope
    dataset.PixelData = values.astype("<u2").tobytes()
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, 0


def _signed(dataset: Dataset, number: int) -> None:
    values = np.frombuffer(dataset.PixelData, "<u2").astype(int) - 700
    dataset.PixelData = values.astype("<i2").tobytes()
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 16, 15
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 700


def _shifted_bits(dataset: Dataset, number: int) -> None:
    dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") << 4).astype("<u2").tobytes()
    dataset.HighBit = 15


def _overlay_bits(dataset: Dataset, number: int) -> None:
    values = np.frombuffer(dataset.PixelData, "<u2").copy()
    values[::9] |= 0x8000
    dataset.PixelData = values.tobytes()


def _blank(dataset: Dataset, number: int) -> None:
    if number == 9:
        dataset.PixelData = bytes(len(dataset.PixelData))


def _rounded(dataset: Dataset, number: int) -> None:
    dataset.ImageOrientationPatient = [round(float(v), 4) for v in dataset.ImageOrientationPatient]


def _other_frame(dataset: Dataset, number: int) -> None:
    if number > 10:
        dataset.FrameOfReferenceUID += ".1"
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 6.4, y, z]


def _other_matrix(dataset: Dataset, number: int) -> None:
    if number == 9:
        dataset.Rows = 100
        dataset.PixelData = dataset.PixelData[: 100 * 112 * 2]


def _permuted(dataset: Dataset, number: int) -> None:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, z + (number * number % 7) * 0.6]


def _enhanced(seed: int) -> Files:
    slices = series(axial(), seed)
    out = copy.deepcopy(slices[0])
    out.SOPClassUID, out.NumberOfFrames = EnhancedMRImageStorage, len(slices)
    out.PixelData = b"".join(dataset.PixelData for dataset in slices)
    shared, measures, echo, timing, transform = (Dataset() for _ in range(5))
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, slices[0].SliceThickness
    echo.EffectiveEchoTime, timing.RepetitionTime = slices[0].EchoTime, slices[0].RepetitionTime
    transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 1, 0, "US"
    shared.PixelMeasuresSequence, shared.MREchoSequence = [measures], [echo]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    shared.PixelValueTransformationSequence = [transform]
    out.SharedFunctionalGroupsSequence = [shared]
    out.PerFrameFunctionalGroupsSequence = []
    for dataset in slices:
        group, place, turn = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = dataset.ImagePositionPatient
        turn.ImageOrientationPatient = dataset.ImageOrientationPatient
        group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [turn]
        out.PerFrameFunctionalGroupsSequence.append(group)
    for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "EchoTime", "RepetitionTime"):
        delattr(out, keyword)
    return [encode(out)]


def _packed(syntax: str) -> Callable[[int], Files]:
    def make(seed: int) -> Files:
        out = []
        for dataset in series(axial(), seed):
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            packed = syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless)
            out.append(compressed(dataset, syntax) if packed else encode(dataset, syntax))
        return out

    return make


def _half(data: bytes, number: int) -> bytes:
    return data[: len(data) - 112 * 112] if number == 9 else data


def _twice(data: bytes, number: int) -> bytes:
    at = where(data, "PatientID")
    (length,) = struct.unpack_from("<H", data, at + 6)
    return data[:at] + data[at : at + 8 + length] + data[at:] if number == 9 else data


def _absurd(data: bytes, number: int) -> bytes:
    at = where(data, "PixelData")
    return data[:at] + b"\x91\x00\x10\x00OB\0\0\xf0\xff\xff\xff1234" + data[at:] if number == 9 else data


def _both(change: Callable[[Dataset, int], None], plan: Plan | None = None) -> Callable[[int], Files]:
    """The changed axial series beside a good sagittal one."""

    def make(seed: int) -> Files:
        return [*_each(change, plan)(seed), *encoded(series(sagittal(), seed, number=2))]

    return make


def _swap_spacing(dataset: Dataset, number: int) -> None:
    dataset.PixelSpacing = list(reversed(dataset.PixelSpacing))


_OBLONG = replace(axial(), shape=(170, 140), spacing=(0.6, 1.0))
_DRIFTED = replace(
    axial(), positions=tuple(p + np.array([1.5 * (n - 10), 0, 0]) for n, p in enumerate(axial().positions))
)
_TILTED = [
    replace(turned(axial(5, first=-9.0 + shift), tilt, 0), step=4.5) for tilt, shift in ((-20, -27), (0, 0), (15, 27))
]
_GAPPED = [axial(8, -45.0), axial(8, 13.5)]
_OVERLAP = [axial(12, -45.0), axial(10, -43.5)]

INPUTS: tuple[Input, ...] = (
    Input("good", "axial", _plan(axial())),
    Input("good", "sagittal", _plan(sagittal())),
    Input("good", "oblique", _plan(turned(axial(), 25, 0))),
    Input("good", "double oblique", _plan(turned(turned(axial(), 20, 0), 12, 1))),
    Input("G-17", "pixels that are not square", _plan(_OBLONG)),
    Input("G-16", "spacing between slices contradicts", _set(SpacingBetweenSlices=7.0)),
    Input("P-02", "slope by slice", _each(_slopes)),
    Input("P-02", "signed with intercept", _each(_signed)),
    Input("G-20", "feet first", _set(PatientPosition="FFS")),
    Input("F-20", "implicit little endian", _packed(ImplicitVRLittleEndian)),
    Input("E03", "localizer with its own series UID", lambda seed: _localizer(seed, "own")),
    Input("E04", "localizer within the series", lambda seed: _localizer(seed, "same")),
    Input("E05", "no pixel spacing", _set(PixelSpacing=None)),
    Input("E16", "imager pixel spacing only", _set(PixelSpacing=None, ImagerPixelSpacing=[0.8, 0.8])),
    Input("E06", "second slice missing", _bytes(lambda d, n: None if n == 1 else d)),
    Input("G-01", "middle slice missing", _bytes(lambda d, n: None if n == 9 else d)),
    Input("E07", "one file twice", lambda seed: (lambda f: [*f, f[9]])(encoded(series(axial(), seed)))),
    Input("E09c", "instance numbers shuffled", _each(lambda d, n: setattr(d, "InstanceNumber", n * 8 % 21 + 1))),
    Input("E09d", "instance numbers all one", _set(InstanceNumber=1)),
    Input("G-14", "no instance numbers", _set(InstanceNumber=None)),
    Input("E11", "two patients slice by slice", lambda seed: _two(seed, interleaved=True)),
    Input("E12", "two patients in one folder", lambda seed: _two(seed, interleaved=False)),
    Input("E14", "three angled blocks", _blocks(_TILTED)),
    Input("E15", "two parallel blocks, gap", _blocks(_GAPPED)),
    Input("G-13", "two overlapping blocks", _blocks(_OVERLAP)),
    Input("E18", "oblong pixels, spacing exchanged", _both(_swap_spacing, _OBLONG), planes=True),
    Input("E19", "no position", _set(ImagePositionPatient=None)),
    Input("E20", "sagittal without orientation", _set(sagittal(), ImageOrientationPatient=None)),
    Input("E22", "orientation not orthogonal", _set(ImageOrientationPatient=[1, 0, 0, 0.2, 0.98, 0])),
    Input("E23", "slices drift in their plane", _plan(_DRIFTED)),
    Input("E24", "MONOCHROME1", _each(_inverted)),
    Input("E27", "pixels mirrored", _both(_mirrored), planes=True),
    Input("E46", "x negated in the header", _both(_negated), planes=True),
    Input("E29", "enhanced multi-frame", _enhanced),
    Input("E34", "two time points", _blocks([axial(), axial()], TemporalPositionIdentifier=[1, 2])),
    Input("E34b", "two echoes", _blocks([axial(), axial()], EchoTime=[100.0, 20.0])),
    Input("E39", "frame of reference changes", _each(_other_frame)),
    Input("E42", "half the pixels of a slice", _bytes(_half)),
    Input("E45", "one position for all", _set(ImagePositionPatient=[-44.8, -44.8, 0])),
    Input("E50", "decimal comma", _text("PixelSpacing", b"0,8\\0,8")),
    Input("E55", "one SOP UID for all", _set(SOPInstanceUID="1.2.3.4")),
    Input("E56", "axial and sagittal in one series", _blocks([axial(), sagittal()])),
    Input("E57", "last three slices never sent", _bytes(lambda d, n: None if n > 17 else d)),
    Input("F-07", "one byte of pixels short", _bytes(lambda d, n: d[:-1] if n == 9 else d)),
    Input("F-05", "cut before the pixels", _bytes(lambda d, n: d[:700] if n == 9 else d)),
    Input("F-10", "bytes appended", _bytes(lambda d, n: d + b"\xff" * 1000 if n == 9 else d)),
    Input("F-11", "element of absurd length", _bytes(_absurd)),
    Input("F-14", "patient ID twice", _bytes(_twice)),
    Input("F-03", "no preamble", _bytes(lambda d, n: d[132:])),
    Input("F-20", "run lengths", _packed(RLELossless)),
    Input("F-20", "JPEG 2000", _packed(JPEG2000Lossless)),
    Input("F-20", "JPEG-LS", _packed(JPEGLSLossless)),
    Input("F-20", "big endian", _packed(ExplicitVRBigEndian)),
    Input("F-20", "deflated", _packed(DeflatedExplicitVRLittleEndian)),
    Input("G-06", "pixel spacing zero", _text("PixelSpacing", b"0\\0")),
    Input("G-06", "pixel spacing negative", _text("PixelSpacing", b"-0.8\\-0.8")),
    Input("G-06", "pixel spacing of one value", _text("PixelSpacing", b"0.8")),
    Input("G-07", "position not a number", _text("ImagePositionPatient", b"nan\\-44.8\\0", only=9)),
    Input("G-09", "orientation zero", _text("ImageOrientationPatient", b"0\\0\\0\\0\\0\\0")),
    Input("G-10", "orientation rounded", _each(_rounded, turned(axial(), 25, 0))),
    Input("G-23", "field of 60 mm", _plan(replace(axial(), shape=(70, 70)))),
    Input("G-24", "slices 12 mm apart", _plan(axial(9, -48.0, 12.0))),
    Input("G-27", "one slice of another matrix", _each(_other_matrix)),
    Input("G-30", "irregular positions", _each(_permuted)),
    Input("P-03", "slope zero", _set(RescaleSlope=0, RescaleIntercept=0)),
    Input("P-04", "bits shifted up", _each(_shifted_bits)),
    Input("P-04", "overlay in the spare bits", _each(_overlay_bits)),
    Input("P-06", "one slice blank", _each(_blank)),
    Input("P-11", "reformatted", _set(ImageType=["DERIVED", "SECONDARY", "MPR"])),
    Input("P-12", "mosaic", _set(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
    Input("P-18", "half the rows told", _set(Rows=56)),
)
