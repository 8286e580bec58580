"""Prints time per case of the correlation and of `recess correlate` as a whole: python -m tests.inference.bench_correlate [CASES].

One core, drawn cases. The whole command is started several times; its fastest run is the one least disturbed by other work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inference.clinical import assess
from inference.correlate import correlate
from tests.inference.case_generator import random_exam, random_imaging

_STARTS = 7


def main(cases: int) -> None:
    """Print engine, whole answer and whole command."""
    drawn = [(random_exam(seed), random_imaging(seed)) for seed in range(cases)]
    correlate(*drawn[0])
    for name, step in (("engine", correlate), ("whole answer", assess)):
        begin = time.process_time()
        for exam, imaging in drawn:
            step(exam, imaging)
        spent = time.process_time() - begin
        sys.stdout.write(f"{name}: {1000 * spent / cases:.1f} ms a case, {spent:.1f} s for {cases}\n")
    fastest, least = whole_command()
    sys.stdout.write(
        f"recess correlate, whole: {fastest:.2f} s on the clock, {least:.2f} s of processor (best of {_STARTS})\n"
    )


def whole_command() -> tuple[float, float]:
    """Seconds on the clock and of processor that `recess correlate` takes from start to exit, the least of some starts."""
    with tempfile.TemporaryDirectory() as name:
        exam, findings = Path(name) / "exam.json", Path(name) / "findings.json"
        exam.write_text(json.dumps(random_exam(3).to_plain()), encoding="utf-8")
        content = {
            "assessed": ["L4-L5"],
            "findings": [{"level": "L4-L5", "condition": "herniation", "side": "left", "severity": "severe"}],
        }
        findings.write_text(json.dumps(content), encoding="utf-8")
        command = [sys.executable, "-c", "from service.cli import main; main()", "correlate", "--json"]
        command += ["--exam", str(exam), "--findings", str(findings)]
        clock, processor = [], []
        for _ in range(_STARTS):
            before, begin = os.times(), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = os.times()
            clock.append(time.perf_counter() - begin)
            used = after.children_user + after.children_system - before.children_user - before.children_system
            processor.append(used)
    return min(clock), min(processor)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
