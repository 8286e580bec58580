"""The verbs of the examination: a blank form, a check, the lock, later versions, and the way from and to FHIR.

Nothing is imported before a verb needs it. A file is written whole or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inference.exit_codes import DONE, BadOptionError, write_file

if TYPE_CHECKING:
    from inference.exam_versions import ExamVersions

exam_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@exam_app.command("new")
def exam_new(
    file: Annotated[Path | None, typer.Argument(help="File to write; standard output when absent.")] = None,
) -> int:
    """A blank examination with a comment on every field. Blank means not examined."""
    from inference.exam import exam_template

    text = exam_template()
    if file is None:
        typer.echo(text, nl=False)
        return DONE
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError as error:
        raise BadOptionError(f"{file}: is there already; name a new file") from error
    except OSError as error:
        raise BadOptionError(f"{file}: cannot be written ({error.strerror})") from error
    typer.echo(f"{file}: fill in what was examined, leave the rest blank", err=True)
    return DONE


@exam_app.command("check")
def exam_check(file: Annotated[Path, typer.Argument(help="A filled examination (YAML or JSON).")]) -> int:
    """Check a filled examination; an error names the field, what was given and what the scale allows."""
    from inference.exam_versions import all_versions, load_exam

    count = len(all_versions(load_exam(file)).versions)
    typer.echo(f"{file}: can be used" + (f", {count} versions" if count > 1 else ""))
    return DONE


@exam_app.command("lock")
def exam_lock(
    file: Annotated[Path, typer.Argument(help="A filled examination; rewritten without its comments.")],
) -> int:
    """Lock an examination before any finding is shown. Later versions are kept beside it and told apart."""
    import datetime as dt

    from inference.exam_versions import all_versions, load_exam

    _rewrite(file, all_versions(load_exam(file)).locked(dt.datetime.now(dt.UTC)))
    typer.echo(f"{file}: locked", err=True)
    return DONE


@exam_app.command("add")
def exam_add(
    file: Annotated[Path, typer.Argument(help="The examination so far; rewritten without its comments.")],
    later: Annotated[Path, typer.Argument(help="A later examination of the same patient.")],
) -> int:
    """Add a later examination as a new version. The verdict of a study stays with the locked one; a tier is only raised."""
    from inference.exam import Exam
    from inference.exam_versions import all_versions, load_exam

    series = all_versions(load_exam(file)).with_version(Exam.load(later))
    _rewrite(file, series)
    typer.echo(f"{file}: version {len(series.versions)} added", err=True)
    return DONE


@exam_app.command("import")
def exam_import(
    bundle: Annotated[Path, typer.Argument(help="A FHIR R4B Bundle of Observations (JSON).")],
    file: Annotated[Path, typer.Argument(help="The examination to write (YAML or JSON); a new file.")],
) -> int:
    """Make an examination from FHIR Observations; an error names the entry, and nothing is written."""
    from inference.exam_versions import all_versions
    from inference.fhir import load_exam_bundle

    exam = load_exam_bundle(bundle)
    if file.exists():
        raise BadOptionError(f"{file}: is there already; name a new file")
    _rewrite(file, all_versions(exam))
    typer.echo(f"{file}: written from {bundle.name}", err=True)
    return DONE


@exam_app.command("export")
def exam_export(
    file: Annotated[Path, typer.Argument(help="A filled examination (YAML or JSON).")],
    bundle: Annotated[Path, typer.Argument(help="The FHIR R4B Bundle to write (JSON).")],
    pseudonym: Annotated[
        str | None, typer.Option(help="How the patient is named in it, where the examination does not say it.")
    ] = None,
) -> int:
    """Write an examination as FHIR Observations; what was not examined has none."""
    from inference.exam import Exam
    from inference.exam_versions import PATIENT
    from inference.fhir import bundle_text, exam_bundle

    exam = Exam.load(file)
    named = pseudonym or exam.general.get(PATIENT) or "anonymous"
    write_file(bundle, bundle_text(exam_bundle(exam, named)))
    typer.echo(f"{bundle}: written from {file.name}", err=True)
    return DONE


def _rewrite(file: Path, series: ExamVersions) -> None:
    try:
        series.save(file)
    except OSError as error:
        raise BadOptionError(f"{file}: cannot be written ({error.strerror})") from error
