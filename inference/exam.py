"""The neurological examination as data: what was recorded, and that a blank is "not examined", never normal.

Every field, scale and anchor comes from one table, configs/clinical/exam.toml; forms, checks and the JSON Schema are made from it.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from configs.clinical import ExamField, ExamTable, exam_table
from inference.clinical_input import ClinicalInputError, load_file

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
_CASE_KEYS = {"id", "title", "exam", "imaging", "expect"}


class Exam(BaseModel):
    """One examination: recorded values per side and in general, keyed by field id; what is missing was not examined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left: dict[str, Any] = {}
    right: dict[str, Any] = {}
    general: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: Any) -> Any:
        """Whoever builds one from plain data gets the same checks as a file."""
        return _read_blocks(data, dt.date.today())

    @classmethod
    def load(cls, path: str | Path, today: dt.date | None = None) -> Exam:
        """Read a YAML or JSON file. ClinicalInputError names the field, what was given and what is allowed."""
        return cls.parse(load_file(Path(path)), today=today)

    @classmethod
    def parse(cls, data: object, today: dt.date | None = None) -> Exam:
        """Check plain data (blocks left, right, general, or the same under `exam`). Dates later than `today` are refused."""
        if isinstance(data, Exam):
            return data
        blocks = _read_blocks(data, today or dt.date.today())
        return cls.model_construct(left=blocks["left"], right=blocks["right"], general=blocks["general"])

    def side(self, side: Side) -> dict[str, Any]:
        """Recorded values of one side."""
        return self.left if side == "left" else self.right

    def mirrored(self) -> Exam:
        """The same examination of the mirrored patient."""
        return Exam.model_construct(left=self.right, right=self.left, general=self.general)

    def to_plain(self) -> dict[str, dict[str, Any]]:
        """Plain data as it is written to a file; empty blocks left out."""
        return {name: dict(block) for name in ("general", "right", "left") if (block := getattr(self, name))}

    def save(self, path: str | Path) -> None:
        """Write the examination as JSON (.json) or YAML, so that `load` gives the same one."""
        plain = self.to_plain()
        path = Path(path)
        if path.suffix.lower() == ".json":
            path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        else:
            lines = []
            for block, values in plain.items():
                lines.append(f"{block}:")
                lines += [f"  {field}: {json.dumps(value, ensure_ascii=False)}" for field, value in values.items()]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _read_blocks(data: object, today: dt.date) -> dict[str, dict[str, Any]]:
    if data is None:
        data = {}
    if isinstance(data, dict) and "exam" in data:
        _known_keys(data, _CASE_KEYS, "")
        data = data["exam"] if data["exam"] is not None else {}
    if not isinstance(data, dict):
        raise ClinicalInputError("exam", data, "blocks left, right and general")
    _known_keys(data, {"left", "right", "general"}, "")
    table = exam_table()
    return {
        name: _read_block(data.get(name), name, table, "general" if name == "general" else "side", today)
        for name in ("left", "right", "general")
    }


def _known_keys(data: dict[Any, Any], allowed: set[str], path: str) -> None:
    for key in data:
        if key not in allowed:
            raise ClinicalInputError(f"{path}{key}", "an unknown key", ", ".join(sorted(allowed)))


def _read_block(
    raw: object, name: str, table: ExamTable, kind: Literal["side", "general"], today: dt.date
) -> dict[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ClinicalInputError(name, raw, "field ids with values")
    fields = {field.id: field for field in table.block(kind)}
    out: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in fields:
            raise ClinicalInputError(f"{name}.{key}", "an unknown field", _near(str(key), fields, table))
        if value is not None:
            out[key] = _read_value(fields[key], value, f"{name}.{key}", table, today)
    return out


def _near(key: str, fields: dict[str, ExamField], table: ExamTable) -> str:
    import difflib

    elsewhere = next((field for field in table.field if field.id == key), None)
    if elsewhere is not None:
        return f"this field belongs to {'left or right' if elsewhere.block == 'side' else 'general'}"
    close = difflib.get_close_matches(key, fields, n=3)
    return "one of the field ids" + (f" (near: {', '.join(close)})" if close else "; `recess exam new` lists them")


def allowed_text(field: ExamField, table: ExamTable | None = None) -> str:
    """What a field may hold, with the anchors of its scale."""
    table = table or exam_table()
    if field.scale is not None:
        anchors = "; ".join(f"{value} = {text}" for value, text in table.scale_of(field).values.items())
        if field.type == "list":
            return f"a list of any of: {anchors}; [] = asked, none"
        return anchors
    return {
        "int": f"a whole number {field.min} to {field.max}",
        "int_or_negative": f"a whole number {field.min} to {field.max}, or negative",
        "bool": "true or false",
        "date": "a date YYYY-MM-DD, not in the future",
        "datetime": "a date and time YYYY-MM-DDTHH:MM",
        "text": "text of at most 200 characters",
    }[field.type]


def _read_value(field: ExamField, value: object, path: str, table: ExamTable, today: dt.date) -> Any:
    refused = ClinicalInputError(path, value, f"{field.label}: {allowed_text(field, table)}")
    match field.type:
        case "enum":
            return _read_choice(field, value, table, refused)
        case "list":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise refused
            choices = list(table.scale_of(field).values)
            if set(value) - set(choices):
                raise refused
            return [item for item in choices if item in value]
        case "bool":
            if not isinstance(value, bool):
                raise refused
            return value
        case "int":
            return _whole(value, field, refused)
        case "int_or_negative":
            return "negative" if value == "negative" else _whole(value, field, refused)
        case "date":
            return _read_date(value, today, refused)
        case "datetime":
            return _read_time(value, refused)
        case _:
            if not isinstance(value, str) or len(value) > 200:
                raise refused
            return value


def _read_choice(field: ExamField, value: object, table: ExamTable, refused: ClinicalInputError) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if field.scale == "mrc" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or value not in table.scale_of(field).values:
        raise refused
    return value


def _whole(value: object, field: ExamField, refused: ClinicalInputError) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused
    if (field.min is not None and value < field.min) or (field.max is not None and value > field.max):
        raise refused
    return value


def _read_date(value: object, today: dt.date, refused: ClinicalInputError) -> str:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = value.isoformat()
    try:
        day = dt.date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        day = None
    if day is None or day > today:
        raise refused
    return day.isoformat()


def _read_time(value: object, refused: ClinicalInputError) -> str:
    if isinstance(value, dt.datetime):
        value = value.isoformat()
    try:
        return dt.datetime.fromisoformat(value).isoformat() if isinstance(value, str) else _raise(refused)
    except ValueError:
        raise refused from None


def _raise(error: ClinicalInputError) -> str:
    raise error


def check(path: str | Path) -> Exam:
    """Validate a file as `Exam.load` does and return the examination."""
    return Exam.load(path)


def exam_template() -> str:
    """A blank examination as commented YAML: fill what was examined, leave the rest empty."""
    table = exam_table()
    lines = [
        "# Examination for recess. Write a value behind the colon; leave the rest blank: blank means not examined, never normal.",
        "# Sides are the patient's. MRC grades stand in quotes. Dates are written YYYY-MM-DD.",
        "# attest.remaining_normal: [all] on a side says that every blank item of these groups was examined and was normal.",
        "# attest.safety_negative: true says that every safety item (marked !) was asked and was negative.",
        "",
    ]
    shown: set[str] = set()
    for block in ("general", "right", "left"):
        kind: Literal["side", "general"] = "general" if block == "general" else "side"
        lines.append(f"{block}:")
        for group in table.group:
            fields = [field for field in table.block(kind) if field.group == group.name and group.block == kind]
            if fields:
                lines.append(f"  # -- {group.label}")
            for field in fields:
                note = _note(field, table, shown if kind == "general" or block == "right" else {"*"})
                lines.append(f"  {field.id + ':':35} {'# ' + note if note else ''}".rstrip())
        lines.append("")
    return "\n".join(lines)


def _note(field: ExamField, table: ExamTable, shown: set[str]) -> str:
    """Comment behind a field: its label, and the anchors of its scale where they appear first."""
    mark = "! " if field.safety else ""
    if field.scale is None:
        limits = f"{field.min} to {field.max}"
        rule = {"int": limits, "int_or_negative": f"{limits}, or negative", "bool": "true | false"}.get(
            field.type, allowed_text(field, table)
        )
    else:
        scale = table.scale_of(field)
        rule = " | ".join(scale.values)
        if "*" not in shown and scale.name not in shown:
            rule = " | ".join(value if value == text else f"{value} = {text}" for value, text in scale.values.items())
        shown.add(scale.name)
        if field.type == "list":
            rule = f"list of {rule}"
    detail = f" ({field.text})" if field.text else ""
    return f"{mark}{field.label}{detail}: {rule}"


def exam_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the examination with titles, anchors and groups, enough to draw a form."""
    table = exam_table()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "recess examination",
        "description": "Absent or null means not examined. Sides are the patient's.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "general": _block_schema(table, "general"),
            "right": _block_schema(table, "side"),
            "left": _block_schema(table, "side"),
        },
    }


def _block_schema(table: ExamTable, kind: Literal["side", "general"]) -> dict[str, Any]:
    return {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {field.id: _field_schema(field, table) for field in table.block(kind)},
    }


def _field_schema(field: ExamField, table: ExamTable) -> dict[str, Any]:
    out: dict[str, Any] = {
        "title": field.label,
        "description": (f"{field.text}. " if field.text else "") + allowed_text(field, table),
        "x-group": field.group,
        "x-safety": field.safety,
    }
    number: dict[str, Any] = {"type": "integer", "minimum": field.min, "maximum": field.max}
    match field.type:
        case "enum":
            anchors = table.scale_of(field).values
            choices: list[Any] = list(anchors)
            if field.scale == "mrc":
                choices += [int(grade) for grade in anchors if grade.isdigit()]
            return out | {"enum": [*choices, None], "x-anchors": anchors}
        case "list":
            anchors = table.scale_of(field).values
            return out | {"type": ["array", "null"], "items": {"enum": list(anchors)}, "x-anchors": anchors}
        case "bool":
            return out | {"type": ["boolean", "null"]}
        case "int":
            return out | number | {"type": ["integer", "null"]}
        case "int_or_negative":
            return out | {"anyOf": [number, {"const": "negative"}, {"type": "null"}]}
        case "date":
            return out | {"type": ["string", "null"], "format": "date"}
        case "datetime":
            return out | {"type": ["string", "null"], "format": "date-time"}
        case _:
            return out | {"type": ["string", "null"], "maxLength": 200}
