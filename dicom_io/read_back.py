"""Reads results once more, with other code than wrote them, before they are kept: pydicom and numpy alone.

Frames of a segmentation are placed by their own position and direction; a report is walked item by item (PS3.16 TID 1500).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from configs.loader import anatomy
from dicom_io.errors import ReadBackError
from dicom_io.geometry import FloatArray, Volume

if TYPE_CHECKING:
    from dicom_io.sr import ReportedFinding

IntArray = NDArray[np.integer[Any]]

_POSITION_MM = 0.01  # how well a place must agree when read back
_RELATIVE = 1e-3  # how well a value must agree: it is written with four decimals
_FINDING, _SITE, _LATERALITY, _SEVERITY = "121071", "363698007", "272741003", "246112005"
_GROUP, _TRACKING, _PROBABILITY, _SEGMENT, _SOURCE = "125007", "112039", "122157", "121191", "121112"
_SIDES = {"7771000": "left", "24028007": "right"}


def segment_masks(dataset: Dataset, volume: Volume) -> list[NDArray[np.bool_]]:
    """Masks (slice, row, column) of every segment of a binary SEG, on the slices of `volume`.

    Raises ReadBackError when a frame lies on no slice of `volume` or has another orientation or spacing.
    """
    masks = [np.zeros(volume.grid.shape, dtype=bool) for _ in dataset.SegmentSequence]
    for frame in _frames(dataset):
        masks[frame.segment - 1][_slice_of(frame, volume)] = frame.mask
    return masks


def _slice_of(frame: _Frame, volume: Volume) -> int:
    """Index of the slice of `volume` that a frame lies on, pixel on pixel. ReadBackError when there is none."""
    rows, columns = frame.mask.shape
    index = int(np.round(volume.grid.to_index(frame.to_lps(0.0, 0.0))[0]))
    corners = [frame.to_lps(0.0, 0.0), frame.to_lps(rows - 1.0, columns - 1.0)]
    expected = volume.grid.to_lps(np.array([[index, 0.0, 0.0], [index, rows - 1.0, columns - 1.0]]))
    if not 0 <= index < volume.grid.shape[0] or not np.allclose(corners, expected, rtol=0, atol=_POSITION_MM):
        raise ReadBackError("a frame of the segmentation lies on no source slice")
    return index


def segment_centroids(dataset: Dataset) -> dict[int, FloatArray]:
    """Middle (3,) in LPS mm of every segment of a binary SEG, by number; from the frames' own headers, no source needed."""
    points: dict[int, list[FloatArray]] = {}
    for frame in _frames(dataset):
        rows, columns = np.nonzero(frame.mask)
        points.setdefault(frame.segment, []).append(frame.to_lps(rows, columns))
    return {number: np.concatenate(parts).mean(axis=0) for number, parts in points.items()}


def check_segmentation(dataset: Dataset, volume: Volume, label_map: IntArray, values: Sequence[int]) -> None:
    """Raise ReadBackError unless segment n of the SEG is exactly where `label_map` has the n-th of `values`.

    The middle of every segment must lie within a pixel of the label map's, by the places that the frames tell.
    """
    if len(dataset.SegmentSequence) != len(values):
        raise ReadBackError(f"{len(dataset.SegmentSequence)} segments read back, {len(values)} were given")
    left = np.where(np.isin(label_map, values), label_map, 0)  # what no frame has accounted for yet
    seen = {number: (np.zeros(3), np.zeros(3), 0) for number in range(1, len(values) + 1)}
    for frame in _frames(dataset):
        if frame.segment not in seen:
            raise ReadBackError(f"a frame read back belongs to segment {frame.segment}, which was not given")
        index, value = _slice_of(frame, volume), values[frame.segment - 1]
        if not np.array_equal(frame.mask, left[index] == value):
            raise ReadBackError(f"segment {frame.segment} read back differs from the label map")
        left[index][frame.mask] = 0
        rows, columns = np.nonzero(frame.mask)
        if len(rows):
            told, given, count = seen[frame.segment]
            here = np.array([index, rows.mean(), columns.mean()])
            told = told + len(rows) * frame.to_lps(here[1], here[2])
            given = given + len(rows) * volume.grid.to_lps(here[None])[0]
            seen[frame.segment] = (told, given, count + len(rows))
    if left.any():
        raise ReadBackError("what was read back leaves out a part of the label map")
    pixel_mm = min(volume.grid.spacing[1:])
    for number, (told, given, count) in seen.items():
        if not count or not np.linalg.norm(told - given) <= pixel_mm * count:
            raise ReadBackError(f"segment {number} read back lies elsewhere in the patient")


@dataclass(frozen=True)
class _Frame:
    """One frame of a SEG: its segment's number, mask (rows, columns) and place."""

    segment: int
    mask: NDArray[np.bool_]
    origin: FloatArray
    down: FloatArray
    right: FloatArray

    def to_lps(self, row: FloatArray | IntArray | float, column: FloatArray | IntArray | float) -> FloatArray:
        """LPS mm (..., 3) of rows and columns."""
        rows, columns = np.asarray(row, dtype=np.float64), np.asarray(column, dtype=np.float64)
        return self.origin + rows[..., None] * self.down + columns[..., None] * self.right


def _frames(dataset: Dataset) -> Iterator[_Frame]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: int(dataset.NumberOfFrames) * rows * columns].reshape(-1, rows, columns).astype(bool)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for mask, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        turn = np.array(_macro(group, shared, "PlaneOrientationSequence").ImageOrientationPatient, dtype=np.float64)
        spacing = _macro(group, shared, "PixelMeasuresSequence").PixelSpacing
        place = _macro(group, shared, "PlanePositionSequence").ImagePositionPatient
        number = int(_macro(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        down, right = turn[3:] * float(spacing[0]), turn[:3] * float(spacing[1])
        yield _Frame(number, mask, np.array(place, dtype=np.float64), down, right)


def _macro(group: Dataset, shared: Dataset, keyword: str) -> Dataset:
    return (group if keyword in group else shared)[keyword].value[0]


@dataclass(frozen=True)
class ReadValue:
    """A number of a measurement group: value, unit, and the points (n, 3) in LPS mm and image it is tied to."""

    value: float
    unit: str
    points: FloatArray | None = None
    frame_of_reference_uid: str = ""
    image: tuple[str, int | None] | None = None


@dataclass(frozen=True)
class ReadGroup:
    """What one measurement group of a structured report says; codes as they stand."""

    identifier: str
    site: str
    laterality: str | None
    severity: str | None
    segment: tuple[str, int] | None
    values: tuple[ReadValue, ...]
    probability: ReadValue | None
    images: frozenset[str] = field(default_factory=frozenset)


def measurement_groups(dataset: Dataset) -> list[ReadGroup]:
    """The measurement groups (PS3.16 TID 1411, 1501) of a structured report, in order."""
    return [_read_group(item) for item in _walk(dataset) if item.ValueType == "CONTAINER" and _name(item) == _GROUP]


def check_report(dataset: Dataset, findings: Sequence[ReportedFinding]) -> None:
    """Raise ReadBackError unless the report says of every finding its level, side, severity, values, places and segment."""
    groups = measurement_groups(dataset)
    if [group.identifier for group in groups] != [finding.identifier for finding in findings]:
        raise ReadBackError("the structured report read back holds other findings")
    for group, finding in zip(groups, findings, strict=True):
        wrong = _difference(group, finding)
        if wrong:
            raise ReadBackError(f"the structured report read back differs in {wrong} of {finding.identifier}")


def _difference(group: ReadGroup, finding: ReportedFinding) -> str:
    tables = anatomy()
    site = tables.disc_codes.get(finding.level or "")
    severity = tables.severity_codes[finding.severity][0] if finding.severity else None
    segment = finding.segment and (finding.segment.sop_instance_uid, finding.segment.number)
    if site and group.site != site[0]:
        return "the level"
    if group.laterality != finding.laterality:
        return "the side"
    if group.severity != severity:
        return "the severity"
    if group.segment != (segment or None):
        return "the segment"
    if len(group.values) != len(finding.measurements):
        return "the number of values"
    if (group.probability is None) != (finding.probability is None):
        return "the probability"
    for read, given in zip(group.values, finding.measurements, strict=True):
        if read.unit != given.unit or not abs(read.value - given.value) <= _RELATIVE * max(abs(given.value), 1.0):
            return "a value"
        if given.points_lps is not None and given.frame_of_reference_uid:
            placed = read.points is not None and read.frame_of_reference_uid == given.frame_of_reference_uid
            if not placed or not np.allclose(read.points, given.points_lps, rtol=0, atol=_POSITION_MM):  # type: ignore[arg-type]
                return "a place"
        if given.source is not None and read.image != (given.source.sop_instance_uid, given.source.frame):
            return "a source image"
    return ""


def _read_group(group: Dataset) -> ReadGroup:
    first: dict[str, Dataset] = {}
    numbers: list[tuple[str, ReadValue]] = []
    segment: tuple[str, int] | None = None
    images: set[str] = set()
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            numbers.append((_name(item), _read_value(item)))
        elif item.ValueType == "IMAGE":
            reference = item.ReferencedSOPSequence[0]
            if _name(item) == _SEGMENT:
                segment = (str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber))
            elif _name(item) == _SOURCE:
                images.add(str(reference.ReferencedSOPInstanceUID))
        else:
            first.setdefault(_name(item), item)
    site = first[_SITE]
    sides = [_code(item) for item in site.get("ContentSequence", []) if _name(item) == _LATERALITY]
    return ReadGroup(
        identifier=str(first[_TRACKING].TextValue),
        site=_code(site),
        laterality=_SIDES[sides[0]] if sides else None,
        severity=_code(first[_SEVERITY]) if _SEVERITY in first else None,
        segment=segment,
        values=tuple(value for name, value in numbers if name != _PROBABILITY),
        probability=next((value for name, value in numbers if name == _PROBABILITY), None),
        images=frozenset(images),
    )


def _read_value(item: Dataset) -> ReadValue:
    measured = item.MeasuredValueSequence[0]
    tied: Mapping[str, Dataset] = {child.ValueType: child for child in item.get("ContentSequence", [])}
    coordinates, image = tied.get("SCOORD3D"), tied.get("IMAGE")
    reference = image.ReferencedSOPSequence[0] if image is not None else None
    points = None if coordinates is None else np.array(coordinates.GraphicData, dtype=np.float64).reshape(-1, 3)
    return ReadValue(
        value=float(measured.NumericValue),
        unit=str(measured.MeasurementUnitsCodeSequence[0].CodeValue),
        points=points,
        frame_of_reference_uid="" if coordinates is None else str(coordinates.ReferencedFrameOfReferenceUID),
        image=None if reference is None else (str(reference.ReferencedSOPInstanceUID), _frame_number(reference)),
    )


def _frame_number(reference: Dataset) -> int | None:
    return int(reference.ReferencedFrameNumber) if "ReferencedFrameNumber" in reference else None


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from _walk(child)


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""


def _code(item: Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeValue)
