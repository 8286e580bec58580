"""Reads every legitimate variant and every abnormal study of the catalogue whole: `python -m tests.findings.run`.

Prints one line an input that is not as declared, and one line of counts each; `--only` takes inputs whose name begins so.
`--page` writes docs/findings.md instead: every input, and what it may change.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from inference.analyze import Engine
from tests.findings.abnormal import abnormal_inputs, inputs_of, judge_abnormal
from tests.findings.invariance import judge_variant, variants
from tests.findings.reading import remembered_networks

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "findings.md"
_HEAD = """# What is found when a study arrives otherwise

Whole studies of simulated persons, from bytes to findings. [catalogue.md](catalogue.md) says what becomes of objects and series; here
it is what comes out at the end that counts. Written by `python -m tests.findings.run --page`; the figures are the last lines of

```sh
python -m tests.findings.run     # catalogue.invariance: inputs=40 ... unexpected=0, geometry.abnormal: inputs=200 ... unexpected=1
```

The one: where the last axial slices were never sent, a wide recess (L5-S1) is said to be 6.8 instead of 7.8 mm deep, 1.05 mm less where
1.0 is allowed; its severity stays.

It takes some ten minutes of one core; a part of it is in `make test` (`tests/findings/test_findings.py`).

## Forty ways in which a study may legitimately arrive

The findings are the same to the last digit (findings digest), or where pixels are stored otherwise, of the same categories with every
millimetre within half a millimetre.

| way | findings |
|---|---|
"""
_ABNORMAL = """
## Two hundred spoiled studies

Every value within a millimetre of the untouched study's (an area as the diameter of its circle), or withheld; no other side and no other
level without a code that says so; what was not touched is still read. The list is that of one person; places and some missing slices are
tried on a second one too. "study": nothing of it is to be trusted, and a refusal with its code is right.

| what is spoiled | what may change or be missing |
|---|---|
"""


def page() -> str:
    """Every input in Markdown."""
    same = {True: "the same", False: "within 0.5 mm"}
    ways = [f"| {_cell(item.name)} | {same[item.same]} |\n" for item in variants()]
    spoiled = [f"| {_cell(item.name)} | {', '.join(item.touched)}{_must_tell(item.told)} |\n" for item in inputs_of(0)]
    return "".join([_HEAD, *ways, _ABNORMAL, *spoiled])


def _must_tell(code: str) -> str:
    return f"; must tell {code}" if code else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("invariance", "abnormal", "all"), nargs="?", default="all")
    parser.add_argument("--only", default="", help="names that begin so")
    parser.add_argument("--verbose", action="store_true", help="print every input")
    parser.add_argument("--page", action="store_true", help="write docs/findings.md and read nothing")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
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
