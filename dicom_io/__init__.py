"""DICOM in and out: bytes to a `Study` in LPS millimetres, and results to DICOM objects.

Names are loaded when first asked for, so that the decoding child starts with nothing it does not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicom_io.decoding_process import prepare
    from dicom_io.ingest import read_outcomes, read_studies, read_study
    from dicom_io.study import Study

__all__ = ["Study", "prepare", "read_outcomes", "read_studies", "read_study"]
_HOME = {
    "read_study": "dicom_io.ingest",
    "read_studies": "dicom_io.ingest",
    "read_outcomes": "dicom_io.ingest",
    "Study": "dicom_io.study",
    "prepare": "dicom_io.decoding_process",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
