"""Two hundred bad studies of a simulated person, and what may be said about them.

No value may lie more than a millimetre from the untouched study's; no side and no level may be another without a code that says
so; what was not touched must still be read. Most recipes are those of tests/corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from inference.analyze import Engine
from inference.provenance import findings_digest
from inference.report import Report
from tests.corpus.case import Made
from tests.corpus.edit import value_replaced
from tests.corpus.run import all_cases
from tests.corpus.small_study import File, changed, encode, good
from tests.findings.phantom import datasets, person_of, recipes_on_phantom
from tests.findings.reading import OFF_MM, moved, outcome_of, untouched, values_at

Change = Callable[[str, Dataset], Dataset | None]
COUNT = 200
_AXIAL = ("L5-S1", "L4-L5", "L3-L4")
_OF_CORPUS = (
    "I-01 two patients slice by slice",
    "I-01 one slice of another patient",
    "I-02 another name",
    "I-02 another birth date",
    "I-02 another sex",
    "I-03 series UID in two studies",
    "I-05 one SOP UID, two images",
    "I-06 one SOP UID in two patients",
    "I-07 one SOP UID for all",
    "I-12 no patient ID in some",
    "I-13 another issuer",
    "G-01 middle slice missing",
    "G-01 second slice missing",
    "G-01 every second slice missing",
    "G-02 last slices never sent",
    "G-03 two images at one place",
    "G-06 imager pixel spacing only",
    "G-06 pixel spacing '1e9\\\\1e9'",
    "G-07 no position in one",
    "G-07 no number in one",
    "G-09 orientation '0\\\\0\\\\0\\\\0\\\\0\\\\0'",
    "G-09 orientation '1\\\\0'",
    "G-09 orientation '1\\\\0\\\\0\\\\0.2\\\\0.98\\\\0'",
    "G-13 two parallel blocks",
    "G-23 one slice",
    "G-23 two slices",
    "G-27 one slice of another matrix",
    "G-28 two times",
    "G-30 half of the signs wrong",
    "G-30 irregular positions",
    "P-03 slope 0",
    "P-03 slope NaN",
    "P-03 slope 1e30",
    "P-06 all zero",
    "P-06 all one value",
    "P-06 one slice zero",
    "P-07 clipped",
    "P-11 DERIVED SECONDARY REFORMATTED",
    "P-11 DERIVED PRIMARY MPR",
    "P-11 DERIVED PRIMARY PROJECTION IMAGE",
    "P-11 DERIVED SECONDARY SUBTRACTION",
    "P-12 mosaic",
    "P-16 letters over the picture",
    "S-02 nothing but CT",
    "S-04 sagittal only",
    "S-04 axial only",
    "S-05 axial after contrast agent",
    "S-05 diffusion",
    "S-05 sagittal STIR",
    "S-07 axial through the lowest disc only",
    "S-08 a child by age",
    "S-08 a child by months",
    "S-08 a child by dates",
)
_NAMELESS = "LEVEL_UNVERIFIED"
"""Levels are counted on sagittal pictures: without any, axial slices belong to no level, and a value without one is not given."""
_SIDES_TOLD = frozenset({"SIDE_UNVERIFIED", "SIDE_CONFLICT", "ORIENTATION_CONFLICT", "PLANES_DISAGREE"})
_LEVELS_TOLD = frozenset(
    {"NUMBERING_UNCERTAIN", "PLANES_DISAGREE", "PLANES_SHIFTED", "ORIENTATION_CONFLICT", "LEVEL_AMBIGUOUS"}
)


@dataclass(frozen=True)
class Abnormal:
    """One bad study of person `seed`. `touched` names series ("sagT2"), axial levels ("L4-L5"), or "study" when none of it is
    to be trusted. `told`: a code without which the outcome is wrong."""

    name: str
    seed: int
    touched: tuple[str, ...]
    make: Callable[[int], Made]
    told: str = ""


def judge_abnormal(item: Abnormal, engine: Engine) -> str:
    """Read the study whole: "" when nothing is wrong without a word and the untouched parts are read, else what is not so.

    Where the input holds studies of two persons, each is compared with the untouched study of its own.
    """
    with recipes_on_phantom():
        outcome = outcome_of(item.make(item.seed), item.seed, engine)
    if not outcome.reports:
        fine = item.touched == ("study",) and bool(outcome.codes)
        return "" if fine else f"nothing was read, told {sorted(outcome.codes)}"
    wrong = [] if item.told in {"", *outcome.codes} else [f"{item.told} is not told"]
    for report in outcome.reports:
        assert report.study is not None
        own = untouched(person_of(report.study.study_instance_uid), engine)
        wrong += _said_wrong(own, report, outcome.codes)
    if item.touched == ("study",):
        return "; ".join(wrong)
    return "; ".join([*wrong, *_lost(untouched(item.seed, engine), outcome.reports[0], item.touched)])


def _said_wrong(base: Report, report: Report, codes: frozenset[str]) -> list[str]:
    wrong = []
    for said in moved(base, report, OFF_MM):
        # a place that follows a lying header is told by any word on how the planes fit together
        told = codes & ((_LEVELS_TOLD | _SIDES_TOLD) if said.endswith("lies elsewhere") else _SIDES_TOLD)
        if " instead of " in said or not told:
            wrong.append(said)
    return wrong


def _lost(base: Report, report: Report, touched: Sequence[str]) -> list[str]:
    """What was not touched and is not read as before."""
    if touched == ("sagT1",):
        return (
            [] if findings_digest(report) == findings_digest(base) else ["findings changed with the sagittal T1 alone"]
        )
    if report.status != "done":
        return [f"abstained: {report.abstained_reason}"]
    axial = [level for level in _AXIAL if level not in touched and "axT2" not in touched]
    lost = []
    if not any(name.startswith("sagT2") for name in touched):
        names = [level.name for level in base.levels]
        if [level.name for level in report.levels] != names:
            lost.append("other levels were found")
        before, after = values_at(base, axial), values_at(report, axial)
        withheld = {item.level for item in report.withheld if item.code in _SIDES_TOLD | _LEVELS_TOLD}
        lost += [
            f"{' '.join(site)} {name} is lost"
            for (site, name) in before.keys() - after.keys()
            if site[0] not in withheld
        ]
    elif axial and not values_at(report, axial) and not report.withheld:
        lost.append("no axial value is left")
    return lost


def level_of(seed: int, number: int) -> str:
    """Level of the axial stack that slice `number` belongs to."""
    heights = [float(dict(datasets(seed))[f"axT2/{first:03d}"].ImagePositionPatient[2]) for first in (2, 7, 12)]
    return ("L5-S1", "L4-L5", "L3-L4")[sorted(heights).index(heights[number // 5])]


def _in(names: Sequence[str], change: Callable[[Dataset], None]) -> Callable[[int], list[File]]:
    """`change` on the objects whose name begins with one of `names`."""

    def apply(name: str, dataset: Dataset) -> Dataset:
        if name.startswith(tuple(names)):
            change(dataset)
        return dataset

    return lambda seed: changed(seed, apply)


def _without(*names: str) -> Callable[[int], list[File]]:
    return lambda seed: changed(seed, lambda name, dataset: None if name.startswith(names) else dataset)


def _untagged(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


def _number(names: Sequence[str], keyword: str, text: str) -> Callable[[int], list[File]]:
    """A decimal string as no library would write it."""
    value = text.encode() + b" " * (len(text) % 2)
    return lambda seed: [
        (name, value_replaced(data, keyword, value) if name.startswith(tuple(names)) else data)
        for name, data in good(seed)
    ]


def _flipped(axis: int) -> Callable[[Dataset], None]:
    """Pixels turned over under an intact header."""

    def change(dataset: Dataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        dataset.PixelData = np.ascontiguousarray(np.flip(pixels, axis)).tobytes()

    return change


def _placed(place: Callable[[np.ndarray], np.ndarray]) -> Callable[[Dataset], None]:
    """Another position under intact pixels."""

    def change(dataset: Dataset) -> None:
        position = place(np.array(dataset.ImagePositionPatient, dtype=float))
        dataset.ImagePositionPatient = [round(float(value), 6) for value in position]

    return change


def _signed(axis: int) -> Callable[[Dataset], None]:
    """One coordinate with the wrong sign."""
    signs = np.ones(3)
    signs[axis] = -1
    return _placed(lambda position: position * signs)


def _moved(*shift: float) -> Callable[[Dataset], None]:
    return _placed(lambda position: position + np.array(shift))


def _drifting(prefix: str, per_slice: Sequence[float]) -> Callable[[int], list[File]]:
    def change(name: str, dataset: Dataset) -> Dataset:
        if name.startswith(prefix):
            _moved(*(np.array(per_slice) * int(name[-3:])))(dataset)
        return dataset

    return lambda seed: changed(seed, change)


def _reversed_pixels(prefix: str) -> Callable[[int], list[File]]:
    """The pictures of a series in the opposite order under intact headers."""

    def make(seed: int) -> list[File]:
        made = datasets(seed)
        names = [name for name, _ in made if name.startswith(prefix)]
        pixels = {name: dataset.PixelData for name, dataset in made}
        for name, other in zip(names, reversed(names), strict=True):
            dict(made)[name].PixelData = pixels[other]
        return [(name, encode(dataset)) for name, dataset in made]

    return make


def _thinned(dataset: Dataset, *, swapped: bool) -> None:
    """Every second row left out; the distances of rows and columns told rightly or exchanged."""
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
    dataset.PixelData = np.ascontiguousarray(pixels[::2]).tobytes()
    dataset.Rows = (int(dataset.Rows) + 1) // 2
    down, right = (float(value) for value in dataset.PixelSpacing)
    dataset.PixelSpacing = [right, 2 * down] if swapped else [2 * down, right]


def _pixels_cut(names: Sequence[str]) -> Callable[[int], list[File]]:
    return lambda seed: [
        (name, data[: -len(data) // 3] if name.startswith(tuple(names)) else data) for name, data in good(seed)
    ]


def _all_at(name: str) -> Callable[[int], list[File]]:
    """Every slice of a series at the place of its first one."""
    return lambda seed: _in(
        (name,), _set(ImagePositionPatient=dict(datasets(seed))[f"{name}/000"].ImagePositionPatient)
    )(seed)


def _doubled(name: str) -> Callable[[int], list[File]]:
    """A second, other picture at the place of one slice."""

    def make(seed: int) -> list[File]:
        dataset = dict(datasets(seed))[name]
        dataset.SOPInstanceUID += ".2"
        dataset.PixelData = dataset.PixelData[64:] + dataset.PixelData[:64]
        return [*good(seed), ("double", encode(dataset))]

    return make


def _set(**values: Any) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def _blank(dataset: Dataset) -> None:
    dataset.PixelData = bytes(len(dataset.PixelData))


def _narrower(dataset: Dataset) -> None:
    dataset.Rows = int(dataset.Rows) - 10
    dataset.PixelData = dataset.PixelData[: int(dataset.Rows) * int(dataset.Columns) * 2]


def _clipped(dataset: Dataset) -> None:
    pixels = np.frombuffer(dataset.PixelData, "<u2")
    dataset.PixelData = np.minimum(pixels, int(np.percentile(pixels, 60))).astype("<u2").tobytes()


def abnormal_inputs() -> list[Abnormal]:
    """All two hundred: every kind on one person, those of places and some missing slices on another one too."""
    made = [*inputs_of(0), *_places(1), *islice(_slices(1), 6)]
    assert len(made) == COUNT, len(made)
    return made


def inputs_of(seed: int) -> list[Abnormal]:
    """Every kind of bad study of one person."""
    return [*_slices(seed), *_series(seed), *_places(seed), *_of_corpus(seed)]


def _stack(number: int) -> tuple[str, ...]:
    """Names of the five slices of an axial stack (0, 1, 2)."""
    return tuple(f"axT2/{5 * number + at:03d}" for at in range(5))


def _slices(seed: int) -> Iterator[Abnormal]:
    """One slice, or one stack, that is absent or cannot be used."""
    for number in range(15) if seed == 0 else range(0, 15, 2):
        yield Abnormal(f"axial slice {number} missing", seed, (level_of(seed, number),), _without(f"axT2/{number:03d}"))
    for number in (0, 1, 5, 7, 8, 13) if seed == 0 else (7,):
        yield Abnormal(f"sagittal T2 slice {number} missing", seed, ("sagT2",), _without(f"sagT2/{number:03d}"))
    yield Abnormal(
        "every second axial slice missing", seed, ("axT2",), _without(*(f"axT2/{n:03d}" for n in range(0, 15, 2)))
    )
    for number in range(3):
        level = level_of(seed, 5 * number)
        yield Abnormal(f"axial stack {level} missing", seed, (level,), _without(*_stack(number)))
        for how, change in (("blank", _blank), ("narrower", _narrower)):
            yield Abnormal(f"{how} slice at {level}", seed, (level,), _in((f"axT2/{5 * number + 2:03d}",), change))
        middle = (f"axT2/{5 * number + 2:03d}",)
        yield Abnormal(f"pixels cut at {level}", seed, (level,), _pixels_cut(middle))
        yield Abnormal(f"two pictures at one place at {level}", seed, (level,), _doubled(middle[0]))
        for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
            yield Abnormal(f"no {keyword} in a slice at {level}", seed, (level,), _in(middle, _untagged(keyword)))
    yield Abnormal("two pictures at one sagittal place", seed, ("sagT2",), _doubled("sagT2/007"))


def _series(seed: int) -> Iterator[Abnormal]:
    """Attributes absent or broken in a whole series."""
    for name in ("axT2", "sagT2", "sagT1"):
        for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
            yield Abnormal(f"no {keyword} in {name}", seed, (name,), _in((name,), _untagged(keyword)))
        yield Abnormal(f"one place for all of {name}", seed, (name,), _all_at(name))
        yield Abnormal(f"{name} clipped", seed, (name,), _in((name,), _clipped))
    for text in ("0,7\\0,7", "NaN\\NaN", "0\\0", "-0.7\\-0.7", "0.7"):
        yield Abnormal(f"pixel spacing {text!r}", seed, ("axT2",), _number(("axT2",), "PixelSpacing", text))


def _places(seed: int) -> Iterator[Abnormal]:
    """Headers that lie about places, and pixels that lie about headers."""
    for name in ("axT2", "sagT2"):
        for swapped in (False, True):
            thin = lambda dataset, swapped=swapped: _thinned(dataset, swapped=swapped)  # noqa: E731
            yield Abnormal(f"{name} oblong{', swapped' * swapped}", seed, (name,), _in((name,), thin))
        for axis, word in ((0, "upside down or front to back"), (1, "mirrored")):
            yield Abnormal(f"{name} pixels {word}", seed, (name,), _in((name,), _flipped(axis)))
        for axis in range(3):
            yield Abnormal(f"{name} position {'xyz'[axis]} negated", seed, (name,), _in((name,), _signed(axis)))
        for shift in (20.0, -14.0):
            yield Abnormal(
                f"{name} moved {shift:g} mm along the body", seed, (name,), _in((name,), _moved(0, 0, shift))
            )
    yield Abnormal("sagittal pictures in the opposite order", seed, ("sagT2",), _reversed_pixels("sagT2"))
    yield Abnormal("position x negated everywhere", seed, ("axT2", "sagT2"), _in(("",), _signed(0)))
    yield Abnormal("axial places drift backwards", seed, ("axT2",), _drifting("axT2", (0, 1.5, 0)))
    yield Abnormal("sagittal places drift backwards", seed, ("sagT2",), _drifting("sagT2", (0, 1.5, 0)))
    for number in range(3):
        level, stack = level_of(seed, 5 * number), _stack(number)
        yield Abnormal(f"only {level} mirrored", seed, (level,), _in(stack, _flipped(1)))
        yield Abnormal(f"only {level} front to back", seed, (level,), _in(stack, _flipped(0)))
        yield Abnormal(f"only {level} with x negated", seed, (level,), _in(stack, _signed(0)))
        yield Abnormal(f"only {level} moved 20 mm along the body", seed, (level,), _in(stack, _moved(0, 0, 20)))
        yield Abnormal(f"only {level} moved 30 mm to the left", seed, (level,), _in(stack, _moved(30, 0, 0)))


def _of_corpus(seed: int) -> Iterator[Abnormal]:
    """Recipes of the catalogue that spoil a series or the whole study and draw nothing of their own."""
    cases = {f"{case.id} {case.name}": case for case in all_cases()}
    for name in _OF_CORPUS:
        expect = cases[name].expect
        told = _NAMELESS if name == "S-04 axial only" else ""
        touched = ("study",) if expect.outcome == "none" or told else expect.changed
        yield Abnormal(name, seed, touched, cases[name].make, told)
