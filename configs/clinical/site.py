"""Numbers of a site over the shipped tables of this folder: a TOML file of its own, named by the environment variable RECESS_SITE.

Only values that the tables already hold can be changed, each change is checked like the tables, and the file is hashed.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import _lru_cache_wrapper, cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configs.loader import ConfigError, config_path

ENVIRONMENT = "RECESS_SITE"
TABLES = ("matrix", "model", "patterns", "routes", "second_read", "triage")
"""Tables whose numbers a site may set. The form, the words and the cited texts are the same everywhere."""

_FIXED = {"triage": {"tier_text", "panel", "rule"}, "patterns": {"pattern", "cause", "next_test", "hip_operation"}}
"""Parts of those tables that are wording or the definition of a rule, not a number."""
_KEYS = ("id", "cause", "fields")
"""What names an entry in a list of tables."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Model = TypeVar("_Model", bound=BaseModel)
_kept: list[_lru_cache_wrapper[Any]] = []
_laid_over: list[Mapping[str, Any]] = []


class SiteError(ConfigError):
    """Numbers of a site that cannot be used; the text names the file or the path of the number."""


class Site(BaseModel):
    """Who set the numbers, on what ground, and which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    source: str = Field(min_length=1, max_length=400)
    sha256: str
    changed: tuple[str, ...]
    """Paths of the numbers that differ from the shipped ones, with both values."""


def rests_on_tables(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """`functools.cache`, emptied whenever the tables change."""
    cached = cache(function)
    _kept.append(cached)
    return cached  # type: ignore[return-value]


def _forget() -> None:
    for item in _kept:
        item.cache_clear()


def load_table(name: str, shape: type[_Model]) -> _Model:
    """A table of this folder with the site's numbers laid over. SiteError names the file and what does not fit."""
    content = shipped(name)
    where = f"clinical/{name}.toml"
    given = site_content()
    if given is not None and name in given:
        where = os.environ[ENVIRONMENT]
        for change in _lay_over(content, given[name], name):
            _refuse_fixed(change, where)
    for layer in _laid_over:
        _lay_over(content, layer.get(name, {}), name)
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        raise SiteError(f"{where}: {name}: {error}") from error


@cache
def _shipped(name: str) -> dict[str, Any]:
    return tomllib.loads(config_path("clinical", f"{name}.toml").read_text(encoding="utf-8"))


def shipped(name: str) -> dict[str, Any]:
    """Content of a shipped table, a copy that may be changed."""
    return deepcopy(_shipped(name))


@contextmanager
def altered(change: Mapping[str, Any]) -> Iterator[None]:
    """The tables with other numbers for a while, given as in a site's file; for studies of what the numbers do."""
    _laid_over.append(change)
    _forget()
    try:
        yield
    finally:
        _laid_over.remove(change)
        _forget()


def use_site(path: Path | str | None) -> None:
    """Use the numbers of a site's file from now on, or the shipped ones. SiteError when the file cannot be used."""
    if path is None:
        os.environ.pop(ENVIRONMENT, None)
    else:
        os.environ[ENVIRONMENT] = str(path)
    _forget()
    site()


@rests_on_tables
def site_content() -> dict[str, Any] | None:
    """Content of the site's file; None without one."""
    name = os.environ.get(ENVIRONMENT)
    if not name:
        return None
    try:
        content = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SiteError(f"{name}: {error}") from error
    unknown = sorted(set(content) - {"site", *TABLES})
    if unknown:
        raise SiteError(f"{name}: {', '.join(unknown)}: unknown; allowed: site, {', '.join(TABLES)}")
    return content


@rests_on_tables
def site() -> Site | None:
    """The site whose numbers are in use; None where all are the shipped ones. SiteError when its file cannot be used."""
    content = site_content()
    if content is None:
        return None
    name = os.environ[ENVIRONMENT]
    changed: list[str] = []
    for table in TABLES:
        if table in content:
            changes = _lay_over(shipped(table), content[table], table)
            for change in changes:
                _refuse_fixed(change, name)
            changed += changes
    if not changed:
        raise SiteError(f"{name}: changes nothing")
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    try:
        return Site.model_validate(content.get("site", {}) | {"sha256": digest, "changed": tuple(changed)})
    except ValidationError as error:
        raise SiteError(f"{name}: [site] needs a name and a source: {error}") from error


def _refuse_fixed(change: str, where: str) -> None:
    table, part = change.split(".")[:2]
    if part in _FIXED.get(table, ()):
        raise SiteError(f"{where}: {table}.{part}: wording and rules are the same everywhere; only numbers can be set")


def _lay_over(target: dict[str, Any], change: object, path: str) -> list[str]:
    """Write `change` into `target`; returns the paths that changed. SiteError for a key that the table does not hold."""
    if not isinstance(change, dict):
        raise SiteError(f"{path}: a table of values is needed")
    changed: list[str] = []
    for key, value in change.items():
        here = f"{path}.{key}"
        if key not in target:
            raise SiteError(f"{here}: unknown; allowed: {', '.join(sorted(target))}")
        old = target[key]
        if isinstance(old, dict):
            changed += _lay_over(old, value, here)
        elif isinstance(old, list) and old and isinstance(old[0], dict):
            changed += _lay_over_list(old, value, here)
        else:
            _same_kind(old, value, here)
            if old != value:
                target[key] = value
                changed.append(f"{here}: {old} -> {value}")
    return changed


def named_entries(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries of a list of tables by their id, cause or fields; several of one name by their place: CPN, CPN#2."""
    named: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = next(("+".join(v) if isinstance(v := entry[key], list) else str(v) for key in _KEYS if key in entry), "")
        number = sum(1 for other in named if other.partition("#")[0] == name) + 1
        named[name if number == 1 else f"{name}#{number}"] = entry
    return named


def _lay_over_list(target: list[dict[str, Any]], change: object, path: str) -> list[str]:
    named = named_entries(target)
    if not isinstance(change, dict):
        raise SiteError(f"{path}: entries are named by a key, such as [{path}.{next(iter(named))!r}]")
    changed: list[str] = []
    for name, values in change.items():
        if name not in named:
            raise SiteError(f"{path}.{name}: unknown; allowed: {', '.join(named)}")
        changed += _lay_over(named[name], values, f"{path}.{name}")
    return changed


def _same_kind(old: object, new: object, path: str) -> None:
    numbers = (int, float)
    if isinstance(old, numbers) and not isinstance(old, bool):
        fits = isinstance(new, numbers) and not isinstance(new, bool)
    else:
        fits = type(old) is type(new)
    if not fits:
        raise SiteError(f"{path}: {new!r} does not fit; shipped is {old!r}")
