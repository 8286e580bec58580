"""A simulated person as a DICOM study: sagittal T1 and T2, axial T2, with truth.json and, if asked, the label maps.

Attributes follow the MR Image IOD (PS3.3 A.4, C.8.3.1); the patient is fictitious and every UID comes from the seed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from dicom_io.geometry import FloatArray
from training.phantom.anatomy import Anatomy
from training.phantom.render import Plane, expose, paint_plane
from training.phantom.scanner import Scanner, draw_acquisition, draw_scanner
from training.phantom.scene import solve_scene
from training.phantom.shapes import Field
from training.phantom.truth import LevelTruth, level_truth

TRUTH_LEVELS = ("L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
_GREY = (900.0, 2600.0)  # range in which the 99.5th percentile of a series falls (12 bit)


@dataclass(frozen=True)
class Protocol:
    """How a study is planned: matrices, pixels (mm), slices; `axial` is "block" or "angled" (a stack per disc).

    `axial_levels` have a stack each, or only the lowest of them, drawn between `fewest_levels` and all (None: all); a block begins
    `below_mm` under the lowest disc; a share `incomplete` of the studies lacks one axial slice.
    """

    sagittal_slices: int
    sagittal_size: int
    sagittal_pixel_mm: tuple[float, float]
    sagittal_step_mm: tuple[float, float]
    axial: str
    axial_slices: tuple[int, int]
    axial_size: int
    axial_pixel_mm: tuple[float, float]
    axial_step_mm: tuple[float, float]
    axial_levels: tuple[str, ...] = TRUTH_LEVELS
    fewest_levels: int | None = None
    below_mm: tuple[float, float] = (20.0, 28.0)
    incomplete: float = 0.0


PROTOCOLS = {
    # blocks of any start and length, and stacks on some discs: the number of a slice tells no level
    "block": Protocol(
        18,
        448,
        (0.60, 0.70),
        (4.2, 4.8),
        "block",
        (28, 60),
        320,
        (0.50, 0.60),
        (3.3, 3.8),
        below_mm=(8.0, 60.0),
        incomplete=0.06,
    ),
    "angled": Protocol(
        15,
        448,
        (0.60, 0.70),
        (4.2, 4.8),
        "angled",
        (4, 6),
        320,
        (0.50, 0.62),
        (3.8, 4.8),
        TRUTH_LEVELS,
        fewest_levels=2,
        incomplete=0.06,
    ),
    # always the whole lumbar spine, for timings
    "whole": Protocol(18, 448, (0.60, 0.70), (4.2, 4.8), "block", (60, 60), 320, (0.50, 0.60), (3.3, 3.8)),
    # coarser pixels, thicker and farther slices than any that a network learned from
    "beyond": Protocol(
        13, 320, (0.86, 0.96), (5.0, 5.6), "angled", (5, 5), 256, (0.66, 0.80), (4.9, 5.4), TRUTH_LEVELS[3:]
    ),
    "small": Protocol(
        9, 256, (1.05, 1.10), (6.0, 6.5), "angled", (5, 5), 224, (0.70, 0.72), (4.0, 4.4), TRUTH_LEVELS[3:]
    ),
}


@dataclass(frozen=True)
class SeriesTruth:
    """One series that was written: role as in a report, UID, SOP instance UIDs in order of acquisition."""

    role: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True)
class StudyTruth:
    """What is true of a written study."""

    seed: int
    protocol: str
    study_instance_uid: str
    frame_of_reference_uid: str
    age_years: int
    sex: str
    levels: tuple[LevelTruth, ...]
    series: tuple[SeriesTruth, ...]

    def level(self, name: str) -> LevelTruth:
        """Truth at one disc. KeyError when the study does not hold it."""
        for level in self.levels:
            if level.name == name:
                return level
        raise KeyError(name)

    def as_json(self) -> dict[str, Any]:
        """Plain dictionary, as in truth.json."""
        return asdict(self)


def render_study(
    anatomy: Anatomy,
    out_dir: Path,
    *,
    seed: int,
    protocol: str = "block",
    with_labels: bool = False,
    with_truth: bool = True,
) -> StudyTruth:
    """Write one study into `out_dir` (a folder per series, truth.json beside them). KeyError for an unknown protocol.

    The same anatomy, seed and protocol give the same bytes. `with_labels` adds labels.npz: per series the label map
    (slices, rows, columns) and the LPS affine of every slice.
    """
    plan = PROTOCOLS[protocol]
    rng = np.random.default_rng([seed, anatomy.seed, 23])
    scanner = draw_scanner(rng, anatomy.settings.scanner)
    uids = _Uids(f"{anatomy.seed}-{seed}-{protocol}")
    sagittal = sagittal_planes(anatomy, plan, rng)
    axial = axial_planes(anatomy, plan, rng)
    context = _context(anatomy, scanner, uids)
    labels: dict[str, NDArray[Any]] = {}
    written = []
    jobs = (("sagittal", sagittal, ("t2", "t1")), ("axial", axial, ("t2",)))
    number = 1
    for kind, planes, weightings in jobs:
        images, maps = _pictures(anatomy, planes, scanner, weightings, kind, rng)
        for weighting in weightings:
            role = f"{kind}_{weighting}"
            written.append(_write_series(out_dir, role, images[weighting], planes, scanner, context, uids, number, rng))
            number += 1
        labels[kind] = np.stack(maps)
        labels[f"{kind}_affines"] = np.stack([plane.affine for plane in planes])
    truth = StudyTruth(
        seed=anatomy.seed,
        protocol=protocol,
        study_instance_uid=str(context.StudyInstanceUID),
        frame_of_reference_uid=str(context.FrameOfReferenceUID),
        age_years=int(anatomy.age),
        sex="M" if anatomy.male else "F",
        levels=tuple(level_truth(anatomy, name) for name in TRUTH_LEVELS),
        series=tuple(written),
    )
    if with_truth:
        (out_dir / "truth.json").write_text(json.dumps(truth.as_json(), indent=1), encoding="utf-8")
    if with_labels:
        np.savez_compressed(out_dir / "labels.npz", **labels)  # type: ignore[arg-type]
    return truth


def study_files(anatomy: Anatomy, out_dir: Path, *, seed: int = 0) -> StudyTruth:
    """A small, quickly made study (few, coarser slices through the two lowest discs) for demonstrations and tests."""
    return render_study(anatomy, out_dir, seed=seed, protocol="small")


def _pictures(
    anatomy: Anatomy,
    planes: list[Plane],
    scanner: Scanner,
    weightings: tuple[str, ...],
    kind: str,
    rng: np.random.Generator,
) -> tuple[dict[str, list[Field]], list[NDArray[np.uint8]]]:
    scene = solve_scene(anatomy)
    plans = {w: draw_acquisition(rng, scanner, planes[0].pixel_mm) for w in weightings}
    images: dict[str, list[Field]] = {w: [] for w in weightings}
    maps = []
    for plane in planes:
        painted = paint_plane(scene, plane, scanner, weightings, kind)
        maps.append(painted.labels)
        for w in weightings:
            images[w].append(expose(painted, w, plans[w], rng))
    return images, maps


def sagittal_planes(anatomy: Anatomy, plan: Protocol, rng: np.random.Generator) -> list[Plane]:
    """Parallel sagittal slices centred near L3-L4, turned by a degree or two; order of slices at random."""
    pixel = float(rng.uniform(*plan.sagittal_pixel_mm))
    step = float(rng.uniform(*plan.sagittal_step_mm))
    size = plan.sagittal_size
    centre, axes = anatomy.curve.frame(anatomy.discs[anatomy.disc_index("L3-L4")].t)
    yaw = float(np.arctan2(-axes[0][1], axes[0][0]) * 0.5 + rng.normal(0, 0.012))
    column = np.array([np.sin(yaw), np.cos(yaw), 0.0])
    row = np.array([0.0, 0.0, -1.0])
    normal = np.cross(column, row)
    centre = centre + np.array([rng.normal(0, 2), rng.normal(6, 6), rng.normal(2, 7)])
    first = -(plan.sagittal_slices - 1) / 2 * step
    order = 1.0 if rng.random() < 0.5 else -1.0
    planes = []
    for i in range(plan.sagittal_slices):
        origin = centre + normal * order * (first + i * step) - (size - 1) / 2 * pixel * (column + row)
        planes.append(Plane(_tidy(origin), column, row, round(pixel, 4), (size, size), round(step * 0.9, 2)))
    return planes


def axial_planes(anatomy: Anatomy, plan: Protocol, rng: np.random.Generator) -> list[Plane]:
    """One block along the scanner's axis, or a stack along each disc; lowest slice first or last at random, now and then one missing."""
    pixel = float(rng.uniform(*plan.axial_pixel_mm))
    step = float(rng.uniform(*plan.axial_step_mm))
    gap = float(rng.uniform(0.85, 1.0))
    upwards = rng.random() < 0.5
    if plan.axial == "block":
        count = int(rng.integers(plan.axial_slices[0], plan.axial_slices[1] + 1))
        low = anatomy.curve.frame(anatomy.discs[anatomy.disc_index("L5-S1")].t)[0]
        high = anatomy.curve.frame(anatomy.discs[anatomy.disc_index("L1-L2")].t)[0]
        tilt = float(rng.normal(-0.05, 0.04))
        u, v = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), np.sin(tilt)])
        w = np.cross(u, v)
        middle = (low + high) / 2
        reach = float((high - low) @ w) / 2
        start = -reach - rng.uniform(*plan.below_mm)
        offsets = start + step * np.arange(count)
        targets = [(middle + w * offset, u, v) for offset in offsets]
        # the block's pictures share one place; between the two ends the spine wanders in them
        shift = float(rng.normal(14, 4))
        targets = [(point + v * shift, a, b) for point, a, b in targets]
    else:
        targets = []
        stacks = len(plan.axial_levels)
        if plan.fewest_levels is not None:
            stacks = int(rng.integers(plan.fewest_levels, stacks + 1))
        for name in plan.axial_levels[-stacks:]:
            disc = anatomy.discs[anatomy.disc_index(name)]
            count = int(rng.integers(plan.axial_slices[0], plan.axial_slices[1] + 1))
            point, axes = anatomy.curve.frame(disc.t)
            tilt = float(np.arctan2(axes[1][2], axes[1][1]) + rng.normal(0, 0.06))
            u, v = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), np.sin(tilt)])
            w = np.cross(u, v)
            first = -(count - 1) / 2 + rng.uniform(-0.5, 0.5)
            targets += [(point + w * step * (first + i) + v * 10.0, u, v) for i in range(count)]
    if not upwards:
        targets.reverse()
    if plan.incomplete and rng.random() < plan.incomplete:
        del targets[int(rng.integers(1, len(targets) - 1))]
    size = plan.axial_size
    jitter = np.array([rng.normal(0, 3), rng.normal(0, 4), 0])
    return [
        Plane(
            _tidy(point + jitter - (size - 1) / 2 * pixel * (u + v)),
            u,
            v,
            round(pixel, 4),
            (size, size),
            round(step * gap, 2),
        )
        for point, u, v in targets
    ]


def _tidy(point: FloatArray) -> FloatArray:
    """Six decimals, as they stand in the header."""
    return np.round(point, 6)


class _Uids:
    """UIDs that depend on the study's key and a name only."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, *name: object) -> UID:
        return generate_uid(entropy_srcs=[self._key, *(str(part) for part in name)])


def _context(anatomy: Anatomy, scanner: Scanner, uids: _Uids) -> Dataset:
    """Patient, study and equipment attributes that all series share."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = MRImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20200102"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.AccessionNumber = ""
    ds.Modality = "MR"
    ds.Manufacturer = "recess phantom"
    ds.ManufacturerModelName = "simulated spine"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Lumbar spine, simulated"
    ds.PatientName = f"PHANTOM^{anatomy.seed}"
    ds.PatientID = f"PHANTOM-{anatomy.seed}"
    ds.PatientBirthDate = f"{2019 - int(anatomy.age):04d}0601"
    ds.PatientSex = "M" if anatomy.male else "F"
    ds.PatientAge = f"{int(anatomy.age):03d}Y"
    ds.BodyPartExamined = "LSPINE"
    ds.MagneticFieldStrength = f"{scanner.tesla:g}"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = uids("study")
    ds.FrameOfReferenceUID = uids("frame")
    ds.PositionReferenceIndicator = ""
    ds.StudyID = str(anatomy.seed)
    return ds


def _write_series(
    out_dir: Path,
    role: str,
    images: list[Field],
    planes: list[Plane],
    scanner: Scanner,
    context: Dataset,
    uids: _Uids,
    number: int,
    rng: np.random.Generator,
) -> SeriesTruth:
    folder = out_dir / role
    folder.mkdir(parents=True, exist_ok=True)
    weighting = role.rsplit("_", 1)[1]
    top = float(np.percentile(np.stack([image[::4, ::4] for image in images]), 99.5))
    scale = float(rng.uniform(*_GREY)) / max(top, 1e-6)
    series = uids("series", role)
    spacing = _spacing(planes)
    sops = []
    for i, (image, plane) in enumerate(zip(images, planes, strict=True)):
        ds = Dataset()
        ds.update(context)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        ds.SOPInstanceUID = uids("instance", role, i)
        ds.SeriesInstanceUID = series
        ds.SeriesNumber = number
        ds.InstanceNumber = i + 1
        ds.AcquisitionNumber = 1
        ds.SeriesDescription = f"{role.split('_')[0]} {weighting} tse"
        ds.ScanningSequence = "SE"
        ds.SequenceVariant = "SK"
        ds.ScanOptions = ""
        ds.MRAcquisitionType = "2D"
        ds.RepetitionTime = f"{scanner.tr[weighting]:.0f}"
        ds.EchoTime = f"{scanner.te[weighting]:.1f}"
        ds.EchoTrainLength = 3 if weighting == "t1" else 17
        ds.SliceThickness = f"{plane.thickness:.2f}"
        ds.SpacingBetweenSlices = f"{spacing:.4f}"
        ds.ImagePositionPatient = [f"{x:.6f}" for x in plane.origin]
        ds.ImageOrientationPatient = [f"{x:.8f}" for x in (*plane.column, *plane.row)]
        ds.PixelSpacing = [f"{plane.pixel_mm:.4f}"] * 2
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.Rows, ds.Columns = plane.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.WindowCenter, ds.WindowWidth = f"{0.45 * top * scale:.0f}", f"{0.9 * top * scale:.0f}"
        ds.PixelData = np.clip(np.rint(image * scale), 0, 4095).astype("<u2").tobytes()
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta = meta
        dcmwrite(folder / f"{i + 1:03d}.dcm", ds, enforce_file_format=True)
        sops.append(str(ds.SOPInstanceUID))
    return SeriesTruth(role, str(series), tuple(sops))


def _spacing(planes: list[Plane]) -> float:
    """Smallest distance between neighbouring slices of one direction (mm)."""
    steps = [
        abs(float((b.origin - a.origin) @ a.normal))
        for a, b in pairwise(planes)
        if float(a.normal @ b.normal) > 0.99999
    ]
    return min(steps)
