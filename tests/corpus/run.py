"""Reads every class of the catalogue and says whether its outcome is the declared one: `python -m tests.corpus.run`."""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib import import_module

from tests.corpus.case import Case, judge
from tests.corpus.scope import OPEN

SECTIONS = ("files", "identity", "geometry", "pixels", "planes", "scope")


def all_cases() -> list[Case]:
    """Every case of every section, in order."""
    return [case for name in SECTIONS for case in import_module(f"tests.corpus.{name}").CASES]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="ids that begin so")
    options = parser.parse_args()
    unexpected = inputs = 0
    for case in all_cases():
        if not case.id.startswith(options.only):
            continue
        if case.needs and shutil.which(case.needs) is None:
            sys.stdout.write(f"{case.id} {case.name}: SKIPPED reason={case.needs} is not installed\n")
            continue
        wrong = [said for seed in range(options.seeds) if (said := judge(case, seed))]
        inputs += options.seeds
        unexpected += len(wrong)
        sys.stdout.write(f"{case.id} {case.name}: {'; '.join(wrong) or 'as declared'}\n")
        sys.stdout.flush()
    if not options.only:
        for name, why in OPEN.items():
            sys.stdout.write(f"{name} open: {why}\n")
    sys.stdout.write(f"catalogue.classes: inputs={inputs} outcome=declared unexpected={unexpected}\n")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
