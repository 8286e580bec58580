"""Reads every class of the catalogue and says whether its outcome is the declared one: `python -m tests.corpus.run`.

Each case is made and read with at least two seeds. `--page` writes docs/catalogue.md instead: every case with its declared outcome.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib import import_module
from pathlib import Path

from tests.corpus.case import Case, judge
from tests.corpus.scope import OPEN

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "catalogue.md"
SECTIONS = ("files", "encodings", "archives", "identity", "geometry", "pixels", "planes", "scope", "bodies")


def all_cases() -> list[Case]:
    """Every case of every section, in order."""
    return [case for name in SECTIONS for case in import_module(f"tests.corpus.{name}").CASES]


_HEAD = """# Bad studies and what must become of them

Every way of going wrong that recess is tried on, made by code in `tests/corpus` over a small study of a made-up body, with the
outcome that was declared before it was tried. "Alike" means: every stack, place and pixel as in the good study. Codes are
explained in [ingest-codes.md](ingest-codes.md). Whether an object with a code is kept aside or not kept at all is checked too. What is
found in whole studies: [findings.md](findings.md).
Written by `python -m tests.corpus.run --page`; the figure below is the last line of

```sh
python -m tests.corpus.run --seeds 2     # catalogue.classes: inputs=… outcome=declared unexpected=0
```

Three outcomes may surprise. A study whose only axial series has no pixel spacing is still read from its sagittal series, and `NO_MM`
means that no series is left that could be measured. A clipped picture is left out whole, not only where it is clipped. A 3-D volume alone
is read as its sagittal slices, and nothing is measured on resliced pictures.

| class | what is wrong | declared outcome |
|---|---|---|
"""


def page() -> str:
    """Every case with its declared outcome, and the classes that are open, in Markdown."""
    rows = [f"| {case.id} | {_cell(case.name)} | {_cell(case.declared())} |\n" for case in all_cases()]
    still = [f"| {name} | {_cell(why)} |\n" for name, why in OPEN.items()]
    return "".join([_HEAD, *rows, "\n## Open\n\n| class | why |\n|---|---|\n", *still])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write docs/catalogue.md and read nothing")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="ids that begin so")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
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
