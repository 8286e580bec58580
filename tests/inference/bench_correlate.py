"""Prints time per case of the correlation: python -m tests.inference.bench_correlate [CASES]. One core, whole assessments."""

from __future__ import annotations

import sys
import time

from inference.clinical import assess
from inference.correlate import correlate
from tests.inference.case_generator import random_exam, random_imaging


def main(cases: int) -> None:
    drawn = [(random_exam(seed), random_imaging(seed)) for seed in range(cases)]
    correlate(*drawn[0])
    for name, step in (("engine", correlate), ("whole answer", assess)):
        begin = time.process_time()
        for exam, imaging in drawn:
            step(exam, imaging)
        spent = time.process_time() - begin
        sys.stdout.write(f"{name}: {1000 * spent / cases:.1f} ms a case, {spent:.1f} s for {cases}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
