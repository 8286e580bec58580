"""What is asked for and what came (classes S): modalities, weightings, descriptions, candidates, ages, protocols.

Other body parts are read by the shipped networks (tests/corpus/bodies.py). What needs more judgement is told in OPEN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from tests.corpus.case import Case, Expect, abstained, read, same
from tests.corpus.edit import beside, extra
from tests.corpus.small_study import File, changed, dataset_of, datasets, encode, good, study_series


def _set(prefix: str, **values: Any) -> Callable[[int], list[File]]:
    def change(name: str, dataset: Dataset) -> Dataset:
        if name.startswith(prefix):
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
        return dataset

    return lambda seed: changed(seed, change)


def _of_class(modality: str, sop_class: str) -> Callable[[int], list[File]]:
    def make(seed: int) -> list[File]:
        dataset = extra(seed)
        dataset.Modality, dataset.SOPClassUID = modality, sop_class
        return beside(seed, encode(dataset))

    return make


def _without_pixels(modality: str, sop_class: str) -> Callable[[int], list[File]]:
    """An object of another kind: a report, a document, a plan."""

    def make(seed: int) -> list[File]:
        dataset = extra(seed)
        dataset.Modality, dataset.SOPClassUID = modality, sop_class
        for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
            delattr(dataset, keyword)
        return beside(seed, encode(dataset))

    return make


def _only(prefix: str) -> Callable[[int], list[File]]:
    return lambda seed: changed(seed, lambda name, dataset: dataset if name.startswith(prefix) else None)


def _second_axial(seed: int) -> list[File]:
    """A second, shorter axial T2 series: the longer stays the first choice."""
    files = list(good(seed))
    for name, dataset in datasets(seed):
        if name.startswith("axT2") and int(name[-3:]) % 5 in (1, 2, 3):
            dataset.SOPInstanceUID += ".7"
            dataset.SeriesInstanceUID += ".7"
            files.append((f"second/{name}", encode(dataset)))
    return files


def _isotropic(seed: int) -> list[File]:
    """One sagittal volume of 2 mm in all directions, as a 3-D sequence gives it."""
    series = replace(
        study_series()[1],
        positions=[np.array([x, -95.0, 110.0]) for x in np.arange(-28.0, 28.1, 2.0)],
        orientations=[study_series()[1].orientations[0]] * 29,
        thickness=2.0,
        attributes={"SpacingBetweenSlices": 2.0},
    )
    drawn = (
        dataset_of(seed, series, n, *at) for n, at in enumerate(zip(series.positions, series.orientations, strict=True))
    )
    return [(f"sagT2/{number:03d}", encode(dataset)) for number, dataset in enumerate(drawn)]


_WORDS = (
    *("T2 axial", "T2 axiale", "T2 axial Wirbelsäule", "T2 axiaal", "T2 aksiyel", "T2 osiowe"),
    *("аксиальные Т2", "横断位T2", "T2 横断", "축상면 T2", "محوري T2", "T2 aksial"),
)

CASES: tuple[Case, ...] = (
    *(
        Case("S-02", f"{modality} beside", _of_class(modality, sop), same("MODALITY"))
        for modality, sop in (
            ("CT", "1.2.840.10008.5.1.4.1.1.2"),
            ("CR", "1.2.840.10008.5.1.4.1.1.1"),
            ("US", "1.2.840.10008.5.1.4.1.1.6.1"),
            ("PT", "1.2.840.10008.5.1.4.1.1.128"),
        )
    ),
    *(
        Case("S-02", f"{modality} beside", _without_pixels(modality, sop), same("MODALITY"))
        for modality, sop in (
            ("SR", "1.2.840.10008.5.1.4.1.1.88.22"),
            ("DOC", "1.2.840.10008.5.1.4.1.1.104.1"),
            ("RTPLAN", "1.2.840.10008.5.1.4.1.1.481.5"),
        )
    ),
    Case("S-02", "nothing but CT", _set("", Modality="CT"), abstained("NO_MR", "MODALITY")),
    Case("S-04", "sagittal only", _only("sag"), read(changed=["axT2"], without=["axial_t2"])),
    Case("S-04", "axial only", _only("axT2"), read(changed=["sagT1", "sagT2"], without=["sagittal_t1", "sagittal_t2"])),
    Case(
        "S-05",
        "axial after contrast agent",
        _set("axT2", EchoTime=10.0, RepetitionTime=550.0, ContrastBolusAgent="Gd"),
        read("CONTRAST_TYPE", changed=["axT2"], without=["axial_t2"]),
    ),
    Case(
        "S-05",
        "diffusion",
        _set("axT2", EchoTime=45.0),
        read("CONTRAST_TYPE", changed=["axT2"], without=["axial_t2"]),
    ),
    Case(
        "S-05",
        "Dixon, as gradient echoes",
        _set("axT2", EchoTime=4.8, RepetitionTime=1500.0),
        read("CONTRAST_TYPE", changed=["axT2"], without=["axial_t2"]),
    ),
    Case(
        "S-05",
        "myelogram, one thick coronal projection",
        _set("axT2", EchoTime=1100.0, RepetitionTime=8000.0, ImageType=["DERIVED", "PRIMARY", "MIP"]),
        read("DERIVED", changed=["axT2"], without=["axial_t2"]),
    ),
    Case(
        "S-05",
        "sagittal STIR",
        _set("sagT2", InversionTime=150.0, EchoTime=60.0),
        read(changed=["sagT2"], without=["sagittal_t2"]),
    ),
    Case(
        "S-05",
        "axial STIR",
        _set("axT2", InversionTime=150.0, EchoTime=60.0),
        read("CONTRAST_TYPE", changed=["axT2"], without=["axial_t2"]),
    ),
    Case(
        "S-06",
        "nothing but 3-D isotropic T2",
        _isotropic,
        read(changed=["sagT1", "sagT2", "axT2"], without=["axial_t2"]),
    ),
    Case("S-07", "axial through the lowest disc only", _only(("axT2/00", "sag")), read(changed=["axT2"])),  # type: ignore[arg-type]
    Case("S-08", "a child by age", _set("", PatientAge="012Y"), abstained("AGE_SCOPE")),
    Case("S-08", "a child by months", _set("", PatientAge="100M"), abstained("AGE_SCOPE")),
    Case("S-08", "a child by dates", _set("", PatientAge="", PatientBirthDate="20100101"), abstained("AGE_SCOPE")),
    Case("S-09", "low field", _set("", MagneticFieldStrength=0.2), same("PROTOCOL")),
    *(
        Case(
            "S-10", f"described as {word}", _set("", SeriesDescription=word, SpecificCharacterSet="ISO_IR 192"), same()
        )
        for word in (*_WORDS, "T1 sagittal", "")
    ),
    Case("S-11", "two axial T2 series", _second_axial, Expect(changed=("axT2",), first="3")),
    Case(
        "S-11",
        "the same in another order",
        lambda seed: _second_axial(seed)[::-1],
        Expect(changed=("axT2",), first="3"),
    ),
)

OPEN: dict[str, str] = {
    "P-14": "both planes mirrored alike agree with each other: needs a judgement on the side of the aorta that no shipped network gives",
    "S-13 grey": "a scope in doubt is told by the column's course alone; the networks give no score of scope between lumbar and not",
}
