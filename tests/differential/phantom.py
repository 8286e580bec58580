"""Series with three spheres of known place and brightness: axial 21 x 4.5 mm and sagittal 17 x 4 mm, 0.8 mm pixels.

Sphere L lies 18 mm to the patient's left, R as far to the right, S 54 mm above; their distances are the ruler.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from scipy import ndimage

from tests.corpus.small_study import encode

SPHERES = {"L": (np.array([18.0, -10.0, -18.0]), 1400), "R": (np.array([-18.0, -10.0, -18.0]), 700)}
SPHERES["S"] = (np.array([0.0, 10.0, 22.5]), 1050)
VESSEL_LPS = (28.0, -24.0)  # x, y of a dark tube on the left: no body is alike on both sides
RADIUS_MM = 9.0
PIXEL_MM = 0.8
_BODY = 300


@dataclass(frozen=True)
class Plan:
    """Geometry of one series; `spacing` is (between rows, between columns)."""

    positions: tuple[np.ndarray, ...]
    orientation: np.ndarray
    shape: tuple[int, int] = (112, 112)
    spacing: tuple[float, float] = (PIXEL_MM, PIXEL_MM)
    step: float = 4.5


def axial(count: int = 21, first: float = -45.0, step: float = 4.5) -> Plan:
    """Flat slices from the feet to the head."""
    turn = np.array([1.0, 0, 0, 0, 1, 0])
    return Plan(tuple(np.array([-44.8, -44.8, first + step * n]) for n in range(count)), turn, step=step)


def sagittal(count: int = 17) -> Plan:
    """Upright slices from the right to the left."""
    turn = np.array([0.0, 1, 0, 0, 0, -1])
    places = tuple(np.array([4.0 * (n - count // 2), -44.8, 60.0]) for n in range(count))
    return Plan(places, turn, shape=(144, 112), step=4.0)


def turned(plan: Plan, degrees: float, axis: int) -> Plan:
    """The plan turned about the patient's axis through the origin."""
    angle = np.radians(degrees)
    turn = np.eye(3)
    first, second = (i for i in range(3) if i != axis)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    o = plan.orientation
    return replace(
        plan,
        positions=tuple(turn @ place for place in plan.positions),
        orientation=np.concatenate([turn @ o[:3], turn @ o[3:]]),
    )


def signal(points: np.ndarray) -> np.ndarray:
    """Brightness at LPS points (..., 3), smooth at the edges as a point spread function makes them."""
    out = np.zeros(points.shape[:-1])
    out[np.linalg.norm(points * [1, 1, 0.75], axis=-1) < 42] = _BODY
    tube = np.hypot(points[..., 0] - VESSEL_LPS[0], points[..., 1] - VESSEL_LPS[1]) < 5
    out[tube & (out > 0)] = 60
    out[(np.hypot(points[..., 0] + 26.0, points[..., 1] - 16.0) < 6) & (out > 0)] = 480
    for centre, value in SPHERES.values():
        distance = np.linalg.norm(points - centre, axis=-1)
        inside = np.clip((RADIUS_MM - distance) / PIXEL_MM + 0.5, 0, 1)
        out = out * (1 - inside) + value * inside
    return out


def pixels(plan: Plan, number: int) -> np.ndarray:
    """Stored values (rows, columns) of one slice."""
    rows, columns = np.mgrid[0 : plan.shape[0], 0 : plan.shape[1]]
    points = (
        plan.positions[number]
        + columns[..., None] * plan.spacing[1] * plan.orientation[:3]
        + rows[..., None] * plan.spacing[0] * plan.orientation[3:]
    )
    noise = np.random.default_rng(number).normal(0, 8, plan.shape)
    return np.asarray((signal(points) + noise + 30).clip(0, 4095).round(), dtype=np.int64)


def series(plan: Plan, seed: int = 0, number: int = 1, patient: str = "A") -> list[Dataset]:
    """Data sets of one series in anatomical order, free to be changed."""
    study = f"1.2.826.0.1.3680043.10.1888.{seed + 1}"
    made = []
    for at in range(len(plan.positions)):
        dataset = Dataset()
        dataset.SOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = f"{study}.{number}.{at + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.{number}"
        dataset.FrameOfReferenceUID = f"{study}.99"
        dataset.PatientID, dataset.PatientName = f"{patient}{seed}", f"Sphere^{patient}"
        dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19700101", "F", "054Y"
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20240102", "101112", "1"
        dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", ""
        dataset.Modality, dataset.Manufacturer = "MR", "recess tests"
        dataset.SeriesNumber, dataset.InstanceNumber = number, at + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        dataset.PatientPosition, dataset.PositionReferenceIndicator = "HFS", ""
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "SK", ""
        dataset.MRAcquisitionType, dataset.EchoTrainLength = "2D", 12
        dataset.EchoTime, dataset.RepetitionTime = 100.0, 3500.0
        dataset.SliceThickness, dataset.SpacingBetweenSlices = plan.step - 0.5, plan.step
        dataset.ImagePositionPatient = [round(float(v), 6) for v in plan.positions[at]]
        dataset.ImageOrientationPatient = [round(float(v), 9) for v in plan.orientation]
        dataset.PixelSpacing = list(plan.spacing)
        dataset.Rows, dataset.Columns = plan.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.PixelData = pixels(plan, at).astype("<u2").tobytes()
        made.append(dataset)
    return made


def encoded(datasets: list[Dataset]) -> list[bytes]:
    """The data sets as files."""
    return [encode(dataset) for dataset in datasets]


def sphere_errors(array: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    """Distance in mm of each sphere seen from where it belongs; infinite when it is not found.

    `array` in any index order, `affine` (4, 4) index -> LPS mm. A sphere is its own brightness, found anywhere in the array.
    """
    out = {}
    for name, (centre, value) in SPHERES.items():
        label, count = ndimage.label(np.abs(array - value - 30) < 90)
        if not count:
            out[name] = float("inf")
            continue
        largest = int(np.argmax(np.bincount(label.ravel())[1:])) + 1
        points = np.argwhere(label == largest) @ affine[:3, :3].T + affine[:3, 3]
        out[name] = float(np.linalg.norm(points.mean(axis=0) - centre))
    return out
