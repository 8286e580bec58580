"""Reads every legitimate variant and every abnormal study of the catalogue whole: `python -m tests.findings.run`.

Prints one line an input that is not as declared, and one line of counts each; `--only` takes inputs whose name begins so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from inference.analyze import Engine
from tests.findings.abnormal import abnormal_inputs, judge_abnormal
from tests.findings.invariance import judge_variant, variants
from tests.findings.reading import remembered_networks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("invariance", "abnormal", "all"), nargs="?", default="all")
    parser.add_argument("--only", default="", help="names that begin so")
    parser.add_argument("--verbose", action="store_true", help="print every input")
    options = parser.parse_args()
    with remembered_networks():
        return 1 if _unexpected(options, Engine.load("cpu")) else 0


def _unexpected(options: argparse.Namespace, engine: Engine) -> int:
    unexpected = 0
    if options.part in ("invariance", "all"):
        jobs: list[Callable[[], tuple[str, str]]] = [
            lambda item=item: (item.name, judge_variant(item, 0, engine))
            for item in variants()  # type: ignore[misc]
            if item.name.startswith(options.only)
        ]
        unexpected += _count("catalogue.invariance", "findings_digest_equal", jobs, options.verbose)
    if options.part in ("abnormal", "all"):
        jobs = [
            lambda item=item: (item.name, judge_abnormal(item, engine))
            for item in abnormal_inputs()  # type: ignore[misc]
            if item.name.startswith(options.only)
        ]
        unexpected += _count("geometry.abnormal", "no_mm_side_level_wrong_without_code", jobs, options.verbose)
    return unexpected


def _count(name: str, outcome: str, jobs: Sequence[Callable[[], tuple[str, str]]], verbose: bool) -> int:
    unexpected = 0
    for job in jobs:
        begun = time.monotonic()
        item, wrong = job()
        unexpected += bool(wrong)
        if wrong or verbose:
            sys.stdout.write(f"{item}: {wrong or 'as declared'} ({time.monotonic() - begun:.1f} s)\n")
            sys.stdout.flush()
    sys.stdout.write(f"{name}: inputs={len(jobs)} outcome={outcome} unexpected={unexpected}\n")
    sys.stdout.flush()
    return unexpected


if __name__ == "__main__":
    sys.exit(main())
