"""The page that explains every code and limit of the reader: `python -m dicom_io.codes_page` writes docs/ingest-codes.md.

Sentences: dicom_io/codes.py. Limits and the reasons beside them: configs/limits.toml.
"""

from __future__ import annotations

import re
from pathlib import Path

from configs.loader import config_path
from dicom_io import codes

_HEAD = """# What the reader says, and why

recess reads an object, a series or a study whole or says why not. Each code is stable; the sentence beside it is what a
person sees in `recess inspect`, in the report and in `report.json`. Nothing is guessed: what is in doubt is left out and told.
This page is written by `python -m dicom_io.codes_page` from the catalogue and the limits themselves. What is tried, with the
outcome of each case: [catalogue.md](catalogue.md); what is found in whole studies that were spoiled: [findings.md](findings.md). Where
foreign bytes are read: [isolation.md](isolation.md). Copies without identity: [deidentify.md](deidentify.md).
"""
_SECTIONS = (
    ("The input as a whole", "Refused before anything is read.", codes.INPUT),
    (
        "Objects that are not read",
        "One file or archive entry. It is left out and named; the rest of the study is read.",
        codes.OBJECT,
    ),
    ("Objects that are read with a warning", "", codes.OBJECT_WARNINGS),
    ("Series and slices that are left out", "They stay visible in the list with their reason.", codes.SERIES),
    ("Stacks that are read with a warning", "", codes.STACK_WARNINGS),
    (
        "The study",
        "`PATIENT_CONFLICT`, `SOP_UID_CROSS_PATIENT`, `AGE_SCOPE`, `NO_MR`, `NO_MM`, `NO_USABLE_SERIES` and `INCOMPLETE` mean that "
        "nothing is read; the others are warnings.",
        codes.STUDY,
    ),
)
_LINE = re.compile(r"(?P<name>\w+) = (?P<value>[^#]+?)\s*(?:#\s*(?P<why>.*))?")


def page() -> str:
    """The page in Markdown."""
    parts = [_HEAD]
    for title, lead, table in _SECTIONS:
        parts.append(
            f"\n## {title}\n\n"
            + (f"{lead}\n\n" if lead else "")
            + "| code | what happened and what to do |\n|---|---|\n"
        )
        parts += [f"| `{code}` | {sentence} |\n" for code, sentence in table.items()]
    parts.append("\n## Limits\n\nFrom `configs/limits.toml`.\n\n| limit | value | note |\n|---|---|---|\n")
    return "".join([*parts, *_limits()])


def _limits() -> list[str]:
    rows, section = [], ""
    for line in config_path("limits.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif found := _LINE.fullmatch(line):
            rows.append(f"| `{section}.{found['name']}` | {found['value']} | {found['why'] or ''} |\n")
    return rows


def main() -> None:
    """Write the page into the documentation folder of a checkout."""
    target = Path(__file__).resolve().parent.parent / "docs" / "ingest-codes.md"
    target.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
