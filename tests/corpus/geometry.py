"""Where the pictures are (classes G): positions, directions, spacings, splits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage

from tests.corpus.case import Case, Expect, abstained, close, read, same
from tests.corpus.edit import value_replaced
from tests.corpus.small_study import (
    File,
    Series,
    changed,
    dataset_of,
    datasets,
    encode,
    good,
    study_series,
)

Change = Callable[[str, Dataset], Dataset | None]
_ALL = ("sagT1", "sagT2", "axT2")


def _study(change: Change) -> Callable[[int], list[File]]:
    return lambda seed: changed(seed, change)


def _drop(*names: str) -> Callable[[int], list[File]]:
    return _study(lambda name, dataset: None if name in names else dataset)


def _set(prefix: str, **values: Any) -> Callable[[int], list[File]]:
    """Attributes changed in the objects whose name begins with `prefix`; None takes the attribute away."""

    def change(name: str, dataset: Dataset) -> Dataset:
        if name.startswith(prefix):
            for keyword, value in values.items():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)
        return dataset

    return _study(change)


def _text(prefix: str, keyword: str, text: str) -> Callable[[int], list[File]]:
    """A decimal string as it would never be written by a library."""

    def make(seed: int) -> list[File]:
        value = text.encode() + b" " * (len(text) % 2)
        return [
            (name, value_replaced(data, keyword, value) if name.startswith(prefix) else data)
            for name, data in good(seed)
        ]

    return make


def _moved(prefix: str, move: Callable[[int, np.ndarray], Sequence[float]]) -> Callable[[int], list[File]]:
    """Positions changed by number of the slice; the pixels stay."""

    def change(name: str, dataset: Dataset) -> Dataset:
        if name.startswith(prefix):
            place = np.array([float(value) for value in dataset.ImagePositionPatient])
            dataset.ImagePositionPatient = [round(float(v), 6) for v in move(int(name[-3:]), place)]
        return dataset

    return _study(change)


def _drawn(name: str, change: Callable[[Series], Series]) -> Callable[[int], list[File]]:
    """The study with one series planned otherwise and drawn anew: pixels and header agree."""

    def make(seed: int) -> list[File]:
        files = [file for file in good(seed) if not file[0].startswith(name)]
        series = change(next(series for series in study_series() if series.name == name))
        for number, (place, turn) in enumerate(zip(series.positions, series.orientations, strict=True)):
            files.append((f"{name}/{number:03d}", encode(dataset_of(seed, series, number, place, turn))))
        return files

    return make


def _localizer(seed: int, *, own_uid: bool, told: bool) -> list[File]:
    """Three far slices in each of two planes."""
    files = list(good(seed))
    sagittal, axial = (replace(s, shape=(115, 125), spacing=(1.9, 1.9)) for s in study_series()[1:])
    plans = [(sagittal, np.array([x, -95.0, 110.0]), sagittal.orientations[0]) for x in (-20.0, 0.0, 20.0)]
    flat = np.array([1.0, 0, 0, 0, 1, 0])
    plans += [(axial, np.array([-95.0, -100.0, z]), flat) for z in (-100.0, -55.0, 100.0)]
    for number, (series, place, turn) in enumerate(plans):
        dataset = dataset_of(seed, series, number, place, turn)
        dataset.SOPInstanceUID = f"{dataset.StudyInstanceUID}.8.{number + 1}"
        dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.{8 if own_uid else 2}"
        if told:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        files.append((f"loc/{number}", encode(dataset)))
    return files


def _one_uid(name: str, dataset: Dataset) -> Dataset:
    dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
    return dataset


def _three_uids(name: str, dataset: Dataset) -> Dataset:
    if name.startswith("axT2"):
        dataset.SeriesInstanceUID += f".{int(name[-3:]) // 5}"
    return dataset


def _numbers(rule: Callable[[int], int | None]) -> Callable[[int], list[File]]:
    def change(name: str, dataset: Dataset) -> Dataset:
        number = rule(int(name[-3:]))
        if number is None:
            del dataset.InstanceNumber
        else:
            dataset.InstanceNumber = number
        return dataset

    return _study(change)


def _rounded(digits: int, jitter: float) -> Callable[[int], list[File]]:
    def change(name: str, dataset: Dataset) -> Dataset:
        rng = np.random.default_rng(int(name[-3:]))
        turn = np.array([float(value) for value in dataset.ImageOrientationPatient]) + rng.normal(0, jitter, 6)
        dataset.ImageOrientationPatient = [round(float(value), digits) for value in turn]
        return dataset

    return _study(change)


def _pair(seed: int, **differences: Any) -> list[File]:
    """A second set of sagittal T2 pictures at the same places in the same series, told apart by the differences."""
    files = list(good(seed))
    for name, dataset in datasets(seed):
        if name.startswith("sagT2"):
            dataset.SOPInstanceUID += ".2"
            dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") // 2).astype("<u2").tobytes()
            for keyword, value in differences.items():
                setattr(dataset, keyword, value)
            files.append((f"second/{name}", encode(dataset)))
    return files


def _double(seed: int) -> list[File]:
    dataset = dict(datasets(seed))["sagT2/007"]
    dataset.SOPInstanceUID += ".2"
    dataset.PixelData = dataset.PixelData[2:] + b"\1\0"
    return [*good(seed), ("double", encode(dataset))]


def _shifted_block(offset: float) -> Callable[[int], list[File]]:
    """A second sagittal T2 block in the same series, a part of a step beside the first: overlapping slices."""

    def make(seed: int) -> list[File]:
        files = list(good(seed))
        series = study_series()[1]
        for number in range(4, 10):
            place = series.positions[number] + np.array([offset, 0.0, 0.0])
            dataset = dataset_of(seed, series, number, place, series.orientations[0])
            dataset.SOPInstanceUID += ".2"
            files.append((f"second/{number}", encode(dataset)))
        return files

    return make


def enhanced(seed: int, name: str) -> bytes:
    """A series of the good study as one multi-frame object (PS3.3 A.36.2)."""
    slices = [dataset for each, dataset in datasets(seed) if each.startswith(name)]
    out = copy.deepcopy(slices[0])
    out.SOPClassUID = EnhancedMRImageStorage
    out.NumberOfFrames = len(slices)
    out.PixelData = b"".join(dataset.PixelData for dataset in slices)
    shared, measures, echo, timing = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, slices[0].SliceThickness
    echo.EffectiveEchoTime, timing.RepetitionTime = slices[0].EchoTime, slices[0].RepetitionTime
    shared.PixelMeasuresSequence, shared.MREchoSequence = [measures], [echo]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    out.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for dataset in slices:
        group, place, turn = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = dataset.ImagePositionPatient
        turn.ImageOrientationPatient = dataset.ImageOrientationPatient
        group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [turn]
        groups.append(group)
    out.PerFrameFunctionalGroupsSequence = groups
    for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "EchoTime", "RepetitionTime"):
        delattr(out, keyword)
    return encode(out)


def legacy_converted(seed: int, name: str) -> bytes:
    """A series as a legacy converted multi-frame object: geometry in functional groups, times as they were (PS3.3 A.70)."""
    dataset = dcmread(BytesIO(enhanced(seed, name)))
    single = next(each for title, each in datasets(seed) if title.startswith(name))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = LegacyConvertedEnhancedMRImageStorage
    shared, kept = dataset.SharedFunctionalGroupsSequence[0], Dataset()
    del shared.MREchoSequence, shared.MRTimingAndRelatedParametersSequence
    kept.EchoTime, kept.RepetitionTime = single.EchoTime, single.RepetitionTime
    shared.UnassignedSharedConvertedAttributesSequence = [kept]
    return encode(dataset)


def _as_legacy(*names: str) -> Callable[[int], list[File]]:
    return lambda seed: [(name, legacy_converted(seed, name)) for name in names]


def _as_enhanced(*names: str) -> Callable[[int], list[File]]:
    def make(seed: int) -> list[File]:
        kept = [file for file in good(seed) if not file[0].startswith(names)]
        return [*kept, *((name, enhanced(seed, name)) for name in names)]

    return make


def _turned(series: Series, degrees: float, axis: int) -> Series:
    """The series with every slice turned about its own corner's axis."""
    angle = np.radians(degrees)
    turn = np.eye(3)
    first, second = [i for i in range(3) if i != axis]
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    middle = np.array([0.0, -15.0, 0.0])
    return replace(
        series,
        positions=[turn @ (place - middle) + middle for place in series.positions],
        orientations=[np.concatenate([turn @ o[:3], turn @ o[3:]]) for o in series.orientations],
    )


def _spread(series: Series, step: float) -> Series:
    places = [place * np.array([step / 4.0, 1, 1]) for place in series.positions]
    return replace(series, positions=places)


def _mid_for(name: str, dataset: Dataset) -> Dataset:
    if name.startswith("axT2") and int(name[-3:]) >= 5:
        dataset.FrameOfReferenceUID += ".1"
    return dataset


def _sagittal_only(name: str, dataset: Dataset) -> Dataset | None:
    return dataset if name.startswith("sag") else None


_FLAT = Series(
    "axT2", 3, "t2", [np.array([-95.0, -100.0, z]) for z in np.arange(-30.0, 30.1, 4.0)],
    [np.array([1.0, 0, 0, 0, 1, 0])] * 16, (114, 127), (1.5, 1.5), 3.6, 100.0, 4000.0,
)  # fmt: skip

CASES: tuple[Case, ...] = (
    Case("G-01", "middle slice missing", _drop("sagT2/007"), read("SLICE_MISSING", changed=["sagT2"])),
    Case(
        "G-01", "second slice missing", _drop("sagT2/001"), read("SLICE_MISSING", "TOO_FEW_SLICES", changed=["sagT2"])
    ),
    Case(
        "G-01",
        "every second slice missing",
        _drop(*(f"sagT2/{number:03d}" for number in range(1, 15, 2))),
        read("SPACING_TAG", changed=["sagT2"]),
    ),
    Case("G-02", "last slices never sent", _drop("axT2/013", "axT2/014"), read(changed=["axT2"])),
    Case("G-03", "two images at one place", _double, read("POSITION_DUPLICATE", "SLICE_MISSING", changed=["sagT2"])),
    Case(
        "G-04",
        "one position for all",
        _moved("axT2", lambda n, p: [-95.0, -100.0, 0.0]),
        read("POSITION_DUPLICATE", changed=["axT2"]),
    ),
    Case("G-05", "localizer", lambda seed: _localizer(seed, own_uid=True, told=True), Expect()),
    Case("G-05", "localizer within a series", lambda seed: _localizer(seed, own_uid=False, told=True), Expect()),
    Case("G-05", "localizer that is not called so", lambda seed: _localizer(seed, own_uid=True, told=False), Expect()),
    Case("G-06", "no pixel spacing", _set("axT2", PixelSpacing=None), read("NO_PIXEL_SPACING", changed=["axT2"])),
    Case(
        "G-06",
        "imager pixel spacing only",
        _set("axT2", PixelSpacing=None, ImagerPixelSpacing=[1.5, 1.5]),
        read("NO_PIXEL_SPACING", changed=["axT2"]),
    ),
    *(
        Case("G-06", f"pixel spacing {text!r}", _text("axT2", "PixelSpacing", text), read(code, changed=["axT2"]))
        for text, code in (
            ("0\\0", "NUMBER_INVALID"),
            ("-1.5\\-1.5", "NUMBER_INVALID"),
            ("1.5", "NUMBER_INVALID"),
            ("1,5\\1,5", "NUMBER_INVALID"),
            ("NaN\\NaN", "NUMBER_INVALID"),
            ("1e9\\1e9", "RESOLUTION"),
        )
    ),
    Case("G-06", "no pixel spacing in any series", _set("", PixelSpacing=None), abstained("NO_MM", "NO_PIXEL_SPACING")),
    Case("G-07", "no position", _set("axT2", ImagePositionPatient=None), read("NO_POSITION", changed=["axT2"])),
    Case(
        "G-07",
        "no position in one",
        _set("sagT2/007", ImagePositionPatient=None),
        read("NO_POSITION", "SLICE_MISSING", changed=["sagT2"]),
    ),
    Case(
        "G-07",
        "no number in one",
        _text("sagT2/007", "ImagePositionPatient", "nan\\-95\\110"),
        read("NUMBER_INVALID", "SLICE_MISSING", changed=["sagT2"]),
    ),
    Case(
        "G-08", "no orientation", _set("axT2", ImageOrientationPatient=None), read("NO_ORIENTATION", changed=["axT2"])
    ),
    *(
        Case(
            "G-09",
            f"orientation {text!r}",
            _text("axT2", "ImageOrientationPatient", text),
            read(code, changed=["axT2"]),
        )
        for text, code in (
            ("0\\0\\0\\0\\0\\0", "IOP_INVALID"),
            ("1\\0", "NUMBER_INVALID"),
            ("2\\0\\0\\0\\2\\0", "IOP_INVALID"),
            ("1\\0\\0\\0.2\\0.98\\0", "IOP_INVALID"),
        )
    ),
    Case("G-10", "orientation rounded", _rounded(4, 0.0), close()),
    Case("G-10", "orientation jitters", _rounded(9, 1e-6), close()),
    Case(
        "G-10",
        "orientation slightly off a right angle",
        _set("sagT2", ImageOrientationPatient=[0, 1, 0, 0, 0.005, -1]),
        read("IOP_ROUNDED", changed=["sagT2"]),
    ),
    Case("G-11", "all planes in one series", _study(_one_uid), same("MULTI_CONTRAST")),
    Case("G-12", "a series for every block", _study(_three_uids), same()),
    Case(
        "G-13",
        "two parallel blocks",
        _drop(*(f"sagT2/{number:03d}" for number in range(5, 11))),
        read(changed=["sagT2"]),
    ),
    Case("G-13", "overlapping blocks", _shifted_block(1.3), read("OVERLAP", changed=["sagT2"])),
    *(
        Case("G-14", f"instance numbers {name}", _numbers(rule), same())
        for name, rule in (
            ("reversed", lambda n: 99 - n),
            ("shuffled", lambda n: n * 7 % 15),
            ("all one", lambda n: 1),
            ("absent", lambda n: None),
        )
    ),
    Case("G-15", "files in another order", lambda seed: list(reversed(good(seed))), same()),
    Case(
        "G-15",
        "slices from the right to the left",
        _drawn("sagT2", lambda s: replace(s, positions=list(s.positions)[::-1])),
        same(),
    ),
    Case("G-16", "spacing tag contradicts", _set("", SpacingBetweenSlices=5.5), same("SPACING_TAG")),
    Case("G-16", "thickness contradicts", _set("", SliceThickness=9.0), same("SPACING_TAG")),
    Case("G-16", "thickness of interpolated slices", _set("", SliceThickness=8.0), same()),
    Case(
        "G-17",
        "pixels that are not square",
        _drawn("axT2", lambda s: replace(s, spacing=(1.2, 1.8), shape=(142, 106))),
        read(changed=["axT2"]),
    ),
    Case(
        "G-19",
        "slices drift in their plane",
        _drawn(
            "sagT2", lambda s: replace(s, positions=[p + np.array([0, 1.5 * n, 0]) for n, p in enumerate(s.positions)])
        ),
        read("SHEARED", changed=["sagT2"]),
    ),
    Case("G-20", "feet first", _set("", PatientPosition="FFS"), same()),
    Case("G-20", "prone", _set("", PatientPosition="HFP"), same()),
    Case("G-21", "position tag differs by series", _set("axT2", PatientPosition="FFP"), same("POSITION_TAG")),
    Case("G-21", "position tag is no such thing", _set("", PatientPosition="UPSIDE"), same("POSITION_TAG")),
    *(
        Case(
            "G-22",
            f"sagittal turned {degrees} degrees",
            _drawn("sagT2", lambda s, degrees=degrees, axis=axis: _turned(s, degrees, axis)),  # type: ignore[misc]
            read(changed=["sagT2"]),
        )
        for degrees, axis in ((30, 2), (-20, 1))
    ),
    Case(
        "G-22",
        "double oblique",
        _drawn("sagT2", lambda s: _turned(_turned(s, 15, 2), 12, 1)),
        read(changed=["sagT2"]),
    ),
    Case(
        "G-22",
        "beyond 45 degrees of every plane",
        _drawn("sagT2", lambda s: _turned(_turned(s, 50, 2), 45, 0)),
        read("ORIENTATION_SCOPE", changed=["sagT2"]),
    ),
    Case(
        "G-23",
        "field of 60 mm",
        _drawn("sagT2", lambda s: replace(s, shape=(30, 30))),
        read("FOV", changed=["sagT2"]),
    ),
    Case(
        "G-23",
        "one slice",
        _drop(*(f"sagT2/{n:03d}" for n in range(15) if n != 7)),
        read("TOO_FEW_SLICES", changed=["sagT2"]),
    ),
    Case(
        "G-23",
        "two slices",
        _drop(*(f"sagT2/{n:03d}" for n in range(15) if n not in (7, 8))),
        read("TOO_FEW_SLICES", changed=["sagT2"]),
    ),
    Case("G-24", "12 mm apart", _drawn("sagT2", lambda s: _spread(s, 12.0)), read("RESOLUTION", changed=["sagT2"])),
    Case(
        "G-24",
        "pixels of 3 mm",
        _drawn("axT2", lambda s: replace(s, spacing=(3.0, 3.0), shape=(57, 64))),
        read("RESOLUTION", changed=["axT2"]),
    ),
    Case("G-25", "frame of reference changes within", _study(_mid_for), same("FOR_MISMATCH")),
    Case("G-25", "every series its own frame", lambda seed: _per_series_frame(seed), same("FOR_MISMATCH")),
    Case(
        "G-27",
        "one slice of another matrix",
        lambda seed: _other_matrix(seed, "sagT2/007"),
        read("SLICE_MISSING", "TOO_FEW_SLICES", changed=["sagT2"]),
    ),
    Case(
        "G-27",
        "one slice of another matrix in an axial block",
        lambda seed: _other_matrix(seed, "axT2/007"),
        read("POSITION_INVALID", "TOO_FEW_SLICES", changed=["axT2"]),
    ),
    Case("G-28", "two echoes", lambda s: _pair(s, EchoTime=20.0), read("MULTI_CONTRAST", "CONTRAST_TYPE")),
    Case(
        "G-28", "two times", lambda s: _pair(s, TemporalPositionIdentifier=2), read("MULTI_CONTRAST", changed=["sagT2"])
    ),
    Case(
        "G-28",
        "diffusion",
        lambda s: _pair(s, DiffusionBValue=800.0, EchoTime=70.0),
        read("MULTI_CONTRAST", changed=["sagT2"]),
    ),
    Case("G-29", "legacy converted multi-frame", _as_legacy("sagT1", "sagT2", "axT2"), same()),
    Case("G-29", "enhanced multi-frame", _as_enhanced("sagT1", "sagT2", "axT2"), same()),
    Case(
        "G-30",
        "half of the signs wrong",
        _moved("sagT2", lambda n, p: [p[0] * (-1 if n > 7 else 1), p[1], p[2]]),
        read("POSITION_DUPLICATE", "TOO_FEW_SLICES", changed=["sagT2"]),
    ),
    Case(
        "G-30",
        "half of the signs wrong, no place claimed twice",
        _moved("sagT2", lambda n, p: [(p[0] + 1.3) * (-1 if n > 7 else 1), p[1], p[2]]),
        read("POSITION_INVALID", changed=["sagT2"]),
    ),
    Case(
        "G-30",
        "irregular positions",
        _moved("sagT2", lambda n, p: [p[0] + (n * n % 7) * 0.45, p[1], p[2]]),
        read("POSITION_INVALID", changed=["sagT2"]),
    ),
)


def _per_series_frame(seed: int) -> list[File]:
    def change(name: str, dataset: Dataset) -> Dataset:
        dataset.FrameOfReferenceUID += f".{dataset.SeriesNumber}"
        return dataset

    return changed(seed, change)


def _other_matrix(seed: int, short: str) -> list[File]:
    def change(name: str, dataset: Dataset) -> Dataset:
        if name == short:
            dataset.Rows -= 10
            dataset.PixelData = dataset.PixelData[: dataset.Rows * dataset.Columns * 2]
        return dataset

    return changed(seed, change)
