"""DICOM structured report (TID 1500, Comprehensive 3D SR): every finding with its measurements, severity and side.

What a finding means is not known here: callers hand in plain values. Codes stand in configs/anatomy.toml; quantities are
those of PS3.16 CID 7469 and 7470.
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
from pydicom.uid import MRImageStorage

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
    """One finding: what identifies it, `kind` and `severity` as in configs/anatomy.toml, level, side, probability."""

    identifier: str
    kind: str
    level: str | None = None
    laterality: Literal["left", "right"] | None = None
    severity: str | None = None
    probability: float | None = None
    measurements: tuple[MeasuredValue, ...] = ()
    images: tuple[SourceInstance, ...] = ()


def write_sr(
    path: Path,
    findings: Sequence[ReportedFinding],
    volumes: Sequence[Volume],
    study: Study,
    result_key: str,
    *,
    segmentations: Sequence[Path] = (),
) -> Written:
    """Write one structured report. `volumes` are the stacks that findings refer to; `segmentations` are SEG files of ours.

    Raises SourceNotReferable when the study's UIDs cannot be named, ValueError when there is no finding to report.
    """
    check_referable(study, volumes)
    if not findings:
        raise ValueError("a structured report needs at least one finding")
    sources = {header.SOPInstanceUID: header for volume in volumes for header in source_datasets(study, volume)}
    used = _used(findings, sources)
    evidence = [*used, *(_reference(segmentation) for segmentation in segmentations)]
    context = hd.sr.ObservationContext(observer_device_context=_observer(result_key))
    report = hd.sr.MeasurementReport(
        observation_context=context,
        procedure_reported=_PROCEDURE,
        imaging_measurements=[_group(finding, set(sources), result_key) for finding in findings],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=used,
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
    return keep(dataset, path)


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
    named += [value.source for finding in findings for value in finding.measurements if value.source is not None]
    used = dict.fromkeys(image.sop_instance_uid for image in named if image.sop_instance_uid in sources)
    return [sources[uid] for uid in used] or list(sources.values())


def _reference(path: Path) -> Dataset:
    """What a report needs to know of a SEG that this program wrote."""
    from pydicom import dcmread

    return dcmread(path, stop_before_pixels=True)


def _group(finding: ReportedFinding, known: set[str], result_key: str) -> Any:
    tables = anatomy()
    site = Code(*tables.disc_codes[finding.level]) if finding.level in tables.disc_codes else _LUMBAR_SPINE
    measurements = [_measurement(value, known) for value in finding.measurements]
    if finding.probability is not None:
        probability = hd.sr.Measurement(
            name=codes.DCM.Probability, value=float(finding.probability), unit=Code("1", "UCUM", "no units")
        )
        measurements.append(probability)
    evaluations = []
    if finding.severity is not None:
        severity = Code(*tables.severity_codes[finding.severity])
        evaluations.append(hd.sr.QualitativeEvaluation(Code("246112005", "SCT", "Severity"), severity))
    code = tables.finding_codes.get(finding.kind)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=uid_from(result_key, "finding", finding.identifier), identifier=finding.identifier
        ),
        finding_type=Code(*code) if code else codes.DCM.Finding,
        finding_sites=[hd.sr.FindingSite(site, laterality=_LATERALITY.get(finding.laterality or ""))],
        algorithm_id=hd.sr.AlgorithmIdentification(name="recess", version=version("recess")),
        measurements=measurements or None,
        qualitative_evaluations=evaluations or None,
        source_images=[_group_source(image) for image in finding.images if image.sop_instance_uid in known] or None,
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
        source = value.source
        images = [
            hd.sr.SourceImageForMeasurement(
                source.sop_class_uid or MRImageStorage,
                source.sop_instance_uid,
                [source.frame] if source.frame else None,
            )
        ]
    return hd.sr.Measurement(
        name=_QUANTITIES[value.quantity],
        value=round(float(value.value), 4),
        unit=_UNITS[value.unit],
        referenced_images=images,
        referenced_coordinates=coordinates,
    )
