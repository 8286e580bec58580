"""DICOM SEG out of label maps: binary, one segment per structure, level and side, on the grid of the source slices.

Codes come from configs/anatomy.toml. What was encoded is read back by other code (dicom_io/read_back.py) and compared voxel
for voxel before the file is kept.
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
from pydicom.uid import MRImageStorage

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
from dicom_io.geometry import SourceInstance, Volume
from dicom_io.read_back import check_segmentation
from dicom_io.study import Study

_SERIES_NUMBER = 9001
_LATERALITY = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
_DISC_TISSUE = frozenset({"disc", "herniated_material"})
_ABNORMAL = frozenset({"herniated_material"})

IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Segment:
    """One segment: the value in the label map that belongs to it, its name, code, region and side (the patient's).

    `structure` is the name in configs/anatomy.toml, `level` that of the disc it belongs to (None: to no single one).
    """

    value: int
    label: str
    code: tuple[str, str, str]
    colour: tuple[int, int, int]
    structure: str = ""
    level: str | None = None
    laterality: str | None = None
    region: tuple[str, str, str] | None = None
    abnormal: bool = False


@dataclass(frozen=True)
class SegmentReference:
    """How another object names a segment: the SEG, the segment's number, and the images on which it was drawn."""

    sop_instance_uid: str
    number: int
    images: tuple[SourceInstance, ...]


@dataclass(frozen=True)
class WrittenSegmentation(Written):
    """A SEG that was written, with its segments in the order of their numbers (from 1) and the images of each."""

    segments: tuple[Segment, ...] = ()
    images: tuple[tuple[SourceInstance, ...], ...] = ()

    def reference(self, structure: str, level: str | None) -> SegmentReference | None:
        """The segment of a structure at a level; None when the SEG holds none."""
        for at, segment in enumerate(self.segments):
            if (segment.structure, segment.level) == (structure, level):
                return SegmentReference(self.sop_instance_uid, at + 1, self.images[at])
        return None


def segments_by_level(
    label_map: IntArray, label_set: LabelSet, level_of_slice: Sequence[str | None]
) -> tuple[IntArray, tuple[Segment, ...]]:
    """Give every structure of every level a value of its own, for slices that each belong to one level.

    `label_map` (slice, row, column) holds the numbers of `label_set`; `level_of_slice` names the level of each slice (None:
    not assigned to a level).
    Returns a new map and the segments that occur in it.
    """
    if label_map.shape[0] != len(level_of_slice):
        raise ValueError(f"{len(level_of_slice)} levels for {label_map.shape[0]} slices")
    parts = []
    for level in dict.fromkeys(level_of_slice):
        slices = np.array([name == level for name in level_of_slice])
        parts.append((level, label_set.names, np.broadcast_to(slices[:, None, None], label_map.shape)))
    return segments_by_part(label_map, label_set, parts)


def segments_by_part(
    label_map: IntArray,
    label_set: LabelSet,
    parts: Sequence[tuple[str | None, Sequence[str], NDArray[np.bool_]]],
) -> tuple[IntArray, tuple[Segment, ...]]:
    """Give every structure in every part a value of its own.

    `label_map` (slice, row, column) holds the numbers of `label_set`. A part is the level it belongs to (or None), the names
    of the structures that are taken from it, and the voxels (slice, row, column) that it has.
    Returns a new map and the segments that occur in it.
    """
    known = anatomy().disc_codes
    result = np.zeros(label_map.shape, dtype=np.uint16)
    segments: list[Segment] = []
    labelled = label_map > 0
    for level, structures, where in parts:
        places = np.nonzero(labelled & where)
        found = label_map[places]
        for label in label_set.label:
            mine = found == label.value
            if label.name not in structures or not mine.any():
                continue
            value = len(segments) + 1
            result[tuple(axis[mine] for axis in places)] = value
            side = f" {label.laterality}" if label.laterality else ""
            name = label.name.removesuffix(f"_{label.laterality}").replace("_", " ")
            region = known.get(level or "")
            own = region if label.name in _DISC_TISSUE else None
            segments.append(
                Segment(
                    value=value,
                    label=f"{level + ' ' if level else ''}{name}{side}",
                    code=own or label.code or ("85756007", "SCT", "Tissue"),
                    colour=label.colour,
                    structure=label.name,
                    level=level,
                    laterality=label.laterality,
                    region=region,
                    abnormal=label.name in _ABNORMAL,
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
) -> WrittenSegmentation:
    """Write one SEG for `label_map` (slice, row, column) on the grid of `volume`; `number` tells several of one result apart.

    Raises SourceNotReferable when the study's UIDs cannot be named, ValueError when the map holds no segment, and
    ReadBackError (nothing is kept) when what was encoded is not what was given.
    """
    check_referable(study, [volume])
    if label_map.shape != volume.grid.shape:
        raise ValueError(f"labels {label_map.shape} do not fit the grid {volume.grid.shape}")
    occurring = set(np.unique(label_map).tolist())
    present = [segment for segment in segments if segment.value in occurring]
    if not present:
        raise ValueError("no segment has a voxel")
    images = [_images(volume, label_map == item.value) for item in present]
    sources, names = _single_frames(source_datasets(study, volume), volume, result_key)
    dataset = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=_numbered(label_map, present),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(at + 1, item, result_key, number) for at, item in enumerate(present)],
        series_instance_uid=uid_from(
            result_key, "seg series", volume.frame_of_reference_uid
        ),  # a series has one frame of reference
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
    _name_sources(dataset, names)
    written = keep(
        dataset, path, lambda read: check_segmentation(read, volume, label_map, [item.value for item in present])
    )
    return WrittenSegmentation(
        written.path,
        written.sop_class_uid,
        written.sop_instance_uid,
        written.series_instance_uid,
        tuple(present),
        tuple(images),
    )


def _numbered(label_map: IntArray, present: Sequence[Segment]) -> NDArray[np.uint16]:
    """The label map with the number of each segment (from 1) in place of its value, 0 elsewhere."""
    numbers = np.zeros(int(label_map.max()) + 1, dtype=np.uint16)
    numbers[[item.value for item in present]] = np.arange(1, len(present) + 1)
    return numbers[label_map]


def _images(volume: Volume, mask: NDArray[np.bool_]) -> tuple[SourceInstance, ...]:
    """The source images on which a mask has a voxel."""
    return tuple(volume.instances[index] for index in np.flatnonzero(mask.any(axis=(1, 2))))


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


def _single_frames(
    sources: list[Dataset], volume: Volume, result_key: str
) -> tuple[list[Dataset], dict[str, SourceInstance]]:
    """Frames of multi-frame objects as if each were an image of its own, and which frame each of these stands for.

    A stack may be some of the frames of an object, in another order; highdicom takes a multi-frame source only as a whole.
    """
    names: dict[str, SourceInstance] = {}
    for number, (source, instance) in enumerate(zip(sources, volume.instances, strict=True)):
        if instance.frame is not None:
            source.SOPClassUID = MRImageStorage
            source.SOPInstanceUID = uid_from(result_key, "source frame", number)
            names[source.SOPInstanceUID] = instance
    return sources, names


def _name_sources(dataset: Dataset, names: dict[str, SourceInstance]) -> None:
    """Put the object and the frame in place of each image that stood for it; lists of objects name each object once."""
    if not names:
        return
    lists = [(series, "ReferencedInstanceSequence") for series in dataset.ReferencedSeriesSequence]
    lists += [(dataset, "SourceImageSequence")] if "SourceImageSequence" in dataset else []
    for holder, keyword in lists:
        for item in holder[keyword].value:
            _name_source(item, names, framed=False)
        setattr(holder, keyword, list({item.ReferencedSOPInstanceUID: item for item in holder[keyword].value}.values()))
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                _name_source(item, names, framed=True)


def _name_source(item: Dataset, names: dict[str, SourceInstance], *, framed: bool) -> None:
    instance = names.get(item.ReferencedSOPInstanceUID)
    if instance is None:
        return
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    if framed:
        item.ReferencedFrameNumber = instance.frame
