"""A simulated study through the whole reader, by HTTP and by the command line: the same report, asked twice the same analysis."""

from __future__ import annotations

import io
import json
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from PIL import Image

from inference.cli import DONE, app, run
from service.examples import EXAM
from tests.service.conftest import Serve
from training.phantom import draw_anatomy, study_files

_PATIENCE_S = 600  # an analysis that has not ended by then hangs


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated study as a folder of DICOM files."""
    folder = tmp_path_factory.mktemp("study")
    study_files(draw_anatomy(90_001), folder, seed=90_001)
    (folder / "truth.json").unlink()
    return folder


@pytest.fixture(scope="module")
def exam_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exam") / "exam.json"
    path.write_text(json.dumps(EXAM))
    return path


@pytest.fixture(scope="module")
def by_command(study: Path, exam_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what the command line made of the study."""
    out = tmp_path_factory.mktemp("out")
    assert (
        run(app, ["analyze", str(study), "--exam", str(exam_file), "--out", str(out), "--device", "cpu", "-q"]) == DONE
    )
    return out


def _zip(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.dcm")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def _ended(client: httpx.Client, analysis: str) -> dict[str, Any]:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        row: dict[str, Any] = client.get(f"/v1/analyses/{analysis}").json()
        if row["status"] in {"done", "abstained", "failed"}:
            return row
        time.sleep(0.2)
    raise AssertionError(f"the analysis has not ended: {row}")


def _without_date(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name != "created_at"}


def test_http_gives_the_report_of_the_command_line_and_asked_twice_the_same_analysis(
    serve: Serve, tmp_path: Path, study: Path, by_command: Path
) -> None:
    client = serve(tmp_path)
    sent = client.post("/v1/studies", content=_zip(study), headers={"Content-Type": "application/zip"})
    assert sent.status_code == 201, sent.text
    here = f"/v1/studies/{sent.json()['id']}"
    assert client.put(f"{here}/exam", json=EXAM).status_code == 200
    asked = client.post(f"{here}/analyses")
    assert asked.status_code == 202
    analysis = asked.json()["id"]

    with client.stream("GET", f"/v1/analyses/{analysis}/events", timeout=_PATIENCE_S) as events:
        told = [line for line in events.iter_lines() if line.startswith("event:")]
    assert told[-1] == "event: end"
    row = _ended(client, analysis)
    assert row["status"] == "done", row

    ours = client.get(f"/v1/analyses/{analysis}/report.json").json()
    theirs = json.loads((by_command / "report.json").read_text())
    assert _without_date(ours) == _without_date(theirs)
    assert ours["id"] == analysis

    again = client.post("/v1/studies", content=_zip(study), headers={"Content-Type": "application/zip"})
    assert again.json()["id"] == sent.json()["id"]
    repeated = client.post(f"{here}/analyses").json()
    assert repeated["id"] == analysis
    assert repeated["status"] == "done"

    page = client.get(f"/v1/analyses/{analysis}/report.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "L4-L5" in page.text
    assert client.get(f"/v1/analyses/{analysis}/report.pdf").content.startswith(b"%PDF")
    assert pydicom.dcmread(io.BytesIO(client.get(f"/v1/analyses/{analysis}/seg.dcm").content)).Modality == "SEG"
    assert pydicom.dcmread(io.BytesIO(client.get(f"/v1/analyses/{analysis}/sr.dcm").content)).Modality == "SR"
    for address in row["results"]:
        assert client.get(address).status_code == 200, address
    picture = client.get(f"/v1/analyses/{analysis}/images/sagittal/1.png")
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"
    assert client.get(f"/v1/analyses/{analysis}/images/sagittal/99.png").status_code == 404

    changed = {**EXAM, "general": {**EXAM["general"], "time.onset_days": 11}}
    assert client.put(f"{here}/exam", json=changed).json()["version"] == 2
    other = client.post(f"{here}/analyses", params={"language": "de"}).json()["id"]
    assert other != analysis
    _ended(client, other)
    _tells_both_versions_in_german(client, other)
    assert client.get(f"/v1/analyses/{analysis}/report.json").json() == ours
    (listed,) = client.get("/v1/studies").json()["items"]
    assert listed["analysis"]["id"] == other


def _tells_both_versions_in_german(client: httpx.Client, analysis: str) -> None:
    """The examination of the first analysis was locked by it; the later one stands beside it (M-04)."""
    report = client.get(f"/v1/analyses/{analysis}/report.json").json()
    assert report["id"] == analysis
    assert report["language"] == "de"
    assert [(item["of_study"], item["entered_after_findings"]) for item in report["exam_versions"]] == [
        (True, False),
        (False, True),
    ]
    assert report["exam_versions"][1]["changed"] == ["general:time.onset_days"]
    page = client.get(f"/v1/analyses/{analysis}/report.html").text
    assert '<html lang="de">' in page
    assert "Was nicht warten darf" in page
    assert "Das Urteil beruht auf Fassung 1 von 2" in page
    assert client.get(f"/v1/analyses/{analysis}/report.pdf").content.startswith(b"%PDF")


def test_read_levels_are_complete_each_site_a_finding_or_withheld_with_a_reason(by_command: Path) -> None:
    report = json.loads((by_command / "report.json").read_text())
    told = {
        (item["level"], item["kind"], item.get("side") if item["kind"] == "recess_stenosis" else None)
        for item in (*report["findings"], *report["withheld"])
    }
    for level in ("L4-L5", "L5-S1"):
        assert {
            (level, "herniation", None),
            (level, "canal_stenosis", None),
            (level, "recess_stenosis", "left"),
            (level, "recess_stenosis", "right"),
        } <= told
    assert all(item["reason"] for item in report["withheld"])


def test_several_studies_in_one_folder_get_a_folder_each(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = tmp_path / "both"
    study_files(draw_anatomy(90_002), both / "two", seed=90_002)
    shutil.copytree(study, both / "one")
    out = tmp_path / "out"
    arguments = ["analyze", str(both), "--out", str(out), "--formats", "json", "--device", "cpu", "--json", "-q"]
    assert run(app, arguments) == DONE
    reports = json.loads(capsys.readouterr().out)
    assert len(reports) == 2
    assert sorted(path.name for path in out.iterdir()) == sorted(item["study"]["pseudonym"] for item in reports)


def test_interrupted_writing_leaves_the_earlier_result(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("earlier")

    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("inference.render.html.render_html", stop)
    assert (
        run(app, ["analyze", str(study), "--out", str(out), "--formats", "json,html", "--device", "cpu", "-q"]) == 130
    )
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert (out / "report.html").read_text() == "earlier"
