"""What is in an input, what was taken, what was left and why: the content of `recess inspect`.

Everything shown was read from headers and geometry; no model takes part.
"""

from __future__ import annotations

from typing import Any

from dicom_io.errors import NoUsableSeries
from dicom_io.ingest import Source, read_outcomes
from dicom_io.study import Notice, Stack, Study

_DECIMALS = 3


def inspect_study(source: Source) -> dict[str, Any]:
    """Plain content for JSON or a table; a study that cannot be used is listed with all that was left out. Raises UnreadableInput."""
    try:
        outcomes = read_outcomes(source)
    except NoUsableSeries as refusal:  # nothing in the input names a study
        outcomes = [refusal]
    return {"studies": [_refused(item) if isinstance(item, NoUsableSeries) else _study(item) for item in outcomes]}


def _study(study: Study) -> dict[str, Any]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "pseudonym": study.patient.pseudonym,
        "usable": True,
        "objects": study.objects,
        "manifest_sha256": study.manifest_sha256,
        "roles": {role: [_place(study, stack) for stack in stacks] for role, stacks in study.roles.items()},
        "series": [_stack(number, stack, _rank(study, stack)) for number, stack in enumerate(study.stacks)],
        "warnings": [_notice(item) for item in study.warnings],
        "excluded": [_notice(item) for item in study.excluded],
    }


def _refused(error: NoUsableSeries) -> dict[str, Any]:
    return {
        "study_instance_uid": error.study_instance_uid,
        "usable": False,
        "code": error.code,
        "reason": str(error),
        "excluded": [_notice(item) for item in error.notices],
    }


def _rank(study: Study, stack: Stack) -> tuple[int, int]:
    """Which choice the stack is for its role, from 1, and how many there are."""
    candidates = study.roles[stack.role]
    return next(number for number, other in enumerate(candidates, 1) if other is stack), len(candidates)


def _place(study: Study, stack: Stack) -> int:
    """Number of the stack in `series`, best first within its role."""
    return next(number for number, other in enumerate(study.stacks) if other is stack)


def _stack(number: int, stack: Stack, rank: tuple[int, int]) -> dict[str, Any]:
    grid = stack.volume.grid
    return {
        "number": number,
        "role": stack.role,
        "choice": rank[0],
        "candidates": rank[1],
        "reason": stack.reason,
        "series_instance_uid": stack.series_instance_uid,
        "series_number": stack.series_number,
        "description": stack.description,
        "plane": stack.volume.plane,
        "slices": grid.shape[0],
        "rows": grid.shape[1],
        "columns": grid.shape[2],
        "spacing_mm": [round(value, _DECIMALS) for value in grid.spacing],
        "normal_lps": [round(float(value), _DECIMALS) for value in grid.normal],
        "first_corner_lps": [round(float(value), _DECIMALS) for value in grid.affine[:3, 3]],
        "echo_time_ms": stack.echo_time_ms,
        "repetition_time_ms": stack.repetition_time_ms,
        "inversion_time_ms": stack.inversion_time_ms,
        "warnings": [_notice(item) for item in stack.warnings],
    }


def _notice(item: Notice) -> dict[str, Any]:
    return {"code": item.code, "text": item.text, "series": item.series_instance_uid, "path": item.path}
