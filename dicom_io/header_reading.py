"""Takes the attributes that matter out of a parsed data set, number by number, in the child process.

Attributes and where they stand in enhanced multi-frame objects: PS3.3 C.7.6.16 (functional groups), C.8.3, C.8.13.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicom_io.header import FrameHeader, Header, NumberError, Vector2, Vector3, Vector6, parse_numbers

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MAX_UID = 64
_MAX_TEXT = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# of a text in implicit encoding pydicom knows no VR yet, and what is read here as text is text by the dictionary
_TEXT_VRS = frozenset(
    {None, "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"}
)
_UNDECODED = "\ufffd"  # what a decoder leaves where bytes do not fit the character set
_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
_DIRECTORY = "1.2.840.10008.1.3.10"
_LEGACY_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.4"


class HeaderError(Exception):
    """A header without which the object cannot be filed; `code` says what is wrong."""

    def __init__(self, code: str, state: str = "refused") -> None:
        super().__init__(code)
        self.code = code
        self.state = state


def read_header(dataset: Dataset, found: list[str], *, has_pixels: bool) -> Header:
    """Header of a parsed object. Appends warning codes to `found`; HeaderError when UIDs are missing or malformed."""
    sop_class = _text(dataset, "SOPClassUID", found)
    meta_class = _text(dataset.file_meta, "MediaStorageSOPClassUID", found)
    if _DIRECTORY in (sop_class, meta_class) or "DirectoryRecordSequence" in dataset:
        raise HeaderError("DICOMDIR_PATH" if _points_outside(dataset) else "DICOMDIR")
    meta_uid = _text(dataset.file_meta, "MediaStorageSOPInstanceUID", found)
    sop_instance_uid = _uid(dataset, "SOPInstanceUID", found)
    if (sop_class and meta_class and sop_class != meta_class) or (meta_uid and meta_uid != sop_instance_uid):
        raise HeaderError("META_UID_MISMATCH", "quarantined")
    if not sop_class:
        found.append("CLASS_ABSENT")
    number_of_frames = _whole(dataset, "NumberOfFrames") or 1
    enhanced = sop_class in (_ENHANCED_MR, _LEGACY_ENHANCED_MR) or "PerFrameFunctionalGroupsSequence" in dataset
    image_type = _texts(dataset, "ImageType", found)
    name_bytes = _raw(dataset, "PatientName")
    if any(tag >> 16 & 0xFF01 == 0x6000 and tag & 0xFFFF == 0x3000 for tag in dataset.keys()):  # noqa: SIM118
        found.append("BURNED_IN")
    return Header(
        study_instance_uid=_uid(dataset, "StudyInstanceUID", found),
        series_instance_uid=_uid(dataset, "SeriesInstanceUID", found),
        sop_instance_uid=sop_instance_uid,
        sop_class_uid=sop_class,
        transfer_syntax_uid=_text(dataset.file_meta, "TransferSyntaxUID", found),
        modality=_text(dataset, "Modality", found),
        frame_of_reference_uid=_text(dataset, "FrameOfReferenceUID", found),
        patient_id=_text(dataset, "PatientID", found),
        issuer_of_patient_id=_text(dataset, "IssuerOfPatientID", found),
        patient_name=_text(dataset, "PatientName", found),
        patient_name_bytes=name_bytes.strip(b" \0")[:_MAX_TEXT].hex() if isinstance(name_bytes, bytes) else "",
        birth_date=_text(dataset, "PatientBirthDate", found),
        sex=_text(dataset, "PatientSex", found),
        age=_text(dataset, "PatientAge", found),
        study_date=_text(dataset, "StudyDate", found),
        study_time=_text(dataset, "StudyTime", found),
        accession_number=_text(dataset, "AccessionNumber", found),
        study_id=_text(dataset, "StudyID", found),
        referring_physician=_text(dataset, "ReferringPhysicianName", found),
        series_number=_whole(dataset, "SeriesNumber"),
        description=_text(dataset, "SeriesDescription", found),
        image_type=image_type,
        scan_options=_texts(dataset, "ScanOptions", found),
        contrast_agent=bool(_text(dataset, "ContrastBolusAgent", found)) or "ContrastBolusAgentSequence" in dataset,
        field_strength=_number(dataset, "MagneticFieldStrength", {}),
        patient_position=_text(dataset, "PatientPosition", found),
        photometric=_text(dataset, "PhotometricInterpretation", found),
        samples=_whole(dataset, "SamplesPerPixel") or 1,
        rows=_whole(dataset, "Rows") or 0,
        columns=_whole(dataset, "Columns") or 0,
        number_of_frames=number_of_frames,
        has_pixels=has_pixels,
        padding_value=_padding(dataset),
        frames=_enhanced_frames(dataset, number_of_frames, image_type) if enhanced else (_plain_frame(dataset),),
    )


def _points_outside(dataset: Dataset) -> bool:
    """Whether a directory file names a file outside its own folder (PS3.10 8.5 allows components of A-Z, 0-9 and _ only)."""
    for record in dataset.get("DirectoryRecordSequence") or []:
        value = record.get("ReferencedFileID")
        parts = [value] if isinstance(value, str) else list(value or [])
        if any(str(part) in ("", ".", "..") or set("/\\:") & set(str(part)) for part in parts):
            return True
    return False


@cache
def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return BaseTag(tag)


def _raw(dataset: Dataset, keyword: str) -> Any:
    """Value as it stands in the file: bytes when pydicom has not touched it yet, None when absent."""
    element = dataset.get_item(_tag(keyword))
    return element.value if element is not None else None


def _plain_bytes(dataset: Dataset, keyword: str) -> bytes | None:
    """The bytes of a text that means the same in every character set and needs no library to be read, or None."""
    element = dataset.get_item(_tag(keyword))
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return None
    if element.VR not in _TEXT_VRS or not element.value.isascii() or b"\x1b" in element.value:
        return None
    return element.value


def _text(dataset: Dataset, keyword: str, found: list[str]) -> str:
    plain = _plain_bytes(dataset, keyword)
    if plain is not None and b"\\" not in plain:
        value: Any = plain.decode("ascii")
    elif _tag(keyword) not in dataset:
        return ""
    else:
        try:
            value = dataset[_tag(keyword)].value
        except Exception:  # an unreadable text is an absent text, and told
            found.append("TEXT_INVALID")
            return ""
    text = "" if value is None else str(value).strip(" \0")
    clean = _CONTROL.sub(" ", text)[:_MAX_TEXT]
    if clean != text and "TEXT_CONTROL" not in found:
        found.append("TEXT_CONTROL")
    if _UNDECODED in clean and "CHARSET" not in found:
        found.append("CHARSET")
    return clean


def _texts(dataset: Dataset, keyword: str, found: list[str]) -> tuple[str, ...]:
    plain = _plain_bytes(dataset, keyword)
    value: Any = dataset.get(keyword) if plain is None else plain.decode("ascii").split("\\")
    if value is None or isinstance(value, str) or (plain is not None and len(value) == 1):
        return tuple(part for part in [_text(dataset, keyword, found)] if part)
    try:
        return tuple(_CONTROL.sub(" ", str(part)).strip()[:_MAX_TEXT] for part in list(value)[:16])
    except TypeError:
        return ()


def _uid(dataset: Dataset, keyword: str, found: list[str]) -> str:
    raw = _raw(dataset, keyword)
    text = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw or "")
    trimmed = text.rstrip("\0") if text.endswith("\0") else text
    uid = text.strip(" \0")
    if not uid:
        raise HeaderError("UID_MISSING")
    if len(uid) > _MAX_UID or not _UID.fullmatch(uid):
        raise HeaderError("UID_MALFORMED")
    lenient = uid != trimmed or any(len(part) > 1 and part.startswith("0") for part in uid.split("."))
    if lenient and "UID_LENIENT" not in found:
        found.append("UID_LENIENT")
    return uid


def _whole(dataset: Dataset, keyword: str) -> int | None:
    element = dataset.get_item(_tag(keyword))
    if isinstance(element, RawDataElement) and element.VR == "US" and isinstance(element.value, bytes):
        if len(element.value) == 2:
            return int.from_bytes(element.value, "little" if element.is_little_endian else "big")
    elif element is None:
        return None
    try:
        value = dataset.get(keyword)
        return None if value is None or str(value).strip() == "" else int(str(value))
    except Exception:  # not a whole number: for these attributes the same as absent
        return None


def _padding(dataset: Dataset) -> int | None:
    value = dataset.get("PixelPaddingValue")
    if isinstance(value, bytes):
        signed = _whole(dataset, "PixelRepresentation") == 1
        return int.from_bytes(value[:2], "little", signed=signed) if len(value) >= 2 else None
    return _whole(dataset, "PixelPaddingValue")


def _numbers(dataset: Dataset | None, keyword: str, count: int, faults: dict[str, str]) -> tuple[float, ...] | None:
    """Finite numbers of an attribute, None when absent or empty; a fault is noted under the keyword."""
    if dataset is None:
        return None
    element: Any = dataset.get_item(_tag(keyword))
    if element is None:
        return None
    raw = element.value
    try:
        if isinstance(element, RawDataElement) and isinstance(raw, bytes):
            if str(element.VR or "DS") in ("DS", "IS"):
                raw = raw.decode("ascii", "replace").strip(" \0")
                return parse_numbers(raw, count, keyword) if raw else None
            raw = dataset[keyword].value
        if raw is None or raw == "":
            return None
        values = tuple(float(part) for part in (raw if isinstance(raw, list | tuple) or count > 1 else [raw]))
    except (NumberError, ValueError, TypeError):
        faults[keyword] = "NUMBER_INVALID"
        return None
    if len(values) != count or not all(math.isfinite(value) for value in values):
        faults[keyword] = "NUMBER_INVALID"
        return None
    return values


def _number(dataset: Dataset | None, keyword: str, faults: dict[str, str]) -> float | None:
    values = _numbers(dataset, keyword, 1, faults)
    return None if values is None else values[0]


def _vector3(values: tuple[float, ...] | None) -> Vector3 | None:
    return None if values is None else (values[0], values[1], values[2])


def _vector6(values: tuple[float, ...] | None) -> Vector6 | None:
    return None if values is None else (values[0], values[1], values[2], values[3], values[4], values[5])


def _vector2(values: tuple[float, ...] | None) -> Vector2 | None:
    return None if values is None else (values[0], values[1])


def _scaling(dataset: Dataset | None, faults: dict[str, str]) -> tuple[float, float]:
    slope, intercept = _number(dataset, "RescaleSlope", faults), _number(dataset, "RescaleIntercept", faults)
    return (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)


def _plain_frame(dataset: Dataset) -> FrameHeader:
    faults: dict[str, str] = {}
    slope, intercept = _scaling(dataset, faults)
    return FrameHeader(
        position=_vector3(_numbers(dataset, "ImagePositionPatient", 3, faults)),
        orientation=_vector6(_numbers(dataset, "ImageOrientationPatient", 6, faults)),
        pixel_spacing=_vector2(_numbers(dataset, "PixelSpacing", 2, faults)),
        slice_thickness=_number(dataset, "SliceThickness", faults),
        spacing_between_slices=_number(dataset, "SpacingBetweenSlices", faults),
        echo_time=_number(dataset, "EchoTime", faults),
        repetition_time=_number(dataset, "RepetitionTime", faults),
        inversion_time=_number(dataset, "InversionTime", faults),
        b_value=_number(dataset, "DiffusionBValue", faults),
        temporal_position=_number(dataset, "TemporalPositionIdentifier", faults),
        slope=slope,
        intercept=intercept,
        faults=faults,
    )


def _enhanced_frames(dataset: Dataset, count: int, image_type: tuple[str, ...]) -> tuple[FrameHeader, ...]:
    """One header a frame: the frame's own functional group first, then the shared one."""
    shared_items = dataset.get("SharedFunctionalGroupsSequence")
    shared = shared_items[0] if isinstance(shared_items, Sequence) and len(shared_items) else Dataset()
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    groups = list(groups) if isinstance(groups, Sequence) else []
    if len(groups) != count:
        raise HeaderError("FRAMES_INCONSISTENT", "quarantined")
    return tuple(_enhanced_frame(group, shared, number + 1, image_type) for number, group in enumerate(groups))


def _macro(group: Dataset, shared: Dataset, keyword: str) -> Dataset | None:
    for place in (group, shared):
        items = place.get(keyword)
        if isinstance(items, Sequence) and len(items):
            return items[0]
    return None


def _converted_number(group: Dataset, shared: Dataset, keyword: str) -> float | None:
    """A number where converted single-frame objects keep it (PS3.3 C.7.6.16.2.25), or None."""
    for place, name in ((group, "PerFrame"), (shared, "Shared")):
        items = place.get(f"Unassigned{name}ConvertedAttributesSequence")
        value = _number(items[0], keyword, {}) if isinstance(items, Sequence) and len(items) else None
        if value is not None:
            return value
    return None


def _enhanced_frame(group: Dataset, shared: Dataset, number: int, image_type: tuple[str, ...]) -> FrameHeader:
    faults: dict[str, str] = {}
    measures = _macro(group, shared, "PixelMeasuresSequence")
    position = _macro(group, shared, "PlanePositionSequence")
    orientation = _macro(group, shared, "PlaneOrientationSequence")
    timing = _macro(group, shared, "MRTimingAndRelatedParametersSequence")
    echo = _macro(group, shared, "MREchoSequence")
    modifier = _macro(group, shared, "MRModifierSequence")
    diffusion = _macro(group, shared, "MRDiffusionSequence")
    content = _macro(group, shared, "FrameContentSequence")
    kind = _macro(group, shared, "MRImageFrameTypeSequence")
    slope, intercept = _scaling(_macro(group, shared, "PixelValueTransformationSequence"), faults)
    inversion = _numbers(modifier, "InversionTimes", 1, {})
    times = [_number(echo, "EffectiveEchoTime", faults), _number(timing, "RepetitionTime", faults)]
    times.append(None if inversion is None else inversion[0])
    for at, keyword in enumerate(("EchoTime", "RepetitionTime", "InversionTime")):
        if times[at] is None:
            times[at] = _converted_number(group, shared, keyword)
    return FrameHeader(
        frame=number,
        position=_vector3(_numbers(position, "ImagePositionPatient", 3, faults)),
        orientation=_vector6(_numbers(orientation, "ImageOrientationPatient", 6, faults)),
        pixel_spacing=_vector2(_numbers(measures, "PixelSpacing", 2, faults)),
        slice_thickness=_number(measures, "SliceThickness", faults),
        spacing_between_slices=_number(measures, "SpacingBetweenSlices", faults),
        echo_time=times[0],
        repetition_time=times[1],
        inversion_time=times[2],
        b_value=_number(diffusion, "DiffusionBValue", faults),
        temporal_position=_number(content, "TemporalPositionIndex", faults),
        slope=slope,
        intercept=intercept,
        image_type=_texts(kind, "FrameType", []) if kind is not None else image_type,
        faults=faults,
    )
