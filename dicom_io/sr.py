"""DICOM structured report (TID 1500, Comprehensive 3D SR): every finding with its measurements, severity and side.

A finding is a group of TID 1501, extended by the segment that shows it as in TID 1411 (which by itself would allow no points);
each value is tied to its image and its points. What a finding means is not known here. Codes: configs/anatomy.toml and
PS3.16 CID 7469, 7470.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage, SegmentationStorage

from configs.loader import anatomy
from dicom_io.derived import (
    MANUFACTURER,
    MODEL_NAME,
    SERIAL_NUMBER,
    Written,
    check_referable,
    keep,
    source_datasets,
    stamp,
    uid_from,
)
from dicom_io.geometry import SourceInstance, Volume
from dicom_io.read_back import check_report
from dicom_io.seg import SegmentReference, WrittenSegmentation
from dicom_io.study import Study

_SERIES_NUMBER = 9002
_LUMBAR_SPINE = Code("122496007", "SCT", "Lumbar spine")
_PROCEDURE = Code("MR", "DCM", "Magnetic Resonance")
_LATERALITY = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
_QUANTITIES = {
    "depth": Code("131197000", "SCT", "Depth"),
    "area": Code("42798000", "SCT", "Area"),
    "diameter": Code("81827009", "SCT", "Diameter"),
    "length": Code("410668003", "SCT", "Length"),
    "distance": Code("121206", "DCM", "Distance"),
}
_UNITS = {"mm": codes.UCUM.Millimeter, "mm2": codes.UCUM.SquareMillimeter}

Quantity = Literal["depth", "area", "diameter", "length", "distance"]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class MeasuredValue:
    """A value in mm or mm2, the two LPS points it was taken between, and the image it was taken on (where known)."""

    quantity: Quantity
    value: float
    unit: Literal["mm", "mm2"]
    points_lps: tuple[Point, Point] | None = None
    frame_of_reference_uid: str = ""
    source: SourceInstance | None = None


@dataclass(frozen=True)
class ReportedFinding:
    """One finding: what identifies it, `kind` and `severity` as in configs/anatomy.toml, level, side, probability.

    `segment` is the segment that shows it, `images` are those it was seen on, `place` is an LPS point of it and the UID of the
    frame of reference in which the point stands.
    """

    identifier: str
    kind: str
    level: str | None = None
    laterality: Literal["left", "right"] | None = None
    severity: str | None = None
    probability: float | None = None
    measurements: tuple[MeasuredValue, ...] = ()
    images: tuple[SourceInstance, ...] = ()
    segment: SegmentReference | None = None
    place: tuple[Point, str] | None = None


def write_sr(
    path: Path,
    findings: Sequence[ReportedFinding],
    volumes: Sequence[Volume],
    study: Study,
    result_key: str,
    *,
    segmentations: Sequence[WrittenSegmentation] = (),
) -> Written:
    """Write one structured report. `volumes` are the stacks that findings refer to; `segmentations` are SEG objects of ours.

    Raises SourceNotReferable when the study's UIDs cannot be named, ValueError when there is no finding to report, and
    ReadBackError (nothing is kept) when what was encoded says anything else than what was given.
    """
    check_referable(study, volumes)
    if not findings:
        raise ValueError("a structured report needs at least one finding")
    sources = {header.SOPInstanceUID: header for volume in volumes for header in source_datasets(study, volume)}
    used = _used(findings, sources)
    evidence = [*used, *(_reference(segmentation, study) for segmentation in segmentations)]
    context = hd.sr.ObservationContext(observer_device_context=_observer(result_key))
    report = hd.sr.MeasurementReport(
        observation_context=context,
        procedure_reported=_PROCEDURE,
        imaging_measurements=[_group(finding, set(sources), result_key) for finding in findings],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=[header for header in used if header.SOPClassUID == MRImageStorage] or None,
    )
    dataset = hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=report[0],
        series_instance_uid=uid_from(result_key, "sr series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uid_from(result_key, "sr"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    dataset.SeriesDescription = "recess measurements (research software)"
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.SoftwareVersions = version("recess")
    dataset.DeviceSerialNumber = SERIAL_NUMBER
    stamp(dataset, study)
    return keep(dataset, path, lambda read: check_report(read, findings))


def _observer(result_key: str) -> Any:
    return hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=uid_from(result_key, "device"),
            name=MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=SERIAL_NUMBER,
        ),
    )


def _used(findings: Sequence[ReportedFinding], sources: dict[str, Dataset]) -> list[Dataset]:
    """Headers of the images that findings refer to; of all images when none refers to one."""
    named = [image for finding in findings for image in finding.images]
    named += [image for finding in findings if finding.segment for image in finding.segment.images]
    named += [value.source for finding in findings for value in finding.measurements if value.source is not None]
    used = dict.fromkeys(image.sop_instance_uid for image in named if image.sop_instance_uid in sources)
    return [sources[uid] for uid in used] or list(sources.values())


def _reference(segmentation: WrittenSegmentation, study: Study) -> Dataset:
    """What a report needs to know of a SEG that this program wrote."""
    header = Dataset()
    header.StudyInstanceUID = study.study_instance_uid
    header.SeriesInstanceUID = segmentation.series_instance_uid
    header.SOPClassUID = segmentation.sop_class_uid
    header.SOPInstanceUID = segmentation.sop_instance_uid
    return header


def _group(finding: ReportedFinding, known: set[str], result_key: str) -> Any:
    tables = anatomy()
    site = Code(*tables.disc_codes[finding.level]) if finding.level in tables.disc_codes else _LUMBAR_SPINE
    measurements = [_measurement(value, known) for value in finding.measurements]
    if finding.probability is not None:
        measurements.append(_probability(finding, known))
    evaluations = []
    if finding.severity is not None:
        severity = Code(*tables.severity_codes[finding.severity])
        evaluations.append(hd.sr.QualitativeEvaluation(Code("246112005", "SCT", "Severity"), severity))
    code = tables.finding_codes.get(finding.kind)
    images = [_group_source(image) for image in finding.images if image.sop_instance_uid in known]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=uid_from(result_key, "finding", finding.identifier), identifier=finding.identifier
        ),
        finding_type=Code(*code) if code else codes.DCM.Finding,
        finding_sites=[hd.sr.FindingSite(site, laterality=_LATERALITY.get(finding.laterality or ""))],
        algorithm_id=hd.sr.AlgorithmIdentification(name="recess", version=version("recess")),
        measurements=measurements or None,
        qualitative_evaluations=evaluations or None,
        source_images=images or None,
    )
    if finding.segment is not None:
        group[0].ContentSequence.extend(_segment(finding.segment))
    return group


def _segment(segment: SegmentReference) -> Any:
    return hd.sr.ReferencedSegment(
        SegmentationStorage,
        segment.sop_instance_uid,
        segment.number,
        source_images=[
            hd.sr.SourceImageForSegmentation(uid, sop, frames) for uid, sop, frames in _by_object(segment.images)
        ],
    )


def _by_object(images: Sequence[SourceInstance]) -> list[tuple[str, str, list[int] | None]]:
    """Class, instance and frames of each object that holds some of the images."""
    frames: dict[tuple[str, str], list[int]] = {}
    for image in images:
        of_object = frames.setdefault((image.sop_class_uid or MRImageStorage, image.sop_instance_uid), [])
        if image.frame:
            of_object.append(image.frame)
    return [(sop_class, sop, numbers or None) for (sop_class, sop), numbers in frames.items()]


def _probability(finding: ReportedFinding, known: set[str]) -> Any:
    """The finding's probability, tied to the first image it was seen on and to its place."""
    images = [image for image in finding.images if image.sop_instance_uid in known][:1]
    coordinates = None
    if finding.place is not None and finding.place[1]:
        point, frame_of_reference = finding.place
        coordinates = [
            hd.sr.CoordinatesForMeasurement3D(hd.sr.GraphicTypeValues3D.POINT, np.array([point]), frame_of_reference)
        ]
    return hd.sr.Measurement(
        name=codes.DCM.Probability,
        value=float(finding.probability or 0.0),
        unit=Code("1", "UCUM", "no units"),
        referenced_images=[_source(image) for image in images] or None,
        referenced_coordinates=coordinates,
    )


def _group_source(image: SourceInstance) -> Any:
    return hd.sr.SourceImageForMeasurementGroup(
        image.sop_class_uid or MRImageStorage, image.sop_instance_uid, [image.frame] if image.frame else None
    )


def _measurement(value: MeasuredValue, known: set[str]) -> Any:
    """One number with its place: the two points in the patient where given, else the image."""
    images, coordinates = None, None
    if value.points_lps is not None and value.frame_of_reference_uid:
        coordinates = [
            hd.sr.CoordinatesForMeasurement3D(
                hd.sr.GraphicTypeValues3D.POLYLINE, np.array(value.points_lps), value.frame_of_reference_uid
            )
        ]
    if value.source is not None and value.source.sop_instance_uid in known:
        images = [_source(value.source)]
    return hd.sr.Measurement(
        name=_QUANTITIES[value.quantity],
        value=round(float(value.value), 4),
        unit=_UNITS[value.unit],
        referenced_images=images,
        referenced_coordinates=coordinates,
    )


def _source(image: SourceInstance) -> Any:
    return hd.sr.SourceImageForMeasurement(
        image.sop_class_uid or MRImageStorage, image.sop_instance_uid, [image.frame] if image.frame else None
    )
