"""What all objects made from a study share: source references, patient and study context, and UIDs that repeat.

UIDs are a hash of the result key and of what the object is (2.25 form, PS3.5 B.2), so that a second run makes the same
objects. Source headers are rebuilt from what was read, so no untrusted file is opened again.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from dicom_io.errors import SourceNotReferable
from dicom_io.geometry import Volume
from dicom_io.study import Study

MANUFACTURER = "recess"
MODEL_NAME = "recess second reader"
SERIAL_NUMBER = "0"  # a program has none; the attribute must not be empty
_ROOTS = re.compile(r"[012](\.(0|[1-9][0-9]*))+")


@dataclass(frozen=True)
class Written:
    """An object that was written: where, and how other objects refer to it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


def uid_from(result_key: str, *what: str | int) -> str:
    """UID derived from a result key and what the object is: equal inputs give equal UIDs."""
    entropy = "\0".join(("recess", result_key, *(str(part) for part in what)))
    return f"2.25.{int.from_bytes(hashlib.sha256(entropy.encode()).digest()[:16], 'big')}"


def check_referable(study: Study, volumes: Sequence[Volume]) -> None:
    """Raise SourceNotReferable when the sources' UIDs are invalid or do not tell the images of the study apart."""
    if any(notice.code == "SOP_UID_REPEATED" for notice in study.warnings):
        raise SourceNotReferable(
            "SOP Instance UIDs repeat from series to series, so DICOM results cannot name their source; "
            "export the study with its original UIDs",
            code="SOP_UID_REPEATED",
        )
    uids = {study.study_instance_uid}
    for volume in volumes:
        uids |= {volume.series_instance_uid, volume.frame_of_reference_uid}
        uids |= {instance.sop_instance_uid for instance in volume.instances}
    bad = sorted(uid for uid in uids if len(uid) > 64 or not _ROOTS.fullmatch(uid))
    if bad:
        raise SourceNotReferable(
            f"{len(bad)} UIDs of the study are not valid, so DICOM results cannot name their source; "
            "export the study with its original UIDs",
            code="UID_INVALID",
        )


def source_datasets(study: Study, volume: Volume) -> list[Dataset]:
    """One header per slice of `volume` (no pixels), as derived objects need it for references and context."""
    return [_source_dataset(study, volume, number) for number in range(volume.grid.shape[0])]


def _source_dataset(study: Study, volume: Volume, number: int) -> Dataset:
    affine = volume.grid.affine
    spacing = volume.grid.spacing
    instance = volume.instances[number]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = UID(instance.sop_class_uid or MRImageStorage)
    dataset.SOPInstanceUID = instance.sop_instance_uid
    dataset.Modality = "MR"
    patient_context(dataset, study)
    dataset.SeriesInstanceUID = volume.series_instance_uid
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number + 1
    dataset.FrameOfReferenceUID = volume.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.Rows, dataset.Columns = volume.grid.shape[1:]
    dataset.ImagePositionPatient = _decimals(affine[:3, 0] * number + affine[:3, 3])
    dataset.ImageOrientationPatient = _decimals(
        np.concatenate([affine[:3, 2] / spacing[2], affine[:3, 1] / spacing[1]])
    )
    dataset.PixelSpacing = _decimals(spacing[1:])
    dataset.SliceThickness = _decimals([spacing[0]])[0]
    return dataset


def patient_context(dataset: Dataset, study: Study) -> None:
    """Copy patient and study attributes, so that archives file the object under the same patient and study."""
    patient = study.patient
    dataset.SpecificCharacterSet = "ISO_IR 192"  # names of any script
    dataset.PatientID = patient.patient_id
    if patient.issuer_of_patient_id:
        dataset.IssuerOfPatientID = patient.issuer_of_patient_id
    dataset.PatientName = patient.patient_name
    dataset.PatientBirthDate = patient.birth_date
    dataset.PatientSex = patient.sex if patient.sex in ("M", "F", "O") else ""
    dataset.StudyInstanceUID = study.study_instance_uid
    dataset.StudyDate = patient.study_date
    dataset.StudyTime = patient.study_time
    dataset.StudyID = patient.study_id
    dataset.AccessionNumber = patient.accession_number
    dataset.ReferringPhysicianName = patient.referring_physician


def _decimals(values: Sequence[float] | np.ndarray) -> list[float]:
    """Numbers that fit a decimal string of 16 characters and mean the same to 1e-9."""
    return [float(f"{float(value):.10g}") for value in values]


def stamp(dataset: Dataset, study: Study) -> None:
    """Give an object its patient and study, and the study's own date and time, so that writing it again gives the same bytes."""
    patient_context(dataset, study)
    pairs = [("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime")]
    pairs += [("DateOfSecondaryCapture", "TimeOfSecondaryCapture")] if "DateOfSecondaryCapture" in dataset else []
    for date, time in pairs:
        setattr(dataset, date, study.patient.study_date or "19000101")
        setattr(dataset, time, study.patient.study_time or "000000")
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in equipment:
            del equipment.ContributionDateTime


def keep(dataset: Dataset, path: Path, check: Callable[[Dataset], None] | None = None) -> Written:
    """Write an object whole or not at all, and durably.

    `check` is given what the encoded bytes say before they are kept; what it raises leaves nothing on disk.
    """
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    if check is not None:
        check(dcmread(io.BytesIO(buffer.getvalue())))
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as stream:
        stream.write(buffer.getvalue())
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    return Written(path, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID))
