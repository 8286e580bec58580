"""Slices a second of reading a study, beside plain pydicom on the same 200 files: `python -m tests.bench_ingest`.

Both run in a fresh process whose imports count, with bytecode at hand as in an installed program. With fsync: what is received must
be durable before anybody hears so, hence the same files are kept by the service's own code, then read: those of an upload together,
which is what the ratio is about, and one by one, as one association sends them. Plain pydicom writes and reads them too, without a
sync. Runs take turns and medians are given, since figures vary with the machine; nothing fails on a slow day. Aim: at most 1.5 times
plain pydicom.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.originals import Originals
from tests.corpus.small_study import datasets, encode

_SLICES, _SIZE = 200, 384
_PLAIN = """
import sys, pathlib, pydicom
sum(int(pydicom.dcmread(path).pixel_array.shape[0]) for path in sorted(pathlib.Path(sys.argv[1]).iterdir()))
"""
_READ = """
import sys
import dicom_io
dicom_io.prepare()
from dicom_io import read_study
assert read_study(sys.argv[1]).objects == int(sys.argv[2])
"""


def write_series(folder: Path) -> None:
    """200 sagittal slices of 384 x 384 pixels."""
    _, plain = next(item for item in datasets(0) if item[0] == "sagT2/000")
    rng = np.random.default_rng(0)
    plain.Rows = plain.Columns = _SIZE
    plain.PixelSpacing = [0.7, 0.7]
    uid = plain.SOPInstanceUID
    for number in range(_SLICES):
        plain.SOPInstanceUID = f"{uid}.{number}"
        plain.ImagePositionPatient = [number * 1.2 - 120, -95.0, 110.0]
        plain.SpacingBetweenSlices = 1.2
        plain.PixelData = rng.integers(1, 1500, (_SIZE, _SIZE)).astype("<u2").tobytes()
        (folder / f"{number:04d}.dcm").write_bytes(encode(plain))


def stored(source: Path, target: Path, *, together: bool) -> None:
    """Take every file in as the service does, durably: those of an upload together, or one by one, each before the next comes."""
    spool = target / "incoming"
    spool.mkdir(parents=True)
    originals = Originals(target / "originals")
    waiting: list[Path] = []
    for path in source.iterdir():
        spooled = spool / path.name
        spooled.write_bytes(path.read_bytes())
        waiting.append(spooled)
        if not together:
            originals.keep([waiting.pop()])
    if waiting:
        originals.keep(waiting)


def copied(source: Path, target: Path) -> None:
    """A plain copy, durable when the system sees fit."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def _cost(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds (children included)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, own = time.perf_counter(), time.process_time()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - wall, cpu + time.process_time() - own


def _script(code: str, bytecode: Path, *arguments: str) -> Callable[[], object]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    return lambda: subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment)


def _ways(place: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    folder = place / "in"
    plain = _script(_PLAIN, place / "bytecode", str(folder))
    recess = _script(_READ, place / "bytecode", str(folder), str(_SLICES))
    number = itertools.count()

    def after(taking_in: Callable[[Path], object], work: Callable[[], object]) -> Callable[[], object]:
        return lambda: (taking_in(place / str(next(number))), work())

    return {
        "plain pydicom": plain,
        "recess": recess,
        "plain pydicom after a copy": after(lambda target: copied(folder, target), plain),
        "recess after a durable copy": after(lambda target: stored(folder, target, together=True), recess),
        "recess after durable copies one by one": after(lambda target: stored(folder, target, together=False), recess),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "in").mkdir()
        write_series(place / "in")
        ways = _ways(place)
        for way in ("plain pydicom", "recess"):  # warms the file cache and writes the bytecode
            ways[way]()
        costs: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(repeats):
            for way, work in ways.items():
                costs[way].append(_cost(work))
    wall = {way: statistics.median(cost[0] for cost in each) for way, each in costs.items()}
    cpu = {way: statistics.median(cost[1] for cost in each) for way, each in costs.items()}
    lines = [f"{way}: {_SLICES / wall[way]:.0f} slices/s, {wall[way]:.2f} s wall, {cpu[way]:.2f} s CPU" for way in ways]
    for title, ours, theirs in (
        ("ingest.ratio", "recess", "plain pydicom"),
        ("ingest.ratio with fsync", "recess after a durable copy", "plain pydicom after a copy"),
        ("ingest.ratio with fsync one by one", "recess after durable copies one by one", "plain pydicom after a copy"),
    ):
        lines.append(f"{title}: wall={wall[ours] / wall[theirs]:.2f} cpu={cpu[ours] / cpu[theirs]:.2f} aim=1.5")
    load = os.getloadavg()[0]
    lines.append(f"machine: {os.cpu_count()} cores, load {load:.1f} (a busy machine hides what runs side by side)")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
