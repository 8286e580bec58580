"""Reads what people write (YAML or JSON) without guessing types: no becomes no boolean, a date stays text, a key stands once.

YAML 1.1 resolves `no`, `off` and dates to other types; here only true, false, null and plain numbers are resolved (YAML 1.2 core).
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2_000_000
"""Size limit of an exam, findings or first-read file: a thousand times a full one, far below what slows the parser."""


class ClinicalInputError(ValueError):
    """An exam, findings or first-read file that cannot be used: where, what was given, what is allowed."""

    def __init__(self, path: str, given: object, allowed: str) -> None:
        self.path = path
        self.given = given
        self.allowed = allowed
        super().__init__(f"{path}: given {_shown(given)}; allowed: {allowed}")


def _shown(given: object) -> str:
    text = given if isinstance(given, str) else repr(given)
    return repr(text if len(text) <= 80 else text[:77] + "...") if isinstance(given, str) else text[:80]


class _Loader(yaml.SafeLoader):
    """SafeLoader with the few implicit types of YAML 1.2, without aliases and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise ClinicalInputError("file", "a YAML alias", "plain values without anchors and aliases")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise ClinicalInputError(name, f"the key twice (line {key.start_mark.line + 1})", "each key once")
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^(?:0|-?[1-9][0-9]*)$"), list("-0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?$"), list("-0123456789")
)


def load_text(text: str, name: str) -> Any:
    """Parsed YAML or JSON text (`name` ends in .json for JSON). ClinicalInputError when it cannot be parsed."""
    try:
        if name.lower().endswith(".json"):
            return json.loads(text, object_pairs_hook=_unique)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except json.JSONDecodeError as error:
        raise ClinicalInputError(name, f"line {error.lineno}: {error.msg}", "valid JSON") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ClinicalInputError(
            name, f"{where}{getattr(error, 'problem', None) or 'not YAML'}", "valid YAML"
        ) from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, ClinicalInputError):
            raise
        raise ClinicalInputError(name, "values nested too deeply or out of range", "a plain file") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ClinicalInputError(key, "the key twice", "each key once")
        out[key] = value
    return out


def read_text(path: Path) -> str:
    """Text of a file people wrote. ClinicalInputError when it is missing, too large or not UTF-8."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ClinicalInputError(path.name, f"{size} bytes", f"at most {MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClinicalInputError(path.name, "bytes that are not UTF-8", "a UTF-8 text file") from error
    except OSError as error:
        raise ClinicalInputError(path.name, error.strerror or "unreadable", "a readable file") from error


def load_file(path: Path) -> Any:
    """Parsed content of a YAML or JSON file."""
    return load_text(read_text(path), path.name)
