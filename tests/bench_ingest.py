"""Slices a second of reading a study, beside plain pydicom on the same 200 files: `python -m tests.bench_ingest`.

Both run in a fresh process and their imports count. Received objects are also written with fsync, as a store must before it
says yes. Figures vary with the machine; nothing fails on a slow day. Aim: at most 1.5 times plain pydicom.
"""

from __future__ import annotations

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

from tests.corpus.small_study import datasets, encode

_SLICES, _SIZE, _REPEATS = 200, 384, 3
_PLAIN = """
import sys, pathlib, pydicom
sum(int(pydicom.dcmread(path).pixel_array.shape[0]) for path in sorted(pathlib.Path(sys.argv[1]).iterdir()))
"""
_READ = """
import sys
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


def stored_durably(source: Path, target: Path) -> None:
    """Copy every file as a store does: write, fsync, rename, fsync of the folder."""
    for path in source.iterdir():
        partial, final = target / (path.name + ".part"), target / path.name
        with partial.open("wb") as stream:
            stream.write(path.read_bytes())
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(final)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _cost(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds (children included)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, own = time.perf_counter(), time.process_time()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - wall, cpu + time.process_time() - own


def _script(code: str, *arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "in")
        folder.mkdir()
        write_series(folder)
        ways: dict[str, Callable[[], object]] = {
            "plain pydicom": _script(_PLAIN, str(folder)),
            "recess": _script(_READ, str(folder), str(_SLICES)),
        }
        costs: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(_REPEATS):
            for way, work in ways.items():
                costs[way].append(_cost(work))
        kept = Path(name, "kept")
        kept.mkdir()
        durable = _cost(lambda: stored_durably(folder, kept))
    wall = {way: statistics.median(cost[0] for cost in each) for way, each in costs.items()}
    cpu = {way: statistics.median(cost[1] for cost in each) for way, each in costs.items()}
    lines = [f"{way}: {_SLICES / wall[way]:.0f} slices/s, {wall[way]:.2f} s wall, {cpu[way]:.2f} s CPU" for way in ways]
    both = wall["recess"] + durable[0]
    lines.append(f"recess after a durable copy (fsync): {_SLICES / both:.0f} slices/s, {both:.2f} s wall")
    lines.append(
        f"ingest.ratio: wall={wall['recess'] / wall['plain pydicom']:.2f} cpu={cpu['recess'] / cpu['plain pydicom']:.2f} aim=1.5"
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
