"""Wall time and peak memory of a whole `recess analyze`, and the time of each step, on a simulated study of 18 + 18 + 60 slices.

`make bench` runs it. Floor on two cores: 60 s and 4 GB. Figures vary with the machine; nothing fails on a slow day.
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

_GIB = 1024.0**3
_FLOOR_S, _FLOOR_GIB = 60.0, 4.0


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


def main() -> int:
    """Print the table; exit 1 when the analysis itself failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=990001)
    parser.add_argument("--study", type=Path, help="a DICOM study of your own instead of a simulated one")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        study = options.study
        if study is None:
            from training.phantom import draw_anatomy, render_study

            study = Path(folder) / "study"
            start = time.perf_counter()
            render_study(draw_anatomy(options.seed), study, seed=options.seed, protocol="block")
            console.print(f"simulated study written in {time.perf_counter() - start:.1f} s")
        wall, peak, code = run_whole(study, Path(folder) / "out", options.device)
        steps = run_steps(study, options.device)
    table = Table("step", "seconds", title="recess analyze, 18 + 18 + 60 slices")
    for name, value in steps.items():
        table.add_row(name, f"{value:.2f}")
    console.print(table)
    console.print(
        f"whole command: {wall:.1f} s wall (floor {_FLOOR_S:.0f}), {peak:.2f} GiB peak (floor {_FLOOR_GIB:.0f}), exit {code}"
    )
    console.print(
        json.dumps({"wall_s": round(wall, 2), "peak_gib": round(peak, 3), "steps_s": steps, "cores": os.cpu_count()})
    )
    return 0 if code == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
