"""Key images as secondary captures and the printed report as an encapsulated PDF (PS3.3 A.8, A.45).

Pictures carry no position: what was measured stands in SEG and SR, these are for the eye.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, MRImageStorage

from dicom_io.derived import (
    MANUFACTURER,
    MODEL_NAME,
    SERIAL_NUMBER,
    Written,
    check_referable,
    keep,
    stamp,
    uid_from,
)
from dicom_io.errors import ReadBackError
from dicom_io.geometry import SourceInstance
from dicom_io.study import Study

_CAPTURE_SERIES, _PDF_SERIES = 9003, 9004
_TITLE = "recess report (research software, not a medical device)"


def write_capture(
    path: Path,
    picture: NDArray[np.uint8],
    study: Study,
    result_key: str,
    number: int,
    title: str = "",
    source: SourceInstance | None = None,
) -> Written:
    """Write one RGB picture (rows, columns, 3) uint8 as a secondary capture; `source` is the image that it shows.

    Raises SourceNotReferable, ValueError when the array is no such picture, and ReadBackError (nothing is kept).
    """
    check_referable(study, [])
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError("a key image is (rows, columns, 3) of uint8")
    patient = study.patient
    dataset = hd.sc.SCImage(
        pixel_array=np.ascontiguousarray(picture),
        photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),  # demanded here, emptied below: a picture of pictures has none
        study_instance_uid=study.study_instance_uid,
        series_instance_uid=uid_from(result_key, "capture series"),
        series_number=_CAPTURE_SERIES,
        sop_instance_uid=uid_from(result_key, "capture", number),
        instance_number=number,
        manufacturer=MANUFACTURER,
        patient_id=patient.patient_id,
        patient_name=patient.patient_name,
        patient_birth_date=patient.birth_date,
        patient_sex=patient.sex or None,
        study_date=patient.study_date or None,
        study_time=patient.study_time or None,
    )
    if source is not None:
        dataset.SourceImageSequence = [_reference(source)]
    if "Laterality" in dataset and not dataset.Laterality:
        del dataset.Laterality
    dataset.PatientOrientation = None
    dataset.SeriesDescription = "recess key images (research software)"
    dataset.BodyPartExamined = "LSPINE"
    if title:
        dataset.ImageComments = title[:1024]
    _equipment(dataset)
    dataset.BurnedInAnnotation = "YES"
    stamp(dataset, study)

    def check(read: Dataset) -> None:
        if not np.array_equal(read.pixel_array, picture):
            raise ReadBackError(f"{path.name}: the key image read back differs from the picture; not kept")

    return keep(dataset, path, check)


def _reference(source: SourceInstance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class_uid or MRImageStorage
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    if source.frame:
        item.ReferencedFrameNumber = source.frame
    return item


def write_encapsulated_pdf(path: Path, pdf: bytes, study: Study, result_key: str) -> Written:
    """Write the PDF of a report as a DICOM object. Raises SourceNotReferable, ValueError when it is no PDF."""
    check_referable(study, [])
    if not pdf.startswith(b"%PDF-"):
        raise ValueError("the document is not a PDF")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.SOPInstanceUID = uid_from(result_key, "pdf")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = "DOC"
    dataset.SeriesInstanceUID = uid_from(result_key, "pdf series")
    dataset.SeriesNumber, dataset.InstanceNumber = _PDF_SERIES, 1
    dataset.SeriesDescription = "recess report (research software)"
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "YES"
    dataset.AcquisitionDateTime = None
    dataset.DocumentTitle = _TITLE
    dataset.ConceptNameCodeSequence = []
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    _equipment(dataset)
    stamp(dataset, study)
    return keep(dataset, path)


def _equipment(dataset: Any) -> None:
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.DeviceSerialNumber = SERIAL_NUMBER
    dataset.SoftwareVersions = version("recess")
