"""DICOM SEG out of label maps: binary, one segment per structure, level and side, on the grid of the source slices.

Codes come from configs/anatomy.toml. What was encoded is read back by the functional groups alone and compared voxel for
voxel before the file is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from configs.loader import LabelSet, anatomy
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
from dicom_io.errors import ReadBackError
from dicom_io.geometry import Volume
from dicom_io.study import Study

_SERIES_NUMBER = 9001
_POSITION_MM = 1e-3  # how well a frame's place must agree when read back
_LATERALITY = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
_DISC_TISSUE = frozenset({"disc", "herniated_material"})
_ABNORMAL = frozenset({"herniated_material"})

IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Segment:
    """One segment: the value in the label map that belongs to it, its name, code, region and side (the patient's)."""

    value: int
    label: str
    code: tuple[str, str, str]
    colour: tuple[int, int, int]
    laterality: str | None = None
    region: tuple[str, str, str] | None = None
    abnormal: bool = False


def segments_by_level(
    label_map: IntArray, label_set: LabelSet, level_of_slice: Sequence[str | None]
) -> tuple[IntArray, tuple[Segment, ...]]:
    """Give every structure of every level a value of its own.

    `label_map` (slice, row, column) holds the numbers of `label_set`; `level_of_slice` names the level of each slice (None:
    not assigned to a level).
    Returns a new map and the segments that occur in it.
    """
    if label_map.shape[0] != len(level_of_slice):
        raise ValueError(f"{len(level_of_slice)} levels for {label_map.shape[0]} slices")
    known = anatomy().disc_codes
    result = np.zeros(label_map.shape, dtype=np.uint16)
    segments: list[Segment] = []
    for level in dict.fromkeys(level_of_slice):
        slices = np.array([name == level for name in level_of_slice])
        for label in label_set.label:
            mask = (label_map == label.value) & slices[:, None, None]
            if not mask.any():
                continue
            value = len(segments) + 1
            result[mask] = value
            side = f" {label.laterality}" if label.laterality else ""
            name = label.name.removesuffix(f"_{label.laterality}").replace("_", " ")
            region = known.get(level or "")
            own = region if label.name in _DISC_TISSUE else None
            code = own or label.code or ("85756007", "SCT", "Tissue")
            segments.append(
                Segment(
                    value,
                    f"{level + ' ' if level else ''}{name}{side}",
                    code,
                    label.colour,
                    label.laterality,
                    region,
                    label.name in _ABNORMAL,
                )
            )
    return result, tuple(segments)


def write_seg(
    path: Path,
    label_map: IntArray,
    segments: Sequence[Segment],
    volume: Volume,
    study: Study,
    result_key: str,
    *,
    number: int = 1,
) -> Written:
    """Write one SEG for `label_map` (slice, row, column) on the grid of `volume`; `number` tells several of one result apart.

    Raises SourceNotReferable when the study's UIDs cannot be named, ValueError when the map holds no segment, and
    ReadBackError (nothing is kept) when what was encoded is not what was given.
    """
    check_referable(study, [volume])
    if label_map.shape != volume.grid.shape:
        raise ValueError(f"labels {label_map.shape} do not fit the grid {volume.grid.shape}")
    present = [segment for segment in segments if np.any(label_map == segment.value)]
    if not present:
        raise ValueError("no segment has a voxel")
    masks = np.stack([label_map == segment.value for segment in present], axis=-1).astype(np.uint8)
    dataset = hd.seg.Segmentation(
        source_images=source_datasets(study, volume),
        pixel_array=masks,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(at + 1, item, result_key, number) for at, item in enumerate(present)],
        series_instance_uid=uid_from(result_key, "seg series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uid_from(result_key, "seg", number),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=_software_version(),
        device_serial_number=SERIAL_NUMBER,
        content_label="RECESS",
        content_description="Structures of the lumbar spine, outlined by software",
        omit_empty_frames=True,
        dimension_organization_type=None,
    )
    dataset.SeriesDescription = "recess segmentation (research software)"
    stamp(dataset, study)
    _steady_dimensions(dataset, result_key, number)
    written = np.zeros(label_map.shape, dtype=np.int64)
    for at, mask in enumerate(read_back(dataset, volume)):
        written[mask] = present[at].value
    expected = np.where(np.isin(label_map, [segment.value for segment in present]), label_map, 0)
    if not np.array_equal(written, expected):
        raise ReadBackError(f"{path.name}: the segmentation read back differs from the label map; not kept")
    return keep(dataset, path)


def read_back(dataset: Dataset, volume: Volume) -> list[NDArray[np.bool_]]:
    """Masks (slice, row, column) of every segment, placed by each frame's own position; no highdicom in here.

    Raises ReadBackError when a frame lies on no slice of `volume` or has another orientation or spacing.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: int(dataset.NumberOfFrames) * rows * columns].reshape(-1, rows, columns).astype(bool)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    masks = [np.zeros(volume.grid.shape, dtype=bool) for _ in dataset.SegmentSequence]
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        orientation = _group(group, shared, "PlaneOrientationSequence").ImageOrientationPatient
        spacing = _group(group, shared, "PixelMeasuresSequence").PixelSpacing
        position = np.array(_group(group, shared, "PlanePositionSequence").ImagePositionPatient, dtype=np.float64)
        corner = np.array([0.0, rows - 1.0, columns - 1.0])
        row, column = np.array(orientation[3:], dtype=float), np.array(orientation[:3], dtype=float)
        far = position + row * float(spacing[0]) * corner[1] + column * float(spacing[1]) * corner[2]
        index = int(np.round(volume.grid.to_index(position)[0]))
        expected = volume.grid.to_lps(np.array([[index, 0, 0], [index, corner[1], corner[2]]]))
        if not 0 <= index < volume.grid.shape[0] or not np.allclose([position, far], expected, atol=_POSITION_MM * 10):
            raise ReadBackError("a frame of the segmentation lies on no source slice")
        number = int(_group(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        masks[number - 1][index] = frame
    return masks


def _group(group: Dataset, shared: Dataset, keyword: str) -> Dataset:
    return (group if keyword in group else shared)[keyword].value[0]


def _description(number: int, segment: Segment, result_key: str, object_number: int) -> hd.seg.SegmentDescription:
    category = codes.SCT.MorphologicallyAbnormalStructure if segment.abnormal else codes.SCT.AnatomicalStructure
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=category,
        segmented_property_type=Code(*segment.code),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="recess", family=codes.DCM.ArtificialIntelligence, version=_software_version()
        ),
        tracking_uid=uid_from(result_key, "segment", object_number, segment.label),
        tracking_id=segment.label,
        anatomic_regions=[Code(*segment.region)] if segment.region else None,
        display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.laterality:
        modifier = hd.sr.CodedConcept.from_code(_LATERALITY[segment.laterality])
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return description


def _software_version() -> str:
    return version("recess")


def _steady_dimensions(dataset: Dataset, result_key: str, number: int) -> None:
    """Replace the random dimension organization UID by one that repeats."""
    uid = uid_from(result_key, "seg dimensions", number)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
