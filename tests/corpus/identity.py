"""Whose pictures they are and which (classes I): patients, UIDs, repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset

from dicom_io.study import Study
from inference.clinical_input import ClinicalInputError
from inference.exam import Exam
from inference.exam_versions import PATIENT, check_patient
from tests.corpus.case import Case, Expect, abstained, good_study, outcomes_of, read, same
from tests.corpus.edit import beside, extra, value_replaced, where
from tests.corpus.small_study import File, changed, datasets, encode, good


def _some(keyword: str, value: Any, names: str = "axT2/003") -> Callable[[int], list[File]]:
    """The good study with one attribute changed in the objects whose name begins with `names`."""

    def change(name: str, dataset: Dataset) -> Dataset:
        if name.startswith(names):
            setattr(dataset, keyword, value)
        return dataset

    return lambda seed: changed(seed, change)


def _alternate(name: str, dataset: Dataset) -> Dataset:
    if int(name[-3:]) % 2:
        dataset.PatientID, dataset.PatientName = "OTHER", "Someone^Else"
    return dataset


def _two_with(change: Callable[[dict[str, Dataset], str, Dataset], None]) -> Callable[[int], list[File]]:
    """Two patients' studies in one folder; `change(first, name, dataset)` spoils the second one, knowing the first."""

    def make(seed: int) -> list[File]:
        first, second = dict(datasets(seed)), []
        for name, dataset in datasets(seed + 1):
            change(first, name, dataset)
            second.append((f"second/{name}", encode(dataset)))
        return [*good(seed), *second]

    return make


def _series_of_first(first: dict[str, Dataset], name: str, dataset: Dataset) -> None:
    if name.startswith("sagT1"):
        dataset.SeriesInstanceUID = first[name].SeriesInstanceUID


def _object_of_first(first: dict[str, Dataset], name: str, dataset: Dataset) -> None:
    if name == "sagT1/002":
        dataset.SOPInstanceUID = first[name].SOPInstanceUID


def _prior(seed: int) -> list[File]:
    """An earlier study of the same patient beside the current one."""
    earlier = []
    for name, dataset in datasets(seed):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            setattr(dataset, keyword, str(dataset[keyword].value).replace(".1999.", ".2999."))
        dataset.StudyDate = "20200102"
        earlier.append((f"prior/{name}", encode(dataset)))
    return [*good(seed), *earlier]


def _other_pixels(seed: int) -> list[File]:
    dataset = dict(datasets(seed))["sagT2/007"]
    dataset.PixelData = dataset.PixelData[2:] + b"\1\0"
    return beside(seed, encode(dataset))


def _by_series(name: str, dataset: Dataset) -> Dataset:
    dataset.SOPInstanceUID = f"{dataset.StudyInstanceUID}.1.{int(name[-3:]) + 1}"
    return dataset


def _one_uid(name: str, dataset: Dataset) -> Dataset:
    dataset.SOPInstanceUID = f"{dataset.StudyInstanceUID}.7"
    return dataset


def _without(keyword: str) -> Callable[[int], list[File]]:
    def make(seed: int) -> list[File]:
        dataset = extra(seed)
        data = encode(dataset)
        return beside(seed, value_replaced(data, keyword, b""))

    return make


def _uid(keyword: str, value: bytes) -> Callable[[int], list[File]]:
    return lambda seed: beside(seed, value_replaced(encode(extra(seed)), keyword, value + b"\0" * (len(value) % 2)))


def _absent(keyword: str) -> Callable[[int], list[File]]:
    """One more object from which an attribute was taken away, its header's group length notwithstanding."""

    def make(seed: int) -> list[File]:
        data = encode(extra(seed))
        at = where(data, keyword)
        length = int.from_bytes(data[at + 6 : at + 8], "little")
        return beside(seed, data[:at] + data[at + 8 + length :])

    return make


def _leading_zero(seed: int) -> list[File]:
    """Every frame of reference and study UID with a leading zero in its last component."""
    study = f"1.2.826.0.1.3680043.10.1999.0{seed + 1}".encode()
    padded = study + b"\0" * (len(study) % 2)
    return [(name, value_replaced(data, "StudyInstanceUID", padded)) for name, data in good(seed)]


def _late(seed: int) -> str:
    """Objects that come after a first reading: another manifest, hence another key; the first one stays what it was."""
    files = good(seed)
    (early,) = outcomes_of(files[:-2], seed)
    (whole,) = outcomes_of(files, seed)
    (again,) = outcomes_of(files[:-2], seed + 1)
    if not (isinstance(early, Study) and isinstance(whole, Study) and isinstance(again, Study)):
        return "not read"
    if early.manifest_sha256 == whole.manifest_sha256:
        return "one manifest for two sets of objects"
    return "" if early.manifest_sha256 == again.manifest_sha256 else "the first manifest is not repeated"


def _foreign_examination(seed: int) -> str:
    """An examination that names another patient is refused with its field; one that names this patient, or nobody, is taken."""
    own, other = (good_study(number).patient.pseudonym for number in (seed, seed + 1))
    for fits in (Exam(general={PATIENT: own}), Exam()):
        check_patient(fits, own)
    try:
        check_patient(Exam(general={PATIENT: other}), own)
    except ClinicalInputError as refused:
        return "" if PATIENT in str(refused) else f"refused without its field: {refused}"
    return "taken"


def _lenient(seed: int) -> list[File]:
    """Every series UID padded with a space, as some archives write them."""
    files = []
    for name, data in good(seed):
        uid = f"1.2.826.0.1.3680043.10.1999.{seed + 1}.{('sagT1', 'sagT2', 'axT2').index(name[:-4]) + 1}".encode()
        files.append((name, value_replaced(data, "SeriesInstanceUID", uid + b"  "[: 1 + (len(uid) + 1) % 2])))
    return files


def _meta(name: str, dataset: Dataset) -> Dataset:
    del dataset.SOPClassUID
    return dataset


def _no_modality(name: str, dataset: Dataset) -> Dataset:
    del dataset.Modality
    return dataset


def _class_differs(seed: int) -> list[File]:
    """The file header calls the object a CT."""
    data = encode(extra(seed))
    at = data.index(b"\x02\x00\x02\x00UI")
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    other = b"1.2.840.10008.5.1.4.1.1.2".ljust(length, b"\0")
    return beside(seed, data[: at + 8] + other + data[at + 8 + length :])


def _meta_differs(seed: int) -> list[File]:
    data = encode(extra(seed))
    at = data.index(b"\x02\x00\x03\x00UI")
    changed_uid = bytearray(data)
    changed_uid[at + 8 : at + 12] = b"9.8."
    return beside(seed, bytes(changed_uid))


_ALL = ("sagT1", "sagT2", "axT2")
CASES: tuple[Case, ...] = (
    Case("I-01", "two patients slice by slice", lambda seed: changed(seed, _alternate), abstained("PATIENT_CONFLICT")),
    Case("I-01", "one slice of another patient", _some("PatientID", "OTHER"), abstained("PATIENT_CONFLICT")),
    Case("I-02", "another name", _some("PatientName", "Someone^Else"), abstained("PATIENT_CONFLICT")),
    Case("I-02", "another birth date", _some("PatientBirthDate", "19600101"), abstained("PATIENT_CONFLICT")),
    Case("I-02", "another sex", _some("PatientSex", "M"), abstained("PATIENT_CONFLICT")),
    Case(
        "I-02",
        "a name spelt otherwise",
        lambda seed: _some("PatientName", f"PHANTOM {seed}")(seed),
        same("NAME_VARIANT"),
    ),
    Case(
        "I-03",
        "series UID in two studies",
        _two_with(_series_of_first),
        Expect(codes=frozenset({"SERIES_UID_REUSED"}), changed=("sagT1",), studies=2),
    ),
    Case("I-04", "every object twice", lambda seed: [*good(seed), *good(seed)], same()),
    Case(
        "I-05",
        "one SOP UID, two images",
        _other_pixels,
        read("SOP_UID_CONFLICT", "SLICE_MISSING", changed=["sagT2"]),
    ),
    Case("I-05", "SOP UIDs counted anew in every series", lambda s: changed(s, _by_series), same("SOP_UID_REPEATED")),
    Case(
        "I-06",
        "one SOP UID in two patients",
        _two_with(_object_of_first),
        abstained("SOP_UID_CROSS_PATIENT", "SOP_UID_CROSS_PATIENT"),
    ),
    Case("I-07", "one SOP UID for all", lambda s: changed(s, _one_uid), abstained("INCOMPLETE", "SOP_UID_CONFLICT")),
    *(
        Case("I-08", f"empty {keyword}", _without(keyword), same("UID_MISSING"))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ),
    *(
        Case("I-08", f"no {keyword}", _absent(keyword), same("UID_MISSING"))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ),
    *(
        Case("I-09", f"UID {value[:12]!r}", _uid("SeriesInstanceUID", value), same("UID_MALFORMED"))
        for value in (b"1.2." + b"3" * 62, b"1.2.abc", b"1..2", b"../../etc/passwd")
    ),
    Case("I-10", "UIDs padded with spaces", _lenient, same("UID_LENIENT")),
    Case("I-10", "leading zero in a component", _leading_zero, same("UID_LENIENT")),
    Case("I-11", "class differs", _class_differs, same("META_UID_MISMATCH")),
    Case("I-11", "meta UID differs", _meta_differs, same("META_UID_MISMATCH")),
    Case("I-11", "class absent", lambda seed: changed(seed, _meta), same("CLASS_ABSENT")),
    Case("I-11", "modality absent", lambda seed: changed(seed, _no_modality), same("MODALITY_ABSENT")),
    Case("I-12", "no patient ID at all", _some("PatientID", "", ""), same("PATIENT_ID_EMPTY")),
    Case("I-12", "no patient ID in some", _some("PatientID", "", "axT2"), abstained("PATIENT_CONFLICT")),
    Case("I-13", "another issuer", _some("IssuerOfPatientID", "ELSEWHERE"), abstained("PATIENT_CONFLICT")),
    Case("I-14", "study dates apart", _some("StudyDate", "20240105"), same("STUDY_DATE_SPREAD")),
    Case("I-14", "two accession numbers", _some("AccessionNumber", "B77"), same("ACCESSION_VARIANT")),
    Case(
        "I-15", "objects after the result", check=_late, outcome="another manifest, the first one is repeated exactly"
    ),
    Case(
        "I-16",
        "examination of another patient",
        check=_foreign_examination,
        outcome="the examination is refused with its field; pictures are read as without one",
    ),
    Case(
        "I-17",
        "two studies interleaved",
        _two_with(lambda first, name, dataset: None),
        Expect(same=True, studies=2),
    ),
    Case("S-12", "prior and current study", _prior, Expect(same=True, studies=2)),
)
