"""Wall time and peak memory of a whole `recess analyze`, the time of each step, and CPU runtimes, on a simulated study of 96 slices.

`make bench` runs it. Aim on two cores: 20 s and 2 GB. Figures vary with the machine; nothing fails on a slow day.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench_runtime import Measured, measure_all, print_table

_GIB = 1024.0**3
_AIM_S, _AIM_GIB = 20.0, 2.0


def run_whole(study: Path, out: Path, device: str) -> tuple[float, float, int]:
    """Wall seconds, peak resident GiB of the command with its children (the larger one) and its exit code."""
    program = str(Path(sys.executable).with_name("recess"))
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    arguments = [program, "analyze", str(study), "--out", str(out), "--device", device, "-q"]
    pid = os.posix_spawn(program, arguments, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / _GIB, os.waitstatus_to_exitcode(status)


def run_steps(study: Path, device: str) -> dict[str, float]:
    """Seconds of reading, loading the networks and each step of `analyze` and of saving, one after the other."""
    from dicom_io import read_study
    from inference.analyze import Engine, analyze

    seconds: dict[str, float] = {}
    start = time.perf_counter()
    read = read_study(study)
    seconds["read DICOM"] = time.perf_counter() - start
    start = time.perf_counter()
    engine = Engine.load(device)
    seconds["load networks"] = time.perf_counter() - start
    marks: list[tuple[str, float]] = []
    reading = analyze(read, engine=engine, progress=lambda name, _: marks.append((name, time.perf_counter())))
    with tempfile.TemporaryDirectory() as folder:
        reading.save(folder, progress=lambda name: marks.append((f"save: {name}", time.perf_counter())))
    marks.append(("end", time.perf_counter()))
    for (name, begin), (_, end) in itertools.pairwise(marks):
        seconds[name] = end - begin
    return seconds


def measured_runtimes(study: Path) -> tuple[list[Measured], list[str]]:
    """The networks on the study's own inputs by each CPU runtime."""
    from dicom_io import read_study
    from inference.analyze import Engine

    return measure_all(Engine.load("cpu"), read_study(study))


def main() -> int:
    """Print the table; exit 1 when the analysis itself failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=990001)
    parser.add_argument("--no-runtimes", dest="runtimes", action="store_false", help="leave out the table of runtimes")
    parser.add_argument("--study", type=Path, help="a DICOM study of your own instead of a simulated one")
    options = parser.parse_args()
    console = Console(width=132)
    with tempfile.TemporaryDirectory() as folder:
        study = options.study
        if study is None:
            from training.phantom import draw_anatomy, render_study

            study = Path(folder) / "study"
            start = time.perf_counter()
            render_study(draw_anatomy(options.seed), study, seed=options.seed, protocol="whole")
            console.print(f"simulated study written in {time.perf_counter() - start:.1f} s")
        wall, peak, code = run_whole(study, Path(folder) / "out", options.device)
        steps = run_steps(study, options.device)
        runtimes = measured_runtimes(study) if options.device == "cpu" and options.runtimes else None
    table = Table("step", "seconds", title="recess analyze, 18 + 18 + 60 slices, one after the other")
    for name, value in steps.items():
        table.add_row(name, f"{value:.2f}")
    console.print(table)
    console.print(
        f"whole command: {wall:.1f} s wall (aim {_AIM_S:.0f}), {peak:.2f} GiB peak (aim {_AIM_GIB:.0f}), exit {code}"
    )
    console.print(
        json.dumps({"wall_s": round(wall, 2), "peak_gib": round(peak, 3), "steps_s": steps, "cores": os.cpu_count()})
    )
    if runtimes is not None:
        print_table(console, *runtimes)
    return 0 if code == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
