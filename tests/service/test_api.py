"""The HTTP interface without an analysis: taking studies in, entries with named fields, refusals, headers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from service.examples import EXAM, FINDINGS
from service.settings import Settings
from tests.corpus.small_study import good
from tests.service.conftest import Serve

PROBLEM = "application/problem+json"


def zipped(files: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def objects() -> list[tuple[str, bytes]]:
    return good(1)


def _posted(client: httpx.Client, objects: list[tuple[str, bytes]]) -> str:
    answer = client.post("/v1/studies", content=zipped(objects), headers={"Content-Type": "application/zip"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_importing_the_service_loads_no_torch() -> None:
    code = "import sys, service.app; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_zip_becomes_a_study_with_its_series_and_roles(client: httpx.Client, objects: list[tuple[str, bytes]]) -> None:
    study = client.get(f"/v1/studies/{_posted(client, objects)}").json()
    assert study["objects"] == len(objects)
    assert {"sagittal_t2", "sagittal_t1", "axial_t2"} <= {series["role"] for series in study["series"]}
    assert all(series["reason"] for series in study["series"])
    assert study["pseudonym"].startswith("P-")


def test_same_study_as_zip_and_as_parts_is_one_study(client: httpx.Client, objects: list[tuple[str, bytes]]) -> None:
    as_zip = _posted(client, objects)
    parts = [("files", (name, content, "application/dicom")) for name, content in objects]
    answer = client.post("/v1/studies", files=parts)
    assert answer.status_code == 201
    assert answer.json()["id"] == as_zip
    assert client.get("/v1/studies").json()["total"] == 1


def test_objects_that_come_later_are_joined_to_their_study(
    client: httpx.Client, objects: list[tuple[str, bytes]]
) -> None:
    half = len(objects) // 2
    first = _posted(client, objects[:half])
    second = _posted(client, objects[half:])
    assert first == second
    assert client.get(f"/v1/studies/{first}").json()["objects"] == len(objects)


def test_upload_without_dicom_says_what_became_of_every_object(client: httpx.Client) -> None:
    answer = client.post("/v1/studies", files=[("files", ("a.dcm", b"text")), ("files", ("b.dcm", b""))])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert [item["code"] for item in answer.json()["objects"]] == ["NOT_DICOM", "EMPTY"]
    assert client.get("/v1/studies").json()["total"] == 0


def test_refused_upload_leaves_nothing_behind(client: httpx.Client, tmp_path: Path) -> None:
    client.post("/v1/studies", content=b"no dicom at all")
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file() and "index" not in path.name] == []


def test_name_of_a_part_does_not_decide_where_it_is_written(
    client: httpx.Client, objects: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    parts = [("files", (f"../../escape-{name}", content)) for name, content in objects]
    assert client.post("/v1/studies", files=parts).status_code == 201
    assert not list(tmp_path.rglob("*escape*"))


def test_study_is_there_after_a_restart(serve: Serve, tmp_path: Path, objects: list[tuple[str, bytes]]) -> None:
    study = _posted(serve(tmp_path), objects)
    assert serve(tmp_path).get(f"/v1/studies/{study}").status_code == 200


def test_examination_is_kept_in_versions(client: httpx.Client, objects: list[tuple[str, bytes]]) -> None:
    study = _posted(client, objects)
    assert client.put(f"/v1/studies/{study}/exam", json=EXAM).json()["version"] == 1
    assert client.put(f"/v1/studies/{study}/exam", json=EXAM).json()["version"] == 1
    assert client.put(f"/v1/studies/{study}/exam", json={"left": {}}).json()["version"] == 2
    assert client.get(f"/v1/studies/{study}").json()["exam_version"] == 2


def test_wrong_examination_is_refused_and_the_field_named(
    client: httpx.Client, objects: list[tuple[str, bytes]]
) -> None:
    study = _posted(client, objects)
    answer = client.put(f"/v1/studies/{study}/exam", json={"left": {"mrc.tibialis_anterior": "7"}})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert "mrc.tibialis_anterior" in answer.json()["field"]
    assert "4+" in answer.json()["allowed"]
    assert client.get(f"/v1/studies/{study}").json()["exam_version"] is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_body_that_is_no_json_is_a_problem_not_a_fault(
    client: httpx.Client, objects: list[tuple[str, bytes]], body: bytes
) -> None:
    study = _posted(client, objects)
    assert client.put(f"/v1/studies/{study}/exam", content=body).status_code == 422


def test_json_body_beyond_the_limit_is_refused(client: httpx.Client, objects: list[tuple[str, bytes]]) -> None:
    study = _posted(client, objects)
    answer = client.put(f"/v1/studies/{study}/exam", content=b" " * (Settings().max_json_bytes + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path", ["/v1/studies/none", "/v1/analyses/none", "/v1/analyses/none/report.json", "/v1/analyses/none/events"]
)
def test_unknown_id_is_404_as_a_problem(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize(
    "path", ["/v1/analyses/x/../../../index.sqlite", "/v1/analyses/..%2f..%2findex.sqlite/report.json"]
)
def test_path_tricks_reach_no_file(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code in {404, 422}


def test_request_for_another_host_or_from_another_page_is_refused(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"Host": "elsewhere.example"}).status_code == 421
    assert client.get("/healthz", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert client.get("/healthz", headers={"Origin": "http://127.0.0.1:8080"}).status_code == 200


def test_every_answer_carries_the_protective_headers(client: httpx.Client) -> None:
    for path in ("/healthz", "/v1/studies", "/nowhere", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"


def test_correlation_needs_no_study(client: httpx.Client) -> None:
    answer = client.post("/v1/correlate", json={"exam": EXAM, "findings": FINDINGS})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert result["concordance"]["verdict"]
    assert result["triage"]["tier"] in {"T1", "T2", "T3", "T4"}
    assert result["disclaimer"]


def test_correlation_of_wrong_findings_names_the_field(client: httpx.Client) -> None:
    wrong = json.loads(json.dumps(FINDINGS))
    wrong["findings"][0]["level"] = "L9-L10"
    answer = client.post("/v1/correlate", json={"exam": EXAM, "findings": wrong})
    assert answer.status_code == 422
    assert "level" in answer.json()["field"]


@pytest.mark.parametrize("body", [[], {"exam": {}}, {"exam": {}, "findings": {}, "more": 1}])
def test_correlation_body_of_another_shape_is_refused(client: httpx.Client, body: object) -> None:
    assert client.post("/v1/correlate", json=body).status_code == 422


@pytest.mark.parametrize(("language", "heading"), [("de", "Was nicht warten darf"), ("es", "Lo que no debe esperar")])
def test_a_correlation_speaks_the_language_that_is_asked_for(client: httpx.Client, language: str, heading: str) -> None:
    body = {"exam": EXAM, "findings": FINDINGS}
    answer = client.post("/v1/correlate", json=body, params={"language": language}).json()
    english = client.post("/v1/correlate", json=body).json()
    assert answer["language"] == language
    assert answer["narrative"][0]["section"] == heading
    assert answer["concordance"]["verdict"] == english["concordance"]["verdict"]
    assert answer["triage"]["rules"][0]["text"] != english["triage"]["rules"][0]["text"]


def test_an_examination_of_another_patient_is_refused_and_not_kept(
    client: httpx.Client, objects: list[tuple[str, bytes]]
) -> None:
    here = f"/v1/studies/{_posted(client, objects)}"
    before = client.get(here).json()
    refused = client.put(f"{here}/exam", json={"general": {"meta.patient": "P-0123456789"}})
    assert (refused.status_code, refused.json()["field"]) == (422, "general.meta.patient")
    assert client.get(here).json()["exam_version"] == before["exam_version"]
    own = {"general": {"meta.patient": before["pseudonym"]}}
    assert client.put(f"{here}/exam", json=own).status_code == 200


def test_a_language_without_a_catalogue_is_refused(client: httpx.Client, objects: list[tuple[str, bytes]]) -> None:
    study = _posted(client, objects)
    for path in (f"/v1/studies/{study}/analyses", "/v1/correlate"):
        refused = client.post(path, json={"exam": EXAM, "findings": FINDINGS}, params={"language": "fr"})
        assert (refused.status_code, refused.json()["field"]) == (422, "language")
    assert client.get(f"/v1/studies/{study}").json()["analyses"] == []


def test_examples_of_the_description_are_valid(client: httpx.Client, objects: list[tuple[str, bytes]]) -> None:
    description = client.get("/openapi.json").json()
    here = f"/v1/studies/{_posted(client, objects)}"
    for part in ("exam", "first-read"):
        content = description["paths"][f"/v1/studies/{{study_id}}/{part}"]["put"]["requestBody"]["content"]
        sent = client.put(f"{here}/{part}", json=content["application/json"]["example"])
        assert sent.status_code == 200, sent.text
    operation = description["paths"]["/v1/correlate"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/v1/correlate", json=example).status_code == 200


def test_every_route_is_documented(client: httpx.Client) -> None:
    documented = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    for path in client.get("/openapi.json").json()["paths"]:
        tail = path.rsplit("/", 1)[-1].replace("{name}", "report.json").replace("{number}", "{n}")
        tail = tail.replace("{study_id}", "studies/{id}").replace("{analysis_id}", "analyses/{id}")
        assert tail in documented, path


def test_every_setting_is_documented() -> None:
    documented = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"RECESS_{name.upper()}" in documented
