"""Reads every input with every reader and writes docs/readers.md: `python -m tests.differential` (needs the extra `peers`)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.differential.inputs import INPUTS, Input
from tests.differential.readers import GENERAL, Cell, by_general, by_recess

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "readers.md"
_HEAD = """# Readers side by side

Series of a made-up body with three spheres of known place and brightness, spoilt on purpose in {count} ways, read by recess and by
general readers in their documented way. Written by `python -m tests.differential` (extra `peers`): {versions}.

`ok` right; `R` refused; a number: worst error of a sphere in mm, without a word; `!` with a warning text; `lost`: a sphere is not
found at all. Right means 2 mm for the general readers and 0.5 mm for recess. What recess says stands beside its result: it is
right, or it tells a code ([what the codes mean](ingest-codes.md)). Rows with both planes are checked against each other as an
analysis does it. A general reader is asked for geometry alone: E11 and E12 (two patients) count as right when the spheres are.

"""


def written(folder: Path, files: list[bytes]) -> Path:
    for number, data in enumerate(files):
        (folder / f"IM{number:04d}.dcm").write_bytes(data)
    return folder


def compare(each: Input, seed: int, names: list[str]) -> dict[str, Cell]:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = written(Path(name), each.make(seed))
        row = {"recess": by_recess(folder, each.planes)}
        return row | {reader: by_general(reader, folder) for reader in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recess-only", action="store_true", help="no other reader, no page")
    options = parser.parse_args()
    names = [] if options.recess_only else list(GENERAL)
    rows: list[tuple[Input, dict[str, Cell]]] = []
    for each in INPUTS:
        rows.append((each, compare(each, options.seed, names)))
        cells = ", ".join(f"{reader} {cell}" for reader, cell in rows[-1][1].items())
        sys.stdout.write(f"{each.id} {each.name}: {cells}\n")
        sys.stdout.flush()
    unexpected = sum(row["recess"].result == "wrong" and not row["recess"].told for _, row in rows)
    unexpected += sum(each.id == "good" and str(row["recess"]) != "ok" for each, row in rows)
    if not options.recess_only:
        _PAGE.write_text(page(rows, names), encoding="utf-8")
    sys.stdout.write(
        f"readers.differential: inputs={len(rows)} outcome=recess_right_or_coded unexpected={unexpected}\n"
    )
    return 1 if unexpected else 0


def page(rows: list[tuple[Input, dict[str, Cell]]], names: list[str]) -> str:
    """The page in Markdown."""
    readers = ["recess", *names]
    packages = {
        "SimpleITK": "SimpleITK",
        "ITK": "itk",
        "MONAI": "monai",
        "highdicom": "highdicom",
        "pydicom": "pydicom",
    }
    versions = ", ".join(f"{name} {version(package)}" for name, package in packages.items())
    lines = [_HEAD.format(count=len(rows), versions=versions)]
    lines.append("| input | " + " | ".join(readers) + " |\n|---|" + "---|" * len(readers) + "\n")
    for each, row in rows:
        lines.append(f"| {each.id} {each.name} | " + " | ".join(str(row[reader]) for reader in readers) + " |\n")
    lines.append(
        "\n| of " + f"{len(rows)} inputs | " + " | ".join(readers) + " |\n|---|" + "---|" * len(readers) + "\n"
    )
    counts = {
        "right": lambda cell: cell.result == "ok",
        "refused": lambda cell: cell.result == "refused",
        "wrong with a word": lambda cell: cell.result == "wrong" and not cell.silent,
        "wrong without a word": lambda cell: cell.silent,
    }
    for name, holds in counts.items():
        lines.append(f"| {name} | " + " | ".join(str(sum(holds(row[r]) for _, row in rows)) for r in readers) + " |\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
