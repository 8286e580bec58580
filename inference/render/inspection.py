"""What `recess inspect` prints: series with roles and reasons, geometry, what was left out and why.

The content comes from dicom_io.inspect; here it is only laid out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from configs.clinical import words

_NO_CHOICE = frozenset({"localizer", "other"})


def inspection_summary(content: Mapping[str, Any]) -> RenderableType:
    """Every study of the input, one below the other."""
    return Group(*(_study(study) for study in content["studies"]))


def _study(study: Mapping[str, Any]) -> RenderableType:
    if not study["usable"]:
        head = Text(
            f"study {study['study_instance_uid']}  not usable: {study['reason']} ({study['code']})", style="bold"
        )
        return Padding(Group(head, *_notices("Left out", study["excluded"])), (0, 0, 1, 0))
    head = Text(f"study {study['pseudonym']}  {study['objects']} objects", style="bold")
    blocks = [
        _series(study["series"]),
        Text(
            "Choice: more slices first, then finer pixels, then the series UID; file order and names decide nothing.",
            style="dim",
        ),
        *_notices("About the series", _once(study["series"])),
        *_notices("About the study", study["warnings"]),
        *_notices("Left out", study["excluded"]),
    ]
    return Padding(Group(head, *blocks), (0, 0, 1, 0))


def _series(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("Role", "Choice", "Plane", "Slices", "Spacing, mm", "TE/TR, ms", "Why this role"):
        table.add_column(name, overflow="fold")
    for row in sorted(rows, key=lambda row: (row["role"] in _NO_CHOICE, row["role"], row["choice"])):
        spacing = " × ".join(f"{value:.2f}" for value in row["spacing_mm"])
        times = "/".join(
            "-" if row[name] is None else f"{row[name]:.0f}" for name in ("echo_time_ms", "repetition_time_ms")
        )
        codes = ", ".join(item["code"] for item in row["warnings"])
        reason = row["reason"] + (f" [{codes}]" if codes else "")
        choice = "" if row["role"] in _NO_CHOICE else f"{row['choice']} of {row['candidates']}"
        cells = (words().role[row["role"]], choice, row["plane"], str(row["slices"]), spacing, times, reason)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _once(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What was told about the stacks, one line a code."""
    return list({item["code"]: {**item, "series": None} for row in rows for item in row["warnings"]}.values())


def _notices(title: str, notices: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    if not notices:
        return []
    return [Text(title, style="bold"), *(Text(f"  {item['code']}: {item['text']}{_of(item)}") for item in notices)]


def _of(item: Mapping[str, Any]) -> str:
    """Which file or series a notice is about."""
    place = item["path"] or item["series"]
    return f" [{place}]" if place else ""
