"""A small, good lumbar MR study made by code: sagittal T1 and T2, axial T2 in three tilted blocks, known millimetres.

Every pixel is a function of its LPS place, so the same anatomy shows in every plane and a wrong side or order is seen at
once: a vessel lies on the patient's left only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

File = tuple[str, bytes]
BODY_STEP_MM = 36.0  # from disc to disc
DISC_Z = (-72.0, -36.0, 0.0, 36.0, 72.0)  # centres of the five discs, caudal to cranial
TILTS_DEG = (20.0, 8.0, 0.0)  # of the three lowest discs, as the axial blocks are angled
VESSEL_LPS = (22.0, -48.0)  # x, y: on the patient's LEFT, in front of the spine
TISSUE = {
    "t1": {"air": 0, "fat": 900, "muscle": 300, "bone": 420, "disc": 260, "fluid": 120, "vessel": 30},
    "t2": {"air": 0, "fat": 800, "muscle": 140, "bone": 280, "disc": 400, "fluid": 1000, "vessel": 20},
}


@dataclass
class Series:
    """One series of the study: plane, weighting and the geometry of its slices."""

    name: str
    number: int
    weighting: str
    positions: Sequence[np.ndarray]
    orientations: Sequence[np.ndarray]
    shape: tuple[int, int]
    spacing: tuple[float, float]
    thickness: float
    echo: float
    repetition: float
    attributes: dict[str, Any] = field(default_factory=dict)


def tissue_at(points: np.ndarray) -> np.ndarray:
    """Tissue names at LPS points (..., 3) mm: a straight spine in an elliptical trunk with fat all round."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    tissue = np.full(points.shape[:-1], "muscle", dtype="<U8")
    trunk = (x / 90.0) ** 2 + ((y + 10.0) / 75.0) ** 2
    tissue[trunk > 0.75] = "fat"
    tissue[trunk > 1.0] = "air"
    column = (x / 24.0) ** 2 + ((y + 22.0) / 17.0) ** 2 < 1.0
    near_disc = np.min([np.abs(z - centre) for centre in DISC_Z], axis=0) < 5.0
    tissue[column & ~near_disc] = "bone"
    tissue[column & near_disc] = "disc"
    tissue[(x / 9.0) ** 2 + ((y - 4.0) / 7.5) ** 2 < 1.0] = "fluid"
    tissue[(x - VESSEL_LPS[0]) ** 2 + (y - VESSEL_LPS[1]) ** 2 < 7.0**2] = "vessel"
    return tissue


def study_series() -> list[Series]:
    """The three series of the good study."""
    row_back, column_down = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
    sagittal = np.concatenate([row_back, column_down])
    places = [np.array([x, -95.0, 110.0]) for x in np.arange(-28.0, 28.1, 4.0)]
    common = {"positions": places, "orientations": [sagittal] * len(places), "shape": (110, 95), "spacing": (2.0, 2.0)}
    axial_places, axial_orientations = [], []
    for centre, tilt in zip(DISC_Z, TILTS_DEG, strict=False):
        angle = np.radians(tilt)
        down = np.array([0.0, np.cos(angle), np.sin(angle)])
        normal = np.array([0.0, -np.sin(angle), np.cos(angle)])
        for offset in (-8.0, -4.0, 0.0, 4.0, 8.0):
            middle = np.array([0.0, -15.0, centre]) + offset * normal
            axial_places.append(middle - 95.0 * np.array([1.0, 0, 0]) - 85.0 * down)
            axial_orientations.append(np.concatenate([[1.0, 0.0, 0.0], down]))
    return [
        Series("sagT1", 1, "t1", thickness=3.6, echo=10.0, repetition=550.0, **common),
        Series("sagT2", 2, "t2", thickness=3.6, echo=105.0, repetition=3500.0, **common),
        Series("axT2", 3, "t2", axial_places, axial_orientations, (114, 127), (1.5, 1.5), 3.6, 100.0, 4000.0),
    ]


def datasets(seed: int = 0) -> list[tuple[str, Dataset]]:
    """Name and data set of every object of the good study of this seed, free to be changed."""
    return [(name, copy.deepcopy(dataset)) for name, dataset in _datasets(seed)]


@cache
def _datasets(seed: int) -> list[tuple[str, Dataset]]:
    made: list[tuple[str, Dataset]] = []
    for series in study_series():
        for number, (position, orientation) in enumerate(zip(series.positions, series.orientations, strict=True)):
            dataset = dataset_of(seed, series, number, position, orientation)
            made.append((f"{series.name}/{number:03d}", dataset))
    return made


def render(series: Series, position: np.ndarray, orientation: np.ndarray, seed: int) -> np.ndarray:
    """Pixels (rows, columns) uint16 of one slice: tissue values and a little noise."""
    rows, columns = np.mgrid[0 : series.shape[0], 0 : series.shape[1]]
    points = (
        position
        + columns[..., None] * series.spacing[1] * orientation[:3]
        + rows[..., None] * series.spacing[0] * orientation[3:]
    )
    tissue = tissue_at(points)
    values = TISSUE[series.weighting]
    pixels = np.zeros(series.shape)
    for name, value in values.items():
        pixels[tissue == name] = value
    entropy = [seed, series.number, *np.round((position + 1000) * 10).astype(int).tolist()]
    noise = np.random.default_rng(entropy).normal(0, 12, series.shape)
    return np.clip(pixels + noise + 20, 0, 4095).astype(np.uint16)


def dataset_of(seed: int, series: Series, number: int, position: np.ndarray, orientation: np.ndarray) -> Dataset:
    study = f"1.2.826.0.1.3680043.10.1999.{seed + 1}"
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = f"{study}.{series.number}.{number + 1}"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = f"{study}.{series.number}"
    dataset.FrameOfReferenceUID = f"{study}.99"
    dataset.PatientID = f"TEST{seed:04d}"
    dataset.PatientName = f"Phantom^{seed}"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "F"
    dataset.PatientAge = "054Y"
    dataset.StudyDate, dataset.StudyTime = "20240102", "101112"
    dataset.SeriesDate, dataset.SeriesTime = "20240102", "101112"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240102", "101112"
    dataset.ContentDate, dataset.ContentTime = "20240102", "101112"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", f"A{seed}", ""
    dataset.Manufacturer, dataset.Modality = "recess tests", "MR"
    dataset.SeriesDescription = "series"
    dataset.SeriesNumber, dataset.InstanceNumber = series.number, number + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.BodyPartExamined = "LSPINE"
    dataset.PatientPosition, dataset.PositionReferenceIndicator = "HFS", ""
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "SK", ""
    dataset.MRAcquisitionType, dataset.EchoTrainLength = "2D", 12
    dataset.EchoTime, dataset.RepetitionTime = series.echo, series.repetition
    dataset.SliceThickness = series.thickness
    dataset.SpacingBetweenSlices = 4.0
    dataset.ImagePositionPatient = [round(float(value), 6) for value in position]
    dataset.ImageOrientationPatient = [round(float(value), 9) for value in orientation]
    dataset.PixelSpacing = list(series.spacing)
    dataset.Rows, dataset.Columns = series.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = render(series, position, orientation, seed).astype("<u2").tobytes()
    for keyword, value in series.attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def encode(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set as a DICOM file in `syntax` (uncompressed ones)."""
    dataset = copy.deepcopy(dataset)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def good(seed: int = 0) -> list[File]:
    """Name and bytes of every object of the good study."""
    return list(_good(seed))


@cache
def _good(seed: int) -> tuple[File, ...]:
    return tuple((name, encode(dataset)) for name, dataset in _datasets(seed))


def changed(seed: int, change: Callable[[str, Dataset], Dataset | None]) -> list[File]:
    """The good study with `change` applied to every data set; None drops the object."""
    made = [(name, change(name, dataset)) for name, dataset in datasets(seed)]
    return [(name, encode(dataset)) for name, dataset in made if dataset is not None]
