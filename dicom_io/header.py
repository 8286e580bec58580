"""What is kept of one DICOM object's header: plain, validated values that cross the process border as JSON.

Decimal strings follow PS3.5 6.2 (VR DS): anything outside its character set, not finite or of the wrong count is a
fault with a code and never a guess. Positions and spacings are in mm, times in ms.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
MAX_NUMBER_CHARACTERS = 64  # the standard's 16 is broken by well-known scanners; longer than this is no number

Vector3 = tuple[float, float, float]
Vector6 = tuple[float, float, float, float, float, float]
Vector2 = tuple[float, float]

_STRICT: dict[str, Any] = {"allow_inf_nan": False, "str_max_length": 4096, "extra": "forbid"}


class NumberError(ValueError):
    """A text that should be numbers and is not; the message names the attribute."""


@dataclass(frozen=True)
class FrameHeader:
    """Geometry, timing and scaling of one frame. `faults` maps attribute keyword to a code; None = absent."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    frame: int | None = None
    position: Vector3 | None = None
    orientation: Vector6 | None = None
    pixel_spacing: Vector2 | None = None
    slice_thickness: float | None = None
    spacing_between_slices: float | None = None
    echo_time: float | None = None
    repetition_time: float | None = None
    inversion_time: float | None = None
    b_value: float | None = None
    temporal_position: float | None = None
    slope: float = 1.0
    intercept: float = 0.0
    image_type: tuple[str, ...] = ()
    faults: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """One object's header. Text is stripped of padding and control characters; absent text is empty."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    modality: str = ""
    frame_of_reference_uid: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_name_bytes: str = ""  # as they stand in the file, in hexadecimal
    birth_date: str = ""
    sex: str = ""
    age: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    study_id: str = ""
    referring_physician: str = ""
    series_number: int | None = None
    description: str = ""
    image_type: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    contrast_agent: bool = False
    field_strength: float | None = None
    patient_position: str = ""
    photometric: str = ""
    samples: int = 1
    rows: int = 0
    columns: int = 0
    number_of_frames: int = 0
    has_pixels: bool = False
    padding_value: int | None = None
    frames: tuple[FrameHeader, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What became of one object: "accepted", "quarantined" or "refused", with codes; pixels travel beside it.

    `dtype` is the numpy type of the pixel values ("" when there are none), (frames, rows, columns) in `Header` the shape.
    `pixel_offset` says where in the object's own bytes they stand; None: they follow the verdict.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    state: str
    code: str = ""
    warnings: tuple[str, ...] = ()
    header: Header | None = None
    dtype: str = ""
    pixel_offset: int | None = None
    other_study: bool = False


def parse_numbers(text: str, count: int, keyword: str) -> tuple[float, ...]:
    r"""`count` finite numbers out of a DICOM decimal string ("0.5\0.5"). NumberError names `keyword`."""
    parts = [part.strip(" \0") for part in text.split("\\")]
    if len(parts) != count:
        raise NumberError(f"{keyword} has {len(parts)} values, expected {count}")
    for part in parts:
        if len(part) > MAX_NUMBER_CHARACTERS or not _DECIMAL.fullmatch(part):
            raise NumberError(f"{keyword} is not a decimal string")
    values = tuple(float(part) for part in parts)
    if not all(math.isfinite(value) for value in values):
        raise NumberError(f"{keyword} is not finite")
    return values
