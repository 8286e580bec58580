"""Copies of a study without identity: DICOM PS3.15 Annex E, Basic Profile with cleaned pixels, graphics and descriptors,
modified dates and kept patient characteristics (age band, sex).

Each object is built anew from the validated header and the decoded pixels; what is not on the list below is not there.
Pictures that may carry letters wait for a person to look at them, whatever Burned In Annotation says; everything that is no MR
image stays here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_io.codes import notice
from dicom_io.derived import keep
from dicom_io.errors import NoUsableSeries
from dicom_io.frames import Slice, slices_of
from dicom_io.header import Header
from dicom_io.ingest import Source
from dicom_io.intake import opened
from dicom_io.isolation import examine_all
from dicom_io.lettering import check_installed, has_lettering
from dicom_io.pixels import is_blank, may_have_text
from dicom_io.study import Notice

_LEAST_KEY_BYTES = 32
_SHIFT_DAYS = 3650  # dates move by up to ten years into the past, one patient's all alike
_BAND_YEARS, _OLDEST = 10, 90
_POSITIONS = frozenset({"HFS", "HFP", "HFDL", "HFDR", "FFS", "FFP", "FFDL", "FFDR"})
# PS3.16 CID 7050
_METHODS = (
    Code("113100", "DCM", "Basic Application Confidentiality Profile"),
    Code("113101", "DCM", "Clean Pixel Data Option"),
    Code("113103", "DCM", "Clean Graphics Option"),
    Code("113105", "DCM", "Clean Descriptors Option"),
    Code("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Code("113108", "DCM", "Retain Patient Characteristics Option"),
)


class KeyTooShort(ValueError):  # noqa: N818 (the name says what happened)
    """The secret from which new UIDs are made is too short to resist guessing."""


@dataclass(frozen=True)
class Export:
    """What was written, and what was not with its code; a name is the number of the object in the input, not its path."""

    written: tuple[Path, ...]
    left_out: tuple[Notice, ...]


def deidentify(
    source: Source,
    out_dir: Path,
    key: bytes,
    project: str = "",
    *,
    reviewed: Collection[int] = (),
    text_detector: bool = True,
) -> Export:
    """Write copies without identity of every MR image in the input into `out_dir` (made if absent).

    One key and project give one new UID for one old UID, so that exports made apart fit together; another project gives others.
    `reviewed` are numbers of objects (as an earlier export told them) that a person has looked at and found free of letters.
    Without `text_detector` only letters of one grey value are looked for.
    Raises UnreadableInput, KeyTooShort, TextDetectorMissing, and NoUsableSeries when nothing may be exported.
    """
    if len(key) < _LEAST_KEY_BYTES:
        raise KeyTooShort(f"the key has {len(key)} bytes; give at least {_LEAST_KEY_BYTES} random ones")
    secret = hmac.new(key, b"recess export\0" + project.encode(), hashlib.sha256).digest()
    if text_detector:
        check_installed()
    slices, left_out = _slices(source, frozenset(reviewed), text_detector=text_detector)
    if not slices:
        raise NoUsableSeries(
            "no image of the input may be exported without identity", code="NO_MR", notices=tuple(left_out)
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    written = []
    ordered = sorted(slices, key=_order)
    series = list(dict.fromkeys(item.header.series_instance_uid for item in ordered))
    for number, item in enumerate(ordered, start=1):
        dataset = _copy(item, series.index(item.header.series_instance_uid) + 1, number, secret)
        written.append(keep(dataset, out_dir / f"{dataset.SOPInstanceUID}.dcm").path)
    return Export(tuple(written), tuple(left_out))


def _slices(source: Source, reviewed: frozenset[int], *, text_detector: bool) -> tuple[list[Slice], list[Notice]]:
    """Frames that may go out, and a notice for each object or frame that may not."""
    passed = {f"object {number}" for number in reviewed}

    def lettered(item: Slice) -> bool:
        return may_have_text(item) or (text_detector and has_lettering(item.stored))

    kept: list[Slice] = []
    left_out: list[Notice] = []
    with opened(source) as entries:
        numbered = [replace(entry, name=f"object {number}") for number, entry in enumerate(entries, start=1)]
        waiting = numbered
        while waiting:
            later = []
            by_name = {entry.name: entry for entry in waiting}
            for item in examine_all(waiting):
                if item.verdict.other_study:
                    later.append(by_name[item.name])
                elif item.verdict.state != "accepted":
                    left_out.append(notice(item.verdict.code, path=item.name))
                else:
                    good, bad = slices_of(item)
                    left_out += [notice(code, path=item.name) for code in bad]
                    shown = [slice_ for slice_ in good if not is_blank(slice_)]
                    if item.name not in passed and any(map(lettered, shown)):
                        left_out.append(notice("BURNED_IN", path=item.name))
                    else:
                        kept += shown
            waiting = later
    return kept, left_out


def _order(item: Slice) -> tuple[object, ...]:
    header = item.header
    return header.study_instance_uid, header.series_instance_uid, float(item.position @ item.normal), item.item.digest


def new_uid(secret: bytes, uid: str) -> str:
    """The UID that stands for `uid` under this secret (2.25 form, PS3.5 B.2)."""
    digest = hmac.new(secret, b"uid\0" + uid.encode(), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _copy(item: Slice, series: int, number: int, secret: bytes) -> Dataset:
    header, frame = item.header, item.frame
    person = _person(header, secret)
    dataset = Dataset()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = new_uid(
        secret, f"{header.series_instance_uid}/{header.sop_instance_uid}/{frame.frame or 0}"
    )
    dataset.StudyInstanceUID = new_uid(secret, header.study_instance_uid)
    dataset.SeriesInstanceUID = new_uid(secret, header.series_instance_uid)
    dataset.FrameOfReferenceUID = new_uid(secret, header.frame_of_reference_uid or header.series_instance_uid)
    dataset.PatientID = dataset.PatientName = person
    dataset.PatientBirthDate = ""
    dataset.PatientSex = header.sex if header.sex in ("M", "F", "O") else ""
    if band := _age_band(header.age):
        dataset.PatientAge = band
    date = _moved_date(header.study_date, _days(header, secret))
    dataset.StudyDate, dataset.StudyTime = date, ""
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "", "", ""
    dataset.Modality, dataset.Manufacturer = "MR", ""
    dataset.SeriesNumber, dataset.InstanceNumber = series, number  # numbers of the source may be anybody's
    dataset.ImageType = _image_type(frame.image_type or header.image_type)
    dataset.PositionReferenceIndicator = ""
    dataset.BodyPartExamined = "SPINE"
    dataset.PatientPosition = header.patient_position if header.patient_position in _POSITIONS else ""
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
    dataset.MRAcquisitionType, dataset.EchoTrainLength = "2D", None
    dataset.EchoTime, dataset.RepetitionTime = frame.echo_time, frame.repetition_time
    if frame.inversion_time is not None:
        dataset.InversionTime = frame.inversion_time
    dataset.SliceThickness = frame.slice_thickness
    if frame.spacing_between_slices is not None:
        dataset.SpacingBetweenSlices = frame.spacing_between_slices
    dataset.ImagePositionPatient = _decimals(item.position)
    dataset.ImageOrientationPatient = _decimals(item.directions.reshape(6))
    dataset.PixelSpacing = _decimals(np.array(item.spacing))
    _pixels(dataset, item)
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    dataset.DeidentificationMethod = "rebuilt from validated attributes, PS3.15 Basic Profile"
    dataset.DeidentificationMethodCodeSequence = [_coded(code) for code in _METHODS]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _pixels(dataset: Dataset, item: Slice) -> None:
    stored = item.stored
    bits = max(stored.dtype.itemsize * 8, 8)
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, item.header.photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.BurnedInAnnotation = "NO"
    if (item.frame.slope, item.frame.intercept) != (1.0, 0.0):
        dataset.RescaleSlope, dataset.RescaleIntercept = _decimals(np.array([item.frame.slope, item.frame.intercept]))
        dataset.RescaleType = "US"
    if item.header.padding_value is not None:
        dataset.add_new(0x00280120, "SS" if dataset.PixelRepresentation else "US", item.header.padding_value)
    data = np.ascontiguousarray(stored).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _person(header: Header, secret: bytes) -> str:
    identity = f"{header.issuer_of_patient_id}\0{header.patient_id or header.study_instance_uid}"
    return "R-" + hmac.new(secret, b"person\0" + identity.encode(), hashlib.sha256).hexdigest()[:12].upper()


def _days(header: Header, secret: bytes) -> int:
    digest = hmac.new(secret, b"days\0" + _person(header, secret).encode(), hashlib.sha256).digest()
    return 1 + int.from_bytes(digest[:4], "big") % _SHIFT_DAYS


def _moved_date(text: str, days: int) -> str:
    """A date moved into the past; anything but a plain date is left out."""
    try:
        return (datetime.strptime(text, "%Y%m%d").date() - timedelta(days=days)).strftime("%Y%m%d")
    except (ValueError, OverflowError):
        return ""


def _age_band(age: str) -> str:
    """The decade of an age in years ("054Y" -> "050Y"), the oldest together; "" when it is not told in years."""
    told = re.fullmatch(r"(\d{3})Y", age)
    return f"{min(int(told.group(1)) // _BAND_YEARS * _BAND_YEARS, _OLDEST):03d}Y" if told else ""


def _image_type(words: Sequence[str]) -> list[str]:
    """Of the original words only those that the standard defines; the rest may be anything."""
    first = "DERIVED" if "DERIVED" in words[:1] else "ORIGINAL"
    second = "SECONDARY" if "SECONDARY" in words[1:2] else "PRIMARY"
    return [first, second, "OTHER"]


def _decimals(values: np.ndarray) -> list[float]:
    return [float(f"{float(value):.10g}") for value in values]
