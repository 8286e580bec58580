"""The reader: from a study and an examination to a report. Names are loaded when first asked for: networks cost seconds."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.analyze import Engine, Reading, analyze
    from inference.exam import Exam
    from inference.first_read import FirstRead

__all__ = ["Engine", "Exam", "FirstRead", "Reading", "analyze"]
_HOME = {
    "Engine": "inference.analyze",
    "Reading": "inference.analyze",
    "Exam": "inference.exam",
    "FirstRead": "inference.first_read",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


class _Package(ModuleType):
    """`inference.analyze` is the function even after the import system has bound the module of that name here."""

    @property
    def analyze(self) -> Any:
        return import_module("inference.analyze").analyze

    @analyze.setter
    def analyze(self, module: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
