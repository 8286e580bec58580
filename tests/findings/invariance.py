"""Forty ways in which one study may legitimately arrive; what is found must not depend on them.

Most are recipes of tests/corpus whose declared outcome is that the study is read alike, applied to a simulated person.
"""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from inference.analyze import Engine
from inference.provenance import findings_digest
from tests.corpus.case import Made
from tests.corpus.geometry import enhanced
from tests.corpus.run import all_cases
from tests.corpus.small_study import File, changed, encode, good
from tests.findings.phantom import datasets, recipes_on_phantom
from tests.findings.reading import CLOSE_MM, categories_changed, moved, outcome_of, untouched

Change = Callable[[str, Dataset], Dataset | None]

_OF_CORPUS = (
    "F-03 no preamble",
    "F-09 zeros behind",
    "F-14 elements out of order",
    "F-20 RLE Lossless",
    "F-20 JPEG-LS Lossless Image Compression",
    "F-20 JPEG 2000 Image Compression (Lossless Only)",
    "F-20 Deflated Explicit VR Little Endian",
    "F-20 Implicit VR Little Endian",
    "F-20 Explicit VR Big Endian",
    "F-20 JPEG Lossless",
    "F-22 no offset table",
    "I-04 every object twice",
    "I-10 UIDs padded with spaces",
    "I-12 no patient ID at all",
    "I-14 two accession numbers",
    "G-10 orientation rounded",
    "G-10 orientation jitters",
    "G-11 all planes in one series",
    "G-12 a series for every block",
    "G-14 instance numbers shuffled",
    "G-14 instance numbers absent",
    "G-15 files in another order",
    "G-16 spacing tag contradicts",
    "G-20 feet first",
    "G-25 every series its own frame",
    "G-29 enhanced multi-frame",
    "P-01 MONOCHROME1",
    "P-02 signed with intercept",
    "P-04 high bit shifted",
    "P-04 overlay in the spare bits",
    "S-02 SR beside",
    "S-10 described as 横断位T2",
)


@dataclass(frozen=True)
class Variant:
    """One way of arriving: `same` asks for the very same findings, else categories must be the same and mm within 0.5."""

    name: str
    make: Callable[[int], Made]
    same: bool = True


def variants() -> list[Variant]:
    """All forty."""
    cases = {f"{case.id} {case.name}": case for case in all_cases()}
    return [Variant(name, cases[name].make, cases[name].expect.same) for name in _OF_CORPUS] + list(_OWN)


def judge_variant(variant: Variant, seed: int, engine: Engine) -> str:
    """Read the variant of person `seed` whole: "" when the findings are those of the untouched study, else what differs."""
    base = untouched(seed, engine)
    with recipes_on_phantom():
        outcome = outcome_of(variant.make(seed), seed, engine)
    if len(outcome.reports) != 1:
        return f"{len(outcome.reports)} studies read, told {sorted(outcome.codes)}"
    (report,) = outcome.reports
    wrong = [*categories_changed(base, report), *moved(base, report, CLOSE_MM)]
    if variant.same and not wrong and findings_digest(report) != findings_digest(base):
        return "the findings digest is another"
    return "; ".join(wrong)


def _study(change: Change) -> Callable[[int], list[File]]:
    return lambda seed: changed(seed, change)


def _stored(prefix: str, turn: Callable[[np.ndarray], np.ndarray], order: Sequence[int]) -> Callable[[int], list[File]]:
    """Pictures stored another way round under headers that say so.

    `order` tells the new column and row directions by the old ones: 1 the columns', 2 the rows', negative reversed.
    """

    def change(name: str, dataset: Dataset) -> Dataset:
        if not name.startswith(prefix):
            return dataset
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        turned = np.ascontiguousarray(turn(pixels))
        orientation = np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
        down, right = (float(value) for value in dataset.PixelSpacing)
        extent = {1: orientation[0] * right * (dataset.Columns - 1), 2: orientation[1] * down * (dataset.Rows - 1)}
        corner = np.array(dataset.ImagePositionPatient, dtype=float)
        corner = corner + sum((extent[-axis] for axis in order if axis < 0), np.zeros(3))
        turned_to = [orientation[abs(axis) - 1] * np.sign(axis) for axis in order]
        dataset.ImagePositionPatient = [round(float(value), 6) for value in corner]
        dataset.ImageOrientationPatient = [round(float(value), 9) for value in np.concatenate(turned_to)]
        dataset.PixelSpacing = [right, down] if abs(order[0]) == 2 else [down, right]
        dataset.Rows, dataset.Columns = turned.shape
        dataset.PixelData = turned.tobytes()
        return dataset

    return _study(change)


def _remapped(name: str, dataset: Dataset) -> Dataset:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, keyword, generate_uid(entropy_srcs=["remapped", str(dataset.get(keyword))]))
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20110203"
    return dataset


def _with_private(name: str, dataset: Dataset) -> Dataset:
    block = dataset.private_block(0x0019, "SOME VENDOR", create=True)
    block.add_new(1, "LO", "a note")
    block.add_new(2, "OB", bytes(200))
    return dataset


def _localizer(seed: int, *, own_uid: bool) -> list[File]:
    """Three far slices in each of two planes, cut out of the study's own pictures."""
    out = list(good(seed))
    made = dict(datasets(seed))
    middle = np.mean(
        [np.array(made[f"axT2/{number:03d}"].ImagePositionPatient, dtype=float) for number in range(15)], 0
    )
    for number in range(3):
        for plane, source in enumerate(("sagT2/007", "axT2/007")):
            dataset = copy.deepcopy(made[source])
            dataset.SOPInstanceUID += f".9{plane}{number}"
            dataset.SeriesInstanceUID = made["sagT2/000"].SeriesInstanceUID + (".9" if own_uid else "")
            dataset.FrameOfReferenceUID = made["sagT2/000"].FrameOfReferenceUID
            place = np.array(dataset.ImagePositionPatient, dtype=float)
            place[0 if plane == 0 else 2] += (number - 1) * 45.0
            if plane == 1:
                place[2] = middle[2] + (number - 1) * 45.0
            dataset.ImagePositionPatient = [round(float(value), 6) for value in place]
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            out.append((f"localizer/{plane}{number}", encode(dataset)))
    return out


def _archive(seed: int) -> Made:
    def make(folder: Path) -> Path:
        path = folder / "study.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number, (_, content) in enumerate(good(seed)):
                archive.writestr(f"DICOM/{number:03d}", content)
        return path

    return make


def _frames_shuffled(seed: int) -> list[File]:
    """The axial series as one multi-frame object whose frames stand in no order."""
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO

    dataset = dcmread(DicomBytesIO(enhanced(seed, "axT2")))
    assert dataset.SOPClassUID == EnhancedMRImageStorage
    count = int(dataset.NumberOfFrames)
    order = np.random.default_rng(seed).permutation(count)
    size = len(dataset.PixelData) // count
    dataset.PixelData = b"".join(dataset.PixelData[at * size : (at + 1) * size] for at in order)
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = [groups[at] for at in order]
    return [*(file for file in good(seed) if not file[0].startswith("axT2")), ("axT2", encode(dataset))]


_OWN: tuple[Variant, ...] = (
    Variant("UIDs and dates made anew", _study(_remapped)),
    Variant("private elements", _study(_with_private)),
    Variant("in an archive", _archive),
    Variant("localizer beside", lambda seed: _localizer(seed, own_uid=True)),
    Variant("multi-frame with frames in no order", _frames_shuffled),
    Variant("axial pictures stored turned by a quarter", _stored("axT2", lambda p: p.T[:, ::-1], (-2, 1)), same=False),
    Variant("axial pictures stored from left to right", _stored("axT2", lambda p: p[:, ::-1], (-1, 2)), same=False),
    Variant("sagittal pictures stored upside down", _stored("sag", lambda p: p[::-1], (1, -2)), same=False),
)
