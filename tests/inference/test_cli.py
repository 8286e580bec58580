"""The command line: exit codes, one-line errors, nothing heavy for a question that needs nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pydicom
import pytest

from dicom_io.codes import ALL
from inference.cli import ABSTAINED, BAD_INPUT, DONE, FAULT, INTERRUPTED, app, run
from service.examples import EXAM, FINDINGS
from tests.corpus.small_study import good

_HEAVY = ("torch", "monai", "fastapi", "sqlalchemy", "pydicom", "highdicom", "scipy", "typst")


def _one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recess: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("arguments", [["--help"], ["analyze", "--help"], ["serve", "--help"], ["exam", "new"]])
def test_help_and_blank_form_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from service.cli import app; from inference.cli import run; "
        f"code = run(app, {arguments!r}); "
        f"found = [name for name in {_HEAVY!r} if name in sys.modules]; "
        "sys.exit(f'loaded {found}' if found else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_verb_of_the_contract_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    from service.cli import app as whole

    assert run(whole, ["--help"]) == DONE
    words = capsys.readouterr().out.split()
    assert {"analyze", "correlate", "inspect", "exam", "serve", "doctor"} <= set(words)


def test_missing_folder_is_bad_input_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(app, ["analyze", str(tmp_path / "nowhere")]) == BAD_INPUT
    assert "nowhere" in _one_line(capsys)


def test_folder_without_dicom_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    assert run(app, ["analyze", str(tmp_path)]) == BAD_INPUT
    assert "DICOM" in _one_line(capsys)


def test_zip_without_dicom_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.writestr("readme.txt", "no image")
    assert run(app, ["inspect", str(tmp_path / "study.zip")]) == BAD_INPUT
    _one_line(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze", ".", "--formats", "json,docx"],
        ["analyze", ".", "--device", "tpu"],
        ["analyze", ".", "--formats", ""],
        ["analyze"],
        ["analyze", ".", "--nonsense"],
        ["nonsense"],
    ],
)
def test_bad_option_is_exit_2(arguments: list[str]) -> None:
    assert run(app, arguments) == BAD_INPUT


def test_file_as_output_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert run(app, ["analyze", str(tmp_path), "--out", str(tmp_path / "out")]) == BAD_INPUT


def test_wrong_examination_is_refused_before_the_study_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    exam = tmp_path / "exam.yaml"
    exam.write_text('left: {mrc.tibialis_anterior: "7"}\n')
    assert run(app, ["analyze", str(tmp_path / "nowhere"), "--exam", str(exam)]) == BAD_INPUT
    assert "mrc.tibialis_anterior" in _one_line(capsys)


def test_blank_examination_form_is_a_valid_examination(tmp_path: Path) -> None:
    form = tmp_path / "exam.yaml"
    assert run(app, ["exam", "new", str(form)]) == DONE
    assert run(app, ["exam", "check", str(form)]) == DONE


def test_blank_form_does_not_overwrite_a_filled_one(tmp_path: Path) -> None:
    form = tmp_path / "exam.yaml"
    form.write_text("left: {}\n")
    assert run(app, ["exam", "new", str(form)]) == BAD_INPUT
    assert form.read_text() == "left: {}\n"


def test_fault_of_the_program_is_exit_4_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    broken = typer.Typer()

    @broken.command()
    def fail() -> None:
        raise ZeroDivisionError("division by\nzero")

    assert run(broken, []) == FAULT
    assert "division by zero" in _one_line(capsys)


def test_interruption_is_exit_130(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    endless = typer.Typer()

    @endless.command()
    def wait() -> None:
        raise KeyboardInterrupt

    assert run(endless, []) == INTERRUPTED
    _one_line(capsys)


def test_doctor_finds_codecs_weights_device_and_disk(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["doctor", "--json"]) == DONE
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert {"versions", "device", "disk", "codec JPEG 2000", "weights sagittal", "weights axial"} <= set(checks)
    assert all(check["good"] for check in checks.values())


def test_doctor_says_how_to_mend_missing_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("models.weights.WEIGHTS", tmp_path)
    assert run(app, ["doctor"]) == 1
    assert "install it again" in capsys.readouterr().out


def test_service_listens_only_on_loopback() -> None:
    from service.cli import app as whole

    assert run(whole, ["serve", "--host", "0.0.0.0"]) == BAD_INPUT


@pytest.mark.parametrize("name", ["ge_ct_head", "siemens_spectroscopy_mr", "pydicom_ct_bad_sequence"])
def test_what_is_no_lumbar_mr_is_abstained_with_a_report_that_holds_a_reason_and_no_finding(
    recess_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    folder = recess_data / "dicom-vendors" / name
    if not folder.is_dir():
        pytest.skip("vendor samples are not on this machine")
    assert run(app, ["analyze", str(folder), "--out", str(tmp_path), "--json", "-q"]) == ABSTAINED
    printed = capsys.readouterr()
    assert len([line for line in printed.err.splitlines() if line.startswith("recess: abstained")]) == 1
    report = json.loads(printed.out)
    assert report["status"] == "abstained"
    assert report["abstained_reason"]
    assert report["findings"] == []
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.html", "report.pdf"}


def test_inspection_of_images_that_are_no_mr_is_exit_3(recess_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recess_data / "dicom-vendors" / "ge_ct_head"
    if not folder.is_dir():
        pytest.skip("vendor samples are not on this machine")
    assert run(app, ["inspect", str(folder)]) == ABSTAINED
    told = " ".join(capsys.readouterr().out.split())
    assert "not usable" in told
    assert "MODALITY: " in told
    assert ALL["MODALITY"] in told


def test_inspection_names_roles_with_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (_, content) in enumerate(good(3)):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    assert run(app, ["inspect", str(tmp_path), "--json"]) == DONE
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    assert {"sagittal_t1", "sagittal_t2", "axial_t2"} <= {series["role"] for series in study["series"]}
    assert run(app, ["inspect", str(tmp_path)]) == DONE
    words = " ".join(capsys.readouterr().out.split())
    assert study["pseudonym"] in words
    assert "axial T2" in words


def test_inspection_ranks_candidates_and_says_what_was_left_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [content for name, content in good(3) if name != "sagT2/007"]  # a gap: two stacks for one role
    for number, content in enumerate((*files, b"", files[0][:900])):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    assert run(app, ["inspect", str(tmp_path), "--json"]) == DONE
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    choices = [(row["choice"], row["candidates"]) for row in study["series"] if row["role"] == "sagittal_t2"]
    assert sorted(choices) == [(1, 2), (2, 2)]
    assert {item["code"] for item in study["excluded"]} == {"EMPTY", "TRUNCATED"}
    assert run(app, ["inspect", str(tmp_path)]) == DONE
    words = " ".join(capsys.readouterr().out.split())
    assert "1 of 2" in words
    for code in ("EMPTY", "TRUNCATED", "SLICE_MISSING"):
        assert f"{code}: " in words
        assert ALL[code].split(";")[0] in words


def test_correlation_from_files_prints_verdict_triage_and_disclaimer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exam.json").write_text(json.dumps(EXAM))
    (tmp_path / "findings.json").write_text(json.dumps(FINDINGS))
    files = ["--exam", str(tmp_path / "exam.json"), "--findings", str(tmp_path / "findings.json")]
    assert run(app, ["correlate", *files]) == DONE
    words = " ".join(capsys.readouterr().out.split())
    assert "What must not wait" in words
    assert "not a medical device" in words
    assert run(app, ["correlate", *files, "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    assert result["concordance"]["verdict"] in words
    assert run(app, ["correlate", "--exam", str(tmp_path / "none.yaml"), *files[2:]]) == BAD_INPUT


def test_copies_without_identity_are_written_and_a_short_key_is_refused(
    small_study: tuple[Path, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"short")
    options = [str(small_study[0]), "--key-file", str(key), "--out", str(tmp_path / "copies"), "-q"]
    assert run(app, ["deidentify", *options]) == BAD_INPUT
    assert not (tmp_path / "copies").exists()
    key.write_bytes(bytes(range(32)))
    assert run(app, ["deidentify", *options]) == DONE
    copies = sorted((tmp_path / "copies").rglob("*.dcm"))
    assert f"{len(copies)} objects written" in capsys.readouterr().out
    assert copies
    assert all("PHANTOM" not in str(pydicom.dcmread(path).PatientName) for path in copies)
