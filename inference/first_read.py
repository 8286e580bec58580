"""What the first reader wrote: a grid level x condition x side, where blank is not "normal". YAML, JSON or CSV.

Condition names are ours or those of the RSNA 2024 lumbar grid ("Left Subarticular Stenosis", left_subarticular_stenosis_l4_l5).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.clinical_input import ClinicalInputError, load_text, read_text
from inference.imaging_findings import Condition, clinical_error
from inference.report import HerniationType, Level, Severity, Side, Zone

_CONDITIONS: dict[str, Condition] = {
    "herniation": "herniation",
    "recess_stenosis": "recess_stenosis",
    "foraminal_stenosis": "foraminal_stenosis",
    "canal_stenosis": "canal_stenosis",
    "spinal_canal_stenosis": "canal_stenosis",
    "neural_foraminal_narrowing": "foraminal_stenosis",
    "subarticular_stenosis": "recess_stenosis",
    "lateral_recess_stenosis": "recess_stenosis",
    "canal": "canal_stenosis",
    "recess": "recess_stenosis",
    "foramen": "foraminal_stenosis",
    "disc_herniation": "herniation",
}
_SEVERITIES = {
    "normal/mild": "normal_mild",
    "normal": "normal_mild",
    "mild": "normal_mild",
    "normal_mild": "normal_mild",
}
_NOT_ASSESSABLE = {"not assessable", "not_assessable", "not read"}
_LEVELS = ("T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
_META = {"cells", "mentions", "reader", "study_id", "row_id"}


class ReaderCell(BaseModel):
    """One cell of the grid; `severity` None with `assessable` True is possible for a herniation that has a type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level
    condition: Condition
    side: Side | None = None
    severity: Severity | None = None
    zone: Zone | None = None
    type: HerniationType | None = None
    assessable: bool = True

    @model_validator(mode="after")
    def _has_a_side(self) -> ReaderCell:
        if self.condition in {"recess_stenosis", "foraminal_stenosis"} and self.side not in {"left", "right"}:
            raise ValueError("side left or right")
        if self.assessable and self.severity is None and self.type is None:
            raise ValueError("a severity, for a herniation a type, or not assessable")
        return self


class FirstRead(BaseModel):
    """All cells that the first reader filled, and what was mentioned beside the grid."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: str | None = Field(default=None, max_length=100)
    cells: tuple[ReaderCell, ...] = ()
    mentions: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> FirstRead:
        """Read a YAML, JSON or CSV file. ClinicalInputError names the cell."""
        path = Path(path)
        text = read_text(path)
        if path.suffix.lower() == ".csv":
            return cls.parse(_from_csv(text, path.name))
        return cls.parse(load_text(text, path.name))

    @classmethod
    def parse(cls, data: object) -> FirstRead:
        """Check plain data: a list of cells, a grid by level, or columns in RSNA naming."""
        if isinstance(data, FirstRead):
            return data
        if isinstance(data, list):
            data = {"cells": data}
        if not isinstance(data, dict):
            raise ClinicalInputError("first_read", data, "cells, a grid by level, or RSNA columns")
        cells: list[dict[str, Any]] = []
        listed = data.get("cells") or []
        if not isinstance(listed, list):
            raise ClinicalInputError("first_read.cells", listed, "a list of cells")
        for number, item in enumerate(listed):
            cells += _cell(item, f"first_read.cells.{number}")
        for key, value in data.items():
            if key not in _META:
                cells += list(_named(str(key), value))
        mentions = data.get("mentions") or []
        if not isinstance(mentions, list) or not all(isinstance(item, str) for item in mentions):
            raise ClinicalInputError("first_read.mentions", mentions, "a list of texts")
        try:
            read = cls.model_validate({"reader": data.get("reader"), "cells": cells, "mentions": mentions})
        except ValidationError as error:
            raise clinical_error(error, "first_read") from error
        _no_cell_twice(read.cells)
        return read


def _no_cell_twice(cells: Iterable[ReaderCell]) -> None:
    seen: set[tuple[str, str, str | None]] = set()
    for cell in cells:
        key = (cell.level, cell.condition, cell.side)
        if key in seen:
            raise ClinicalInputError(f"first_read.{cell.level}.{cell.condition}", "the cell twice", "each cell once")
        seen.add(key)


def _level(text: str, path: str) -> str:
    name = text.strip().upper().replace("/", "-").replace("_", "-")
    if name not in _LEVELS:
        raise ClinicalInputError(path, text, ", ".join(_LEVELS))
    return name


def _condition(text: str, path: str) -> tuple[Condition, str | None]:
    """Condition and, where the name holds one, the side."""
    name = re.sub(r"[\s-]+", "_", text.strip().lower())
    side = next((word for word in ("left", "right") if name.startswith(f"{word}_")), None)
    name = name.removeprefix(f"{side}_") if side else name
    found = _CONDITIONS.get(name)
    if found is None:
        raise ClinicalInputError(path, text, ", ".join(_CONDITIONS))
    return found, side


def _severity(value: object, path: str) -> dict[str, Any] | None:
    """The part of a cell that a grade gives; None when the cell is blank."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in _NOT_ASSESSABLE:
        return {"assessable": False}
    text = _SEVERITIES.get(text, text)
    if text not in {"normal_mild", "moderate", "severe"}:
        raise ClinicalInputError(path, value, "normal_mild (Normal/Mild), moderate, severe, not assessable, or blank")
    return {"severity": text}


def _cell(item: object, path: str) -> list[dict[str, Any]]:
    if not isinstance(item, dict):
        raise ClinicalInputError(path, item, "a cell with level, condition, side and severity")
    known = {"level", "condition", "side", "severity", "zone", "type", "assessable"}
    for key in item:
        if key not in known:
            raise ClinicalInputError(f"{path}.{key}", "an unknown key", ", ".join(sorted(known)))
    level = _level(str(item.get("level", "")), f"{path}.level")
    condition, side = _condition(str(item.get("condition", "")), f"{path}.condition")
    out = {key: value for key, value in item.items() if value not in (None, "")}
    graded = _severity(item.get("severity"), f"{path}.severity")
    out.pop("severity", None)
    if graded is None and "type" not in out and out.get("assessable", True):
        return []
    out |= {"level": level, "condition": condition} | (graded or {})
    if side is not None:
        out["side"] = side
    return [out]


def _named(key: str, value: object) -> Iterator[dict[str, Any]]:
    """A level with its conditions, or one RSNA column."""
    column = re.fullmatch(r"(.+?)_((?:l[1-5]|t12)_(?:l[1-5]|s1))", key.strip().lower())
    if column is not None:
        level = _level(column.group(2), f"first_read.{key}")
        yield from _condition_cells(level, column.group(1), value, f"first_read.{key}")
        return
    level = _level(key, f"first_read.{key}")
    if not isinstance(value, dict):
        raise ClinicalInputError(f"first_read.{key}", value, "conditions with grades")
    for name, graded in value.items():
        yield from _condition_cells(level, str(name), graded, f"first_read.{key}.{name}")


def _condition_cells(level: str, name: str, value: object, path: str) -> Iterator[dict[str, Any]]:
    condition, side = _condition(name, path)
    if isinstance(value, dict) and set(value) <= {"left", "right"}:
        for each, graded in value.items():
            yield from _cell(
                {"level": level, "condition": condition, "side": each, "severity": graded}, f"{path}.{each}"
            )
    elif isinstance(value, dict):
        yield from _cell({"level": level, "condition": condition, **value}, path)
    else:
        yield from _cell({"level": level, "condition": condition, "side": side, "severity": value}, path)


def _from_csv(text: str, name: str) -> dict[str, Any]:
    """One wide row of RSNA columns, or a long table with level, condition, side and severity."""
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or any(None in row for row in rows):
        raise ClinicalInputError(name, "no table with a header", "a header and one row per study or per cell")
    header = {str(column).strip().lower() for column in rows[0]}
    if {"level", "condition"} <= header:
        keep = ("level", "condition", "side", "severity", "zone", "type")
        return {
            "cells": [
                {key.strip().lower(): value for key, value in row.items() if key.strip().lower() in keep and value}
                for row in rows
            ]
        }
    if len(rows) != 1:
        raise ClinicalInputError(name, f"{len(rows)} studies", "the one row of this study")
    return {key.strip(): value for key, value in rows[0].items() if key.strip().lower() not in _META}
