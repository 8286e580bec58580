"""Prints the table of worked cases for docs/concordance.md: python -m tests.inference.vignette_table FILE."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from inference.clinical import assess
from inference.exam import Exam
from inference.roots import Imaging


def table(path: Path) -> str:
    """Markdown: case, verdict, verdicts of its findings, roots, tier."""
    rows = ["| case | study | findings | roots | tier |", "|---|---|---|---|---|"]
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))["vignettes"]:
        result = assess(Exam.parse(case["exam"]), Imaging.parse(case["imaging"]))
        assert result.concordance is not None
        found = ", ".join(item.verdict for item in result.concordance.per_finding) or "none"
        roots = ", ".join(key.replace(":", " ") for key in result.concordance.roots_implicated) or "none"
        cells = (case["id"], result.concordance.verdict, found, roots, result.triage.tier)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows).replace("_", " ")


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1])) + "\n")
