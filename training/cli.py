"""The workbench: `recess-train synth|check|fit|evaluate|calibrate|ablate`. Heavy libraries are imported only when a command runs.

Results go to standard output, progress to standard error. Exit 0 done, 2 bad option, recipe or data.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from inference.provenance import GRADER, NOTES

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train and measure the networks of recess.")

_DATA_HELP = "Folder of training data; default: environment variable RECESS_DATA, else ../shared/data."
_MEASURED = "sagittal, grades, axial, recess, notes, phantom, traps, coverage, realism or clinical"
DataOption = Annotated[Path | None, typer.Option("--data", help=_DATA_HELP)]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder for checkpoints and caches.")]


def data_folder(given: Path | None) -> Path:
    """The folder of training data: the option, else RECESS_DATA, else ../shared/data. Exits 2 when it is not there."""
    folder = given or Path(os.environ.get("RECESS_DATA") or "../shared/data")
    if not folder.is_dir():
        _refuse(f"{folder}: no such folder of training data; give --data or set RECESS_DATA")
    return folder


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder that receives the studies.")],
    count: Annotated[int, typer.Option(help="Number of phantom studies.")] = 1,
    first_seed: Annotated[int, typer.Option(help="Seed of the first; the others follow.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    protocol: Annotated[str | None, typer.Option(help="block or angled; default: alternates by seed.")] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Also write the label maps.")] = False,
) -> None:
    """Make lumbar phantoms as DICOM studies with their exact truth in millimetres."""
    from rich.console import Console
    from rich.progress import Progress

    from training.phantom.synth import synthesise

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("studies", total=count)
        try:
            for study in synthesise(out, count, first_seed, workers=workers, protocol=protocol, with_labels=labels):
                bar.advance(task)
                typer.echo(str(study))
        except (OSError, ValueError) as error:
            _refuse(str(error))


@app.command()
def check(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a TOML file.")],
    data: DataOption = None,
) -> None:
    """Validate a recipe and its data with one batch forward and backward; trains nothing."""
    import numpy as np

    from training.recipes import dataset_module

    loaded = _recipe(recipe)
    folder = data_folder(data)
    from training.fit import dry_run

    try:
        loss, shape = dry_run(loaded, folder)
        counts = {
            split: sum(1 for _ in dataset_module(loaded).build(loaded, split, np.random.default_rng(0), folder))
            for split in ("validation", "test")
        }
    except (OSError, ValueError) as error:
        _refuse(str(error))
    typer.echo(
        f"recipe {loaded.name}: batch {shape}, loss {loss:.3f}; validation {counts['validation']}, test {counts['test']}"
    )


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a TOML file.")],
    data: DataOption = None,
    runs: RunsOption = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of the network; repeatable at one number.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    stop_after: Annotated[int | None, typer.Option(help="End after so many steps in all; --resume goes on.")] = None,
    ship: Annotated[bool, typer.Option("--ship/--no-ship", help="Install the weights and write the card.")] = False,
) -> None:
    """Train a network as its recipe says."""
    from rich.console import Console
    from rich.progress import Progress

    from models.runtime import DeviceUnavailableError
    from training.fit import ResumeError
    from training.fit import fit as run
    from training.fit import ship as install

    folder = data_folder(data)
    began = time.monotonic(), time.process_time()
    if recipe in (GRADER, NOTES):
        if recipe == GRADER:
            _fit_grader(folder, device, ship)
        else:
            _fit_notes(folder, runs, device, threads, ship)
        typer.echo(_spent(*began))
        return
    loaded = _recipe(recipe)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(loaded.name, total=loaded.optimiser.steps)

        def show(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"{loaded.name} loss {loss:.3f}")

        try:
            result = run(
                loaded,
                folder,
                runs,
                device=device,
                threads=threads,
                resume=resume,
                stop_after=stop_after,
                progress=show,
            )
        except (ResumeError, DeviceUnavailableError, OSError, ValueError) as error:
            _refuse(str(error))
    typer.echo(f"best at step {result.best_step} of {result.steps}: " + _figures(result.dice_by_class))
    typer.echo(_spent(*began))
    if ship:
        card = install(loaded, result, f"recess-train fit {recipe} --threads {threads} --ship")
        typer.echo(f"installed {card.name}, sha256 {card.sha256}")


@app.command()
def evaluate(
    what: Annotated[str, typer.Argument(help=_MEASURED)],
    data: DataOption = None,
    runs: RunsOption = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    count: Annotated[
        int | None,
        typer.Option(
            help="phantom, coverage: studies (60); recess, realism: pictures (100, 200); traps: people (500)."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="traps: processes.")] = 1,
    of_run: Annotated[
        bool, typer.Option("--of-run", help="notes: the members in --runs in place of the shipped ones.")
    ] = False,
    beyond: Annotated[bool, typer.Option("--beyond", help="phantom: outside the ranges of training.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a sheet of overlays or crops, or a plot, here (PNG).")
    ] = None,
) -> None:
    """Measure a shipped network on data it never saw; prints every figure with n and a 95 % interval."""
    if what == "sagittal":
        from training.evaluate import evaluate_sagittal

        typer.echo(evaluate_sagittal(data_folder(data), device=device, sheet=sheet))
    elif what == "grades":
        _fit_grader(data_folder(data), device, ship=False)
    elif what == "axial":
        from training.evaluate_axial import evaluate_axial

        typer.echo(evaluate_axial(data_folder(data), device=device, sheet=sheet))
    elif what == NOTES:
        from training.evaluate_notes import evaluate_notes

        try:
            typer.echo(evaluate_notes(data_folder(data), runs, device=device, of_run=of_run))
        except FileNotFoundError as error:
            _refuse(str(error))
    elif what == "phantom":
        from training.evaluate_phantom import evaluate_phantom

        typer.echo(evaluate_phantom(runs, count=count or 60, beyond=beyond, device=device))
    elif what == "traps":
        from training.evaluate_traps import evaluate_traps

        typer.echo(evaluate_traps(count=count or 500, workers=workers))
    elif what == "recess":
        from training.evaluate_recess import evaluate_recess

        typer.echo(evaluate_recess(data_folder(data), count=count or 100, device=device))
    elif what == "realism":
        from training.evaluate_realism import evaluate_realism

        typer.echo(evaluate_realism(data_folder(data), count=count or 200, device=device, sheet=sheet))
    elif what == "coverage":
        from training.evaluate_coverage import evaluate_coverage

        typer.echo(evaluate_coverage(data_folder(data), runs, count=count or 60, device=device, plot=sheet))
    elif what == "clinical":
        from training.evaluate_clinical import evaluate_clinical

        typer.echo(evaluate_clinical(plot=sheet))
    else:
        _refuse(f"{what!r}: say one of: {_MEASURED}")


@app.command()
def calibrate(
    what: Annotated[str, typer.Argument(help="sagittal: the herniation head on the features of every graded disc.")],
    data: DataOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Fit what turns measurements into probabilities and write it into the network's card."""
    if what != "sagittal":
        _refuse(f"{what!r}: say sagittal")
    from models.runtime import Segmenter
    from training.herniation import install_head

    head = install_head(Segmenter.load("sagittal", device), data_folder(data))
    typer.echo(f"herniation head fitted on {head.fitted_on}")


@app.command()
def ablate(
    what: Annotated[str, typer.Argument(help="axial or notes.")],
    data: DataOption = None,
    runs: RunsOption = Path("runs"),
    threads: Annotated[int, typer.Option(help="CPU threads of the network.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Another budget than the plan's.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot (PNG) of this ablation here.")] = None,
) -> None:
    """Switch each ingredient at one small equal budget and measure on real slices; what is finished in --runs is not run again."""
    from rich.console import Console
    from rich.progress import Progress

    folder = data_folder(data)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)

        def show(name: str, step: int, steps: int) -> None:
            bar.update(task, completed=step, total=steps, description=name)

        if what == "axial":
            from training.ablate import ablate_axial, axial_plan, lines_of

            axial, notes = ablate_axial(axial_plan(steps), folder, runs, threads=threads, progress=show), []
            lines = lines_of(axial)
        elif what == NOTES:
            from training.ablate_notes import ablate_notes, notes_plan
            from training.ablate_notes import lines_of as notes_lines

            axial, notes = [], ablate_notes(notes_plan(steps), folder, runs, threads=threads, progress=show)
            lines = notes_lines(notes)
        else:
            _refuse(f"{what!r}: say axial or notes")
    typer.echo("\n".join(lines))
    if plot is not None:
        from training.ablate_plot import draw

        draw(plot, axial, notes)


def main() -> None:
    """Entry point of `recess-train`."""
    app()


def _fit_notes(folder: Path, runs: Path, device: str, threads: int, ship: bool) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from training.fit_notes import fit_notes, ship_notes

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(NOTES, total=None)

        def show(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"{NOTES} loss {loss:.3f}")

        ensemble = fit_notes(folder, runs, threads=threads, device=device, progress=show)
    if ship:
        card = ship_notes(ensemble, folder, runs)
        typer.echo(f"installed {card.name}, sha256 {card.sha256}")


def _fit_grader(folder: Path, device: str, ship: bool) -> None:
    from models.runtime import Segmenter
    from training.disc_grades import evaluate_grader, fit_grader

    segmenter = Segmenter.load("sagittal", device)
    lines = (
        fit_grader(segmenter, folder, f"recess-train fit {GRADER} --ship")
        if ship
        else evaluate_grader(segmenter, folder)
    )
    typer.echo("\n".join(lines))


def _recipe(name: str) -> Any:
    from configs import ConfigError
    from training.recipes import load_recipe

    try:
        return load_recipe(name)
    except ConfigError as error:
        _refuse(str(error))


def _spent(clock: float, processor: float) -> str:
    """How long it took since these readings of `time.monotonic` and `time.process_time`: a card says it."""
    minutes, of_processor = (time.monotonic() - clock) / 60, (time.process_time() - processor) / 60
    return f"took {minutes:.1f} minutes on the clock, {of_processor:.1f} of processor"


def _figures(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _refuse(text: str) -> Any:
    typer.echo(text, err=True)
    sys.exit(2)
