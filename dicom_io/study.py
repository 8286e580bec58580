"""What was in the folder: patient and study context, series split into stacks, the role of each, what was left out and why.

Positions and directions come from the image headers only (DICOM PS3.3 C.7.6.2); file order, numbers and descriptions decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dicom_io.geometry import Volume


@dataclass(frozen=True)
class Notice:
    """A warning, exclusion or refusal: stable code, plain sentence with the remedy, and what it concerns."""

    code: str
    text: str
    series_instance_uid: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class PatientContext:
    """Patient and study attributes that derived objects copy; `pseudonym` is what may be printed."""

    pseudonym: str
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    age_years: int | None = None
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    study_id: str = ""
    referring_physician: str = ""


@dataclass(frozen=True)
class Stack:
    """Parallel, regularly spaced slices of one series, with the role they play in reading and the reason for it."""

    volume: Volume
    role: str
    reason: str
    series_instance_uid: str
    series_number: int | None
    description: str
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None = None
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class Study:
    """One study of one patient, ready to be read."""

    study_instance_uid: str
    patient: PatientContext
    stacks: tuple[Stack, ...]
    excluded: tuple[Notice, ...]
    warnings: tuple[Notice, ...]
    manifest_sha256: str
    objects: int = 0
    roles: dict[str, tuple[Stack, ...]] = field(default_factory=dict)

    def with_role(self, *roles: str) -> tuple[Stack, ...]:
        """Stacks that have one of `roles`, best first within each role."""
        return tuple(stack for role in roles for stack in self.roles.get(role, ()))
