"""Nothing that a sender writes is seen where it does not belong: forty marks in every text, none in a log, an error or a file name."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context

from dicom_io.multipart import write_parts
from dicom_io.network import ListenerSettings, listen
from service.reception import enter_arrived
from service.store import Store
from tests.corpus.small_study import datasets, encode
from tests.service.conftest import serving

MR = "1.2.840.10008.5.1.4.1.1.4"
_MARK = "ZQX"
_TEXTS = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames", "PatientComments", "PatientAddress"),
    *("EthnicGroup", "Occupation", "AdditionalPatientHistory", "PatientBirthName", "MedicalRecordLocator"),
    *("AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedureID"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "Manufacturer"),
    *("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "ImageComments", "DerivationDescription"),
    *("BodyPartExamined", "PatientBirthDate", "PatientAge", "SequenceName"),
)
_SENT_BESIDE = 5  # in the private element, the AE title, the name of the part, the search, and the UIDs (as digits)


def _token(number: int) -> str:
    return f"{_MARK}{number:03d}WVKJHTRBY"


def _uid_token(seed: int) -> str:
    return f"70617{seed}313"


def _marked(seed: int) -> list[bytes]:
    """The good study with a mark of its own in every text that people or machines write into, and in the UIDs."""
    with disable_value_validation():
        return [encode(dataset) for dataset in _marked_datasets(seed)]


def _marked_datasets(seed: int) -> Iterator[Dataset]:
    for _, dataset in datasets(seed):
        for number, keyword in enumerate(_TEXTS):
            if keyword in dataset:  # an element keeps the way of checking that was set when it was made
                delattr(dataset, keyword)
            setattr(dataset, keyword, _token(number))
        block = dataset.private_block(0x0041, "PRIVATE", create=True)
        block.add_new(1, "LO", _token(len(_TEXTS)))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            setattr(dataset, keyword, f"{getattr(dataset, keyword)}.{_uid_token(seed)}")
        if dataset.InstanceNumber % 5 == 0:  # another patient in the same study: the study cannot be entered
            dataset.PatientID = _token(1) + "B"
        yield dataset


def _seen(text: bytes) -> list[str]:
    """Marks in a text, as they are or encoded."""
    marks = [*(_token(number) for number in range(len(_TEXTS) + _SENT_BESIDE)), *(_uid_token(n) for n in (0, 1))]
    found = []
    for mark in marks:
        plain = mark.encode()
        shapes = [plain, plain.hex().encode(), mark.encode("utf-16-le"), mark.encode("utf-16-be")]
        shapes += [base64.b64encode(b"x" * skip + plain)[4:-4] for skip in range(3)]
        if any(shape in text for shape in shapes):
            found.append(mark)
    return found


def _broken(content: bytes) -> Iterator[bytes]:
    """The object cut and bent so that every stage of reading meets it."""
    for at in (140, 700, 1200, len(content) - 50):
        yield content[:at]
    yield content + b"\xff" * 100
    yield content.replace(b"1.2.826.0", b"1.A.826.0")
    yield content[:132] + content[132:].replace(b"DS", b"US")


def test_there_are_forty_marks() -> None:
    assert len(_TEXTS) + _SENT_BESIDE == 40
    assert _seen(b"x" + base64.b64encode(b"ab" + _token(3).encode() + b"yz")) == [_token(3)]


def _names(folder: Path) -> bytes:
    return "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*")).encode()


def test_stow_shows_no_mark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECESS_STUDY_QUIET_S", "3600")
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):  # the sender's own side
        logging.getLogger(name).setLevel(logging.WARNING)
    answers: list[httpx.Response] = []
    contents = _marked(1)
    with serving(tmp_path) as client:
        for content in (*contents[:3], *_broken(contents[3])):
            named = f"application/dicom\r\nContent-Location: {_token(36)}.dcm\r\nX: {_token(37)}"
            body = b"".join(write_parts([(named, [content])], b"b"))
            head = {"Content-Type": f'multipart/related; type="application/dicom"; boundary=b; x={_token(38)}'}
            answer = client.post("/dicomweb/studies", content=body, headers=head)
            if answer.status_code >= 400:
                answers.append(answer)
        for path in (
            f"/dicomweb/studies?ProtocolName={_token(39)}",
            f"/dicomweb/studies?{_token(39)}=1",
            f"/dicomweb/studies/{_token(39)}",
            f"/dicomweb/studies/1.2.{_uid_token(1)}",
            "/healthz",
            "/readyz",
        ):
            answers.append(client.get(path))
    assert len(answers) > 6
    assert _seen(b"\n".join(answer.content for answer in answers)) == []
    said, complained = capfd.readouterr()
    assert _seen((caplog.text + said + complained).encode()) == []
    assert _seen(_names(tmp_path)) == []


def test_listener_and_assembly_show_no_mark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    store = Store(tmp_path)
    listener = listen(ListenerSettings("RECESS"), store.objects.receive, store.objects.confirm)
    entity = AE(ae_title=_token(36))
    contexts = [build_context(MR, ExplicitVRLittleEndian)]
    marked = _marked(0)
    comments: list[str] = []
    association = entity.associate("127.0.0.1", listener.port, contexts=contexts, ae_title="RECESS")
    for content in marked:
        answer = association.send_c_store(dcmread(io.BytesIO(content)))
        comments.append(str(answer.get("ErrorComment", "")))
    association.release()
    for called in (_token(37), "RECESS"):
        other = entity.associate("127.0.0.1", listener.port, contexts=contexts, ae_title=called)
        if other.is_established:
            other.abort()
    assert enter_arrived(store, str(dcmread(io.BytesIO(marked[0])).StudyInstanceUID)) == "PATIENT_CONFLICT"
    listener.close()
    store.close()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "originals").rglob("*") if path.is_file())
    assert len(_seen(kept)) > len(_TEXTS), "the marks did not come in, so nothing was tried"
    said, complained = capfd.readouterr()
    ours = [record for record in caplog.records if record.name.startswith("recess")]
    assert len(ours) >= len(marked)
    assert _seen("\n".join((caplog.text, said, complained, *comments)).encode()) == []
    assert _seen(_names(tmp_path)) == []
