"""The verbs that read a study: analyze, correlate, inspect, doctor; those of the examination stand in `exam_cli`.

Results go to standard output, the rest to standard error. Exit codes: 0 done, 2 input unreadable or bad option, 3 abstained,
4 internal fault, 130 interrupted. Nothing heavy is imported before a verb needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from inference.exam_cli import exam_app
from inference.exit_codes import ABSTAINED, BAD_INPUT, DONE, FAULT, INTERRUPTED, BadOptionError, write_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicom_io.errors import NoUsableSeries
    from dicom_io.study import Study
    from inference.analyze import Engine, Reading
    from inference.exam import Exam
    from inference.exam_versions import ExamVersions
    from inference.report import Report
    from inference.second_read import FirstRead

__all__ = ["ABSTAINED", "BAD_INPUT", "DONE", "FAULT", "INTERRUPTED", "BadOptionError", "app", "run"]

FORMATS = ("json", "html", "pdf", "seg", "sr", "sc", "fhir")
DEFAULT_FORMATS = "json,html,pdf,seg,sr"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")

# typer carries its own copy of click in newer versions; this is its base of usage errors in either case
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(exam_app, name="exam", help="Make a blank examination form, or check a filled one.")


@dataclass(frozen=True)
class Talk:
    """How much is said on standard error."""

    quiet: bool = False
    verbose: bool = False

    def say(self, text: str) -> None:
        """One plain line, unless quiet."""
        if not self.quiet:
            typer.echo(text, err=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[str, float], None]]:
        """Yields a callback (step, fraction done): a bar on a terminal, one line a step elsewhere, nothing when quiet."""
        if self.quiet:
            yield lambda step, fraction: None
        elif sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task(title, total=1.0)
                yield lambda step, fraction: bar.update(task, completed=fraction, description=f"{title}: {step}")
        else:
            yield lambda step, fraction: self.say(f"{title}: {step} ({fraction:.0%})")


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on standard error but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Input = Annotated[list[Path], typer.Argument(help="Folder, zip or files with DICOM objects.", show_default=False)]
ExamFile = Annotated[Path | None, typer.Option("--exam", help="Examination (YAML or JSON); see `recess exam new`.")]
Language = Annotated[str, typer.Option("--language", help="Language of the sentences: en, de or es.")]
SiteFile = Annotated[
    Path | None,
    typer.Option("--site", envvar="RECESS_SITE", help="Numbers of your site in place of shipped ones (TOML)."),
]
FirstReadFile = Annotated[Path | None, typer.Option("--first-read", help="First read (YAML, JSON or CSV).")]


def run(application: typer.Typer, arguments: Sequence[str] | None = None, name: str = "recess") -> int:
    """Run a command line and return its exit code; every error that is foreseen becomes one line on standard error."""
    command = typer.main.get_command(application)
    try:
        code = command.main(args=None if arguments is None else list(arguments), prog_name=name, standalone_mode=False)
        return int(code or DONE) if code != INTERRUPTED else _interrupted()
    except typer.Exit as stop:
        return stop.exit_code if stop.exit_code != INTERRUPTED else _interrupted()
    except _UsageError as error:
        error.show()
        return BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        return DONE
    except Exception as error:
        known = _exit_code(error)
        if known is not None:
            return _fail(str(error), known)
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            raise
        return _fail(f"internal fault, {type(error).__name__}: {error} (run again with -v for the place)", FAULT)


def _interrupted() -> int:
    return _fail("interrupted; nothing was left half written", INTERRUPTED)


def _fail(text: str, code: int) -> int:
    typer.echo("recess: " + " ".join(text.split()), err=True)
    return code


def _exit_code(error: Exception) -> int | None:
    """Exit code of an error that a person can do something about; None for a fault of the program."""
    from configs import ConfigError
    from configs.clinical.site import SiteError
    from dicom_io.errors import InputError, NoUsableSeries
    from inference.clinical_input import ClinicalInputError

    if isinstance(error, NoUsableSeries):
        return ABSTAINED
    if isinstance(error, InputError | ClinicalInputError | BadOptionError | SiteError):
        return BAD_INPUT
    if isinstance(error, ConfigError):
        return FAULT
    names = {kind.__name__ for kind in type(error).__mro__}  # classes of a room that is only imported when it is needed
    if names & {"DeviceUnavailableError", "FhirExtraMissingError"}:
        return BAD_INPUT
    return FAULT if "WeightsError" in names else None


def _begin(quiet: bool, verbose: bool) -> Talk:
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True)
    for chatty in ("PIL", "matplotlib", "pydicom"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return Talk(quiet, verbose)


@app.command()
def analyze(
    study: Input,
    exam: ExamFile = None,
    first_read: FirstReadFile = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the results; made when absent.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    formats: Annotated[str, typer.Option("--formats", help="Some of " + ",".join(FORMATS) + ".")] = DEFAULT_FORMATS,
    language: Language = "en",
    site: SiteFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Read a lumbar MR study: flags, millimetres, and whether they account for the examination."""
    talk = _begin(quiet, verbose)
    wanted = _formats(formats)
    if not _DEVICE.fullmatch(device):
        raise BadOptionError(f"--device {device}: say auto, cpu, cuda or cuda:N")
    if out is not None and out.exists() and not out.is_dir():
        raise BadOptionError(f"--out {out}: is a file; name a folder")
    _use_tables(language, site)
    if "fhir" in wanted:
        from inference.fhir import require_extra

        require_extra()
    examination, first = _exam_of(exam), _first_read_of(first_read)
    absent = next((path for path in study if not path.exists()), None)
    if absent is not None:
        raise BadOptionError(f"{absent}: no such file or folder; check the path")
    codes: list[int] = []
    printed: list[str] = []
    import dicom_io
    from inference.ahead import engine_ahead

    dicom_io.prepare()  # the decoders are loaded while the rest is
    with engine_ahead(device, wanted if out else ()) as engine:
        talk.say("reading the study's files and loading the networks")
        outcomes = _outcomes(study)
        if len(outcomes) > 1 and (examination or first):
            raise BadOptionError(
                f"the input holds {len(outcomes)} studies; an examination or a first read belongs to one of them"
            )
        for folder, outcome in zip(_folders(out, outcomes), outcomes, strict=True):
            reading = _read_one(talk, outcome, examination, first, engine, language)
            files = reading.save(folder, wanted) if folder else ()
            codes.append(ABSTAINED if reading.report.status == "abstained" else DONE)
            _tell(talk, _as_saved(reading.report, files), files, as_json, printed)
    if as_json:
        typer.echo(printed[0] if len(printed) == 1 else "[" + ",\n".join(printed) + "]")
    return DONE if DONE in codes else ABSTAINED


def _outcomes(paths: Sequence[Path]) -> list[Study | NoUsableSeries]:
    """One outcome a study; an input that is readable but holds no usable study at all is one refusal."""
    from dicom_io import read_outcomes
    from dicom_io.errors import NoUsableSeries

    try:
        return read_outcomes(paths)
    except NoUsableSeries as refusal:
        return [refusal]


def _read_one(
    talk: Talk,
    outcome: Study | NoUsableSeries,
    exam: Exam | ExamVersions | None,
    first_read: FirstRead | None,
    engine: Callable[[], Engine],
    language: str,
) -> Reading:
    from dicom_io.study import Study
    from inference.analyze import abstain, analyze

    if not isinstance(outcome, Study):
        return abstain(outcome, exam=exam, first_read=first_read, language=language)
    with talk.progress(f"study {outcome.patient.pseudonym}") as progress:
        return analyze(outcome, exam=exam, first_read=first_read, engine=engine(), progress=progress, language=language)


def _as_saved(report: Report, files: Sequence[Path]) -> Report:
    """The report as it was written: saving adds a warning where a DICOM object could not be made."""
    from inference.report import Report

    saved = next((path for path in files if path.name == "report.json"), None)
    return Report.model_validate_json(saved.read_bytes()) if saved else report


def _tell(talk: Talk, report: Report, files: Sequence[Path], as_json: bool, printed: list[str]) -> None:
    """Warnings on standard error; the summary on standard output, or the report kept for printing as JSON."""
    for warning in report.warnings:
        talk.say(f"warning {warning.code}: {warning.text}")
    if report.status == "abstained":
        _fail(f"abstained: {report.abstained_reason}", ABSTAINED)
    if as_json:
        printed.append(report.to_json().rstrip())
        return
    from inference.render.text import print_summary

    print_summary(_stdout(), report, files)


def _stdout() -> Console:
    """Standard output for people; wide where it is no terminal, so that lines in a log are not folded early."""
    return Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=132)


def _use_tables(language: str, site_file: Path | None) -> None:
    """Refuse a language without a catalogue; use a site's numbers from here on."""
    from configs.clinical import check_tables, languages
    from configs.clinical.site import use_site

    if language not in languages():
        raise BadOptionError(f"--language {language}: say one of {', '.join(languages())}")
    if site_file is not None:
        use_site(site_file)
        check_tables()


def _formats(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown or not chosen:
        raise BadOptionError(f"--formats {text}: say some of {','.join(FORMATS)}")
    return chosen


def _folders(out: Path | None, outcomes: Sequence[Study | NoUsableSeries]) -> list[Path | None]:
    """Where each study's results go: `out` itself for one study, a folder each for several."""
    if out is None:
        return [None] * len(outcomes)
    if len(outcomes) == 1:
        return [out]
    from dicom_io.study import Study

    names = [o.patient.pseudonym if isinstance(o, Study) else f"abstained-{i}" for i, o in enumerate(outcomes, start=1)]
    return [out / name for name in names]


def _exam_of(path: Path | None) -> Exam | ExamVersions | None:
    if path is None:
        return None
    from inference.exam_versions import load_exam

    return load_exam(path)


def _first_read_of(path: Path | None) -> FirstRead | None:
    if path is None:
        return None
    from inference.second_read import FirstRead

    return FirstRead.load(path)


@app.command()
def correlate(
    exam: Annotated[Path, typer.Option("--exam", help="Examination (YAML or JSON).")],
    findings: Annotated[Path, typer.Option("--findings", help="Findings (YAML, JSON) or a report.json.")],
    first_read: FirstReadFile = None,
    language: Language = "en",
    site: SiteFile = None,
    fhir: Annotated[Path | None, typer.Option("--fhir", help="Also write the answer as FHIR R4B (JSON) here.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Compare findings with an examination, without pixels."""
    _begin(quiet, verbose)
    _use_tables(language, site)
    from inference.clinical import assess_files

    assessment = assess_files(exam, findings, first_read, language)
    result = assessment.to_plain()
    if fhir is not None:
        import datetime as dt

        from inference.fhir import assessment_bundle, bundle_text

        write_file(fhir, bundle_text(assessment_bundle(assessment, dt.datetime.now(dt.UTC))))
    if as_json:
        typer.echo(_json(result))
    else:
        from inference.render.text import correlation_summary

        _stdout().print(correlation_summary(result))
    return DONE


@app.command()
def inspect(study: Input, as_json: AsJson = False, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Show the series of a study: roles with reasons, geometry, warnings. Reads no model."""
    _begin(quiet, verbose)
    import dicom_io

    dicom_io.prepare()  # the decoders are loaded while the rest is
    from dicom_io.inspect import inspect_study

    content = inspect_study(study[0] if len(study) == 1 else study)
    if as_json:
        typer.echo(_json(content))
    else:
        from inference.render.inspection import inspection_summary

        _stdout().print(inspection_summary(content))
    return DONE if any(study["usable"] for study in content["studies"]) else ABSTAINED


@app.command()
def deidentify(
    study: Input,
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the copies.")],
    key_file: Annotated[
        Path, typer.Option("--key-file", help="Secret of at least 32 bytes; equal keys give equal UIDs.")
    ],
    project: Annotated[str, typer.Option("--project", help="Name that keeps the UIDs of projects apart.")] = "",
    reviewed: Annotated[
        list[int] | None,
        typer.Option(
            "--reviewed", help="Number of an object held back for letters that you have looked at; repeat for more."
        ),
    ] = None,
    without_text_detector: Annotated[
        bool, typer.Option("--without-text-detector", help="Look for letters of one grey value only.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write copies of a study without identity (DICOM PS3.15 Basic Profile); what is left out is told. Look at them before sharing."""
    talk = _begin(quiet, verbose)
    from dicom_io.deidentify import KeyTooShort, deidentify
    from dicom_io.lettering import TextDetectorMissing

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadOptionError(f"--out {out}: is there already and not empty; name a new folder")
    try:
        key = key_file.read_bytes()
        export = deidentify(
            study[0] if len(study) == 1 else study,
            out,
            key,
            project,
            reviewed=reviewed or (),
            text_detector=not without_text_detector,
        )
    except OSError as error:
        raise BadOptionError(f"{error.filename}: {error.strerror}") from error
    except KeyTooShort as error:
        raise BadOptionError(f"--key-file {key_file}: {error}") from error
    except TextDetectorMissing as error:
        raise BadOptionError(f"{error}; or give --without-text-detector") from error
    for left in export.left_out:
        talk.say(f"left out {left.path or ''}: {left.code}, {left.text}")
    typer.echo(f"{len(export.written)} objects written to {out}, {len(export.left_out)} left out")
    return DONE


@app.command()
def doctor(as_json: AsJson = False, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Check codecs, weights and their hashes, devices, disk and versions; say what is missing and how to get it."""
    _begin(quiet, verbose)
    from inference.doctor import examine_installation

    checks = examine_installation()
    if as_json:
        typer.echo(_json([vars(check) for check in checks]))
    else:
        for check in checks:
            typer.echo(f"{'ok  ' if check.good else 'MISS'}  {check.name}: {check.text}")
            if check.remedy and not check.good:
                typer.echo(f"      {check.remedy}")
    return DONE if all(check.good for check in checks) else 1


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)
