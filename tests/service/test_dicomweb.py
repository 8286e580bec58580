"""DICOMweb: objects go in as parts, are found by attributes and come out byte for byte; what cannot be kept is said object by object."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from dicom_io.dicomweb import DicomwebClient
from dicom_io.multipart import MultipartError, PartReader, boundary_of, write_parts
from service.settings import Settings
from service.store import Store
from tests.corpus.small_study import datasets, encode, good
from tests.service.conftest import Serve, serving
from tests.service.peers import write_results

_TYPE = 'multipart/related; type="application/dicom"; boundary=b'
File = tuple[str, bytes]


@pytest.fixture(scope="module")
def objects() -> list[File]:
    return good(3)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, objects: list[File]) -> Iterator[httpx.Client]:
    """A service that took in the good study of seed 3 by STOW; not to be written to."""
    with serving(tmp_path_factory.mktemp("filled")) as client:
        assert stow(client, [content for _, content in objects]).status_code == 200
        yield client


def stow(client: httpx.Client, contents: list[bytes], path: str = "/dicomweb/studies") -> httpx.Response:
    body = b"".join(write_parts((("application/dicom", [content]) for content in contents), b"b"))
    return client.post(path, content=body, headers={"Content-Type": _TYPE})


def _uids(content: bytes) -> tuple[str, str, str]:
    dataset = dcmread(io.BytesIO(content), stop_before_pixels=True)
    return str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)


def _failure(answer: httpx.Response, sequence: str = "00081198") -> int:
    return int(answer.json()[sequence]["Value"][0]["00081197"]["Value"][0])


@contextmanager
def dicomweb(client: httpx.Client) -> Iterator[DicomwebClient]:
    with DicomwebClient(str(client.base_url) + "/dicomweb") as web:
        yield web


def test_objects_come_out_byte_for_byte_as_they_went_in(filled: httpx.Client, objects: list[File]) -> None:
    study, series, instance = _uids(objects[0][1])
    with dicomweb(filled) as web:
        assert sorted(web.retrieve(study)) == sorted(content for _, content in objects)
        assert list(web.retrieve(study, series, instance)) == [objects[0][1]]


def test_store_answer_names_every_object(client: httpx.Client, objects: list[File]) -> None:
    answer = stow(client, [content for _, content in objects[:3]])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    stored = {item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]}
    assert stored == {_uids(content)[2] for _, content in objects[:3]}


def test_client_stores_files(client: httpx.Client, objects: list[File], tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    for path, (_, content) in zip(paths, objects, strict=False):
        path.write_bytes(content)
    with dicomweb(client) as web:
        answer = web.store(paths)
        assert answer.failed == {}
        assert answer.stored == {_uids(path.read_bytes())[2] for path in paths}
        assert len(web.search(f"studies/{_uids(objects[0][1])[0]}/instances")) == 3


def test_object_that_is_cut_short_is_kept_aside_and_listed(client: httpx.Client, objects: list[File]) -> None:
    answer = stow(client, [objects[0][1], objects[1][1][:-400]])
    assert answer.status_code == 202
    aside = [item for item in client.get("/v1/arrivals").json()["items"] if not item["study_instance_uid"]]
    assert [item["objects"] for item in aside] == [[{"state": "quarantined", "code": "PIXEL_LENGTH", "count": 1}]]


def test_search_finds_the_study_with_its_counts(filled: httpx.Client, objects: list[File]) -> None:
    dataset = dict(datasets(3))[objects[0][0]]
    with dicomweb(filled) as web:
        (found,) = web.search("studies", {"PatientID": dataset.PatientID})
    assert found["0020000D"]["Value"] == [dataset.StudyInstanceUID]
    assert found["00100010"]["Value"] == [{"Alphabetic": str(dataset.PatientName)}]
    assert found["00201206"]["Value"] == [3]
    assert found["00201208"]["Value"] == [len(objects)]
    assert found["00080061"]["Value"] == ["MR"]


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({"StudyDate": "20240101-20240201"}, True),
        ({"StudyDate": "-20231231"}, False),
        ({"PatientName": "phantom*"}, True),
        ({"PatientName": "Someone*"}, False),
        ({"00100020": "TEST0003"}, True),
        ({"ModalitiesInStudy": "MR"}, True),
        ({"AccessionNumber": "other"}, False),
        ({"PatientName": "[a-z]*"}, False),
    ],
)
def test_study_is_found_only_by_attributes_that_match(
    filled: httpx.Client, query: dict[str, str], matches: bool
) -> None:
    with dicomweb(filled) as web:
        assert bool(web.search("studies", query)) is matches


def test_search_goes_down_to_series_and_objects(filled: httpx.Client, objects: list[File]) -> None:
    study, series, instance = _uids(objects[0][1])
    with dicomweb(filled) as web:
        assert len(web.search(f"studies/{study}/series")) == 3
        (one,) = web.search(f"studies/{study}/series", {"SeriesInstanceUID": series})
        of_series = web.search(f"studies/{study}/series/{series}/instances")
        (found,) = web.search("instances", {"SOPInstanceUID": instance})
    assert one["00201209"]["Value"] == [len(of_series)]
    assert found["00280010"]["Value"] == [110]


def test_search_pages(filled: httpx.Client, objects: list[File]) -> None:
    with dicomweb(filled) as web:
        pages = [web.search("instances", {"limit": "20", "offset": str(offset)}) for offset in (0, 20, 40, 60)]
    uids = [item["00080018"]["Value"][0] for page in pages for item in page]
    assert len(uids) == len(set(uids)) == len(objects)


def test_search_for_what_cannot_be_matched_is_refused(filled: httpx.Client) -> None:
    answer = filled.get("/dicomweb/studies", params={"ProtocolName": "canary"})
    assert answer.status_code == 400
    assert "canary" not in answer.text


def test_search_without_a_match_has_no_content(client: httpx.Client) -> None:
    assert client.get("/dicomweb/studies").status_code == 204


def test_unknown_object_is_404_and_a_path_trick_422(filled: httpx.Client) -> None:
    assert filled.get("/dicomweb/studies/1.2.3").status_code == 404
    assert filled.get("/dicomweb/studies/..%2f..%2findex.sqlite").status_code in {404, 422}


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ('multipart/related; type="application/dicom"; transfer-syntax=*', 200),
        ('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1', 200),
        ('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90', 406),
        ("application/dicom", 200),
        ("image/jpeg", 406),
    ],
)
def test_objects_are_given_in_their_own_syntax_only(
    filled: httpx.Client, objects: list[File], accept: str, status: int
) -> None:
    study, series, instance = _uids(objects[0][1])
    path = f"/dicomweb/studies/{study}/series/{series}/instances/{instance}"
    assert filled.get(path, headers={"Accept": accept}).status_code == status


def test_damaged_object_is_not_given_out(serve: Serve, tmp_path: Path, objects: list[File]) -> None:
    client = serve(tmp_path)
    stow(client, [objects[0][1]])
    (kept,) = [path for path in (tmp_path / "originals").rglob("*") if path.is_file()]
    kept.write_bytes(kept.read_bytes()[:-1] + b"\x7f")
    answer = client.get(f"/dicomweb/studies/{_uids(objects[0][1])[0]}")
    assert answer.status_code == 500
    assert answer.json()["title"] == "BIT_ROT"


def test_object_sent_twice_is_kept_once(client: httpx.Client, objects: list[File], tmp_path: Path) -> None:
    for _ in range(2):
        assert stow(client, [objects[0][1]]).status_code == 200
    assert len([path for path in (tmp_path / "data" / "originals").rglob("*") if path.is_file()]) == 1


def test_other_bytes_under_the_same_uid_are_kept_and_told(client: httpx.Client, objects: list[File]) -> None:
    name, dataset = datasets(3)[0]
    dataset.PixelData = bytes(len(dataset.PixelData) - 2) + b"\1\0"
    assert stow(client, [objects[0][1]]).status_code == 200
    answer = stow(client, [encode(dataset)])
    assert answer.status_code == 202
    assert "SOP_UID_CONFLICT" in answer.headers["warning"]
    assert len(list(client.get("/v1/arrivals").json()["items"][0]["objects"])) == 2, name


def test_refused_objects_are_not_kept(client: httpx.Client, objects: list[File], tmp_path: Path) -> None:
    answer = stow(client, [b"no dicom at all", objects[0][1][:600]])
    assert answer.status_code == 409
    assert _failure(answer, "0008119A") == 0xC000
    assert [path for path in (tmp_path / "data" / "originals").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "data" / "incoming").iterdir()) == []


def test_mixed_upload_is_202_and_good_objects_are_kept(client: httpx.Client, objects: list[File]) -> None:
    answer = stow(client, [objects[0][1], b"no dicom"])
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 1


def test_object_of_another_study_is_refused_where_a_study_is_named(client: httpx.Client, objects: list[File]) -> None:
    study = _uids(objects[0][1])[0]
    answer = stow(client, [objects[0][1], good(4)[0][1]], f"/dicomweb/studies/{study}")
    assert answer.status_code == 202
    assert _failure(answer, "0008119A") == 0xA900


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", _TYPE, 400),
        (b"--b\r\n", _TYPE, 400),
        (b"--b--\r\n", _TYPE, 400),
        (b"--b\r\nContent-Type: application/dicom\r\n\r\nabc", _TYPE, 400),
        (b"x" * 20_000, _TYPE, 413),
        (b"--b\r\n" + b"h: v\r\n" * 3000, _TYPE, 413),
        (b"--b\r\n\r\n\r\n--b--", "application/dicom", 400),
        (b"--b\r\n\r\n\r\n--b--", "multipart/related", 400),
    ],
)
def test_broken_multipart_is_a_problem_not_a_fault(
    client: httpx.Client, body: bytes, content_type: str, status: int
) -> None:
    answer = client.post("/dicomweb/studies", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_more_parts_than_allowed_are_refused() -> None:
    body = b"".join(write_parts((("application/dicom", [b"x"]) for _ in range(5)), b"b"))
    assert len(list(PartReader(b"b", 5).feed(body))) == 5
    with pytest.raises(MultipartError, match="at most 4"):
        list(PartReader(b"b", 4).feed(body))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_parts_are_the_same_however_the_body_is_cut(step: int) -> None:
    contents = [b"", b"\r\n", b"--b", b"\r\n--", bytes(range(256)) * 4, b"\r\n--c\r\n"]
    body = b"text before\r\n" + b"".join(write_parts((("application/dicom", [one]) for one in contents), b"b"))
    reader = PartReader(b"b", 10)
    found: list[bytes] = []
    for at in range(0, len(body), step):
        found += [content for _, content in reader.feed(body[at : at + step])]
    reader.close()
    assert found == contents


def test_boundary_is_read_with_quotes_and_refused_when_it_is_too_long() -> None:
    assert boundary_of('multipart/related; type="application/dicom"; boundary="a b"') == b"a b"
    with pytest.raises(MultipartError):
        boundary_of("multipart/related; boundary=" + "x" * 71)


def test_client_speaks_plain_http_only_on_this_machine() -> None:
    with pytest.raises(ValueError, match="https"):
        DicomwebClient("http://pacs.example/dicom-web")


def test_results_of_an_analysis_are_found_beside_their_study(serve: Serve, tmp_path: Path, objects: list[File]) -> None:
    client = serve(tmp_path)
    stow(client, [content for _, content in objects[:2]])
    folder = tmp_path / "results" / ("a" * 32)
    results = write_results(folder, seed=3)
    store = Store(tmp_path)
    store.objects.add_made(folder)
    store.objects.add_made(folder)
    store.close()
    with dicomweb(client) as web:
        (study,) = web.search("studies")
        made = [web.search("instances", {"SOPClassUID": str(dcmread(path).SOPClassUID)}) for path in results]
        back = list(web.retrieve(_uids(objects[0][1])[0]))
    assert study["00080061"]["Value"] == ["DOC", "MR", "OT", "SEG", "SR"]
    assert [len(found) for found in made] == [1, 1, 1, 1]
    assert {path.read_bytes() for path in results} <= set(back)
    assert len(back) == 2 + len(results)


def test_study_is_entered_when_no_more_objects_come(
    tmp_path: Path, objects: list[File], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECESS_STUDY_QUIET_S", "0.2")
    assert Settings().study_quiet_s == 0.2
    with serving(tmp_path) as client:
        stow(client, [content for _, content in objects])
        while _objects(client) < len(objects):  # on a busy machine a part may be entered first, and the rest joins it
            time.sleep(0.1)
        while client.get("/v1/arrivals").json()["items"][0]["waiting"]:
            time.sleep(0.1)
        assert client.get("/v1/studies").json()["total"] == 1
        assert _objects(client) == len(objects)


def _objects(client: httpx.Client) -> int:
    items = client.get("/v1/studies").json()["items"]
    return int(items[0]["objects"]) if items else 0
