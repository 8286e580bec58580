"""One frame as geometry sees it, and the checks a frame must pass before it may join a stack.

Tolerances: configs/limits.toml, [geometry]. Comparisons are written so that a value that is not a number fails them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.loader import limits
from dicom_io.geometry import FloatArray
from dicom_io.header import FrameHeader, Header
from dicom_io.isolation import Examined

_GEOMETRY_KEYWORDS = frozenset({"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"})
_SCALING_KEYWORDS = frozenset({"RescaleSlope", "RescaleIntercept"})
_DERIVED_WORDS = frozenset({"MPR", "MIP", "MINIP", "PROJECTION IMAGE", "SUBTRACT", "SUBTRACTION", "REFORMATTED"})
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kin, which continue this UID
_MAX_SLOPE = 1e6  # scanners scale by a few powers of ten at most


@dataclass(frozen=True)
class Slice:
    """A frame with sound geometry: position (3,), unit row and column directions (2, 3), mm between rows, columns."""

    item: Examined
    header: Header
    frame: FrameHeader
    number: int
    position: FloatArray
    directions: FloatArray
    spacing: tuple[float, float]
    straightened: bool

    @cached_property
    def normal(self) -> FloatArray:
        """Unit normal (3,) pointing to the patient's left, back or head, whichever is nearest."""
        (a, b, c), (d, e, f) = self.directions.tolist()
        normal = np.array([b * f - c * e, c * d - a * f, a * e - b * d])
        return normal if normal[int(np.argmax(np.abs(normal)))] > 0 else -normal

    @property
    def stored(self) -> NDArray[np.integer[Any]]:
        """Stored values (rows, columns) as decoded."""
        assert self.item.pixels is not None
        plane: NDArray[np.integer[Any]] = self.item.pixels[self.number]
        return plane

    @cached_property
    def extremes(self) -> tuple[int, int]:
        """Lowest and highest stored value."""
        return int(self.stored.min()), int(self.stored.max())


def slices_of(item: Examined) -> tuple[list[Slice], list[str]]:
    """The usable frames of one accepted object, and the code of every frame that was left out."""
    header = item.verdict.header
    assert header is not None
    code = _object_code(item, header)
    if code:
        return [], [code]
    good: list[Slice] = []
    bad: list[str] = []
    for number, frame in enumerate(header.frames):
        checked = _checked(item, header, frame, number)
        if isinstance(checked, str):
            bad.append(checked)
        else:
            good.append(checked)
    return good, bad


def is_localizer(header: Header) -> bool:
    """Whether the object calls itself a localizer (ImageType, PS3.3 C.8.3.1.1.1)."""
    return any("LOCALIZER" in word.upper() for word in header.image_type)


def _object_code(item: Examined, header: Header) -> str:
    words = {word.upper() for word in header.image_type}
    if header.modality not in ("MR", ""):
        return "MODALITY"
    if not header.has_pixels or item.pixels is None:
        return "NO_IMAGE"
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return "COLOUR"
    if "MOSAIC" in words:
        return "MOSAIC"
    kinds = tuple(word.upper() for word in header.image_type[:2])
    if (
        header.sop_class_uid.startswith(_SECONDARY_CAPTURE)
        or kinds == ("DERIVED", "SECONDARY")
        or words & _DERIVED_WORDS
    ):
        return "DERIVED"
    return ""


def _checked(item: Examined, header: Header, frame: FrameHeader, number: int) -> Slice | str:
    bounds = limits().geometry
    if _GEOMETRY_KEYWORDS & frame.faults.keys():
        return "NUMBER_INVALID"
    if _SCALING_KEYWORDS & frame.faults.keys() or not 0 < abs(frame.slope) < _MAX_SLOPE:
        return "RESCALE_INVALID"
    if frame.position is None:
        return "NO_POSITION"
    if frame.orientation is None:
        return "NO_ORIENTATION"
    if frame.pixel_spacing is None:
        return "NO_PIXEL_SPACING"
    if not all(value > 0 for value in frame.pixel_spacing):
        return "NUMBER_INVALID"
    low, high = bounds.pixel_spacing_mm
    if not all(low <= value <= high for value in frame.pixel_spacing):
        return "RESOLUTION"
    fields = (header.rows * frame.pixel_spacing[0], header.columns * frame.pixel_spacing[1])
    if not all(bounds.field_of_view_mm[0] <= value <= bounds.field_of_view_mm[1] for value in fields):
        return "FOV"
    straight = _straight(np.array(frame.orientation, dtype=np.float64).reshape(2, 3))
    if straight is None:
        return "IOP_INVALID"
    directions, straightened = straight
    return Slice(item, header, frame, number, np.array(frame.position), directions, frame.pixel_spacing, straightened)


def _straight(directions: FloatArray) -> tuple[FloatArray, bool] | None:
    """Row and column directions made exactly perpendicular and of unit length, whether they were much off, or None."""
    bounds = limits().geometry
    lengths = np.linalg.norm(directions, axis=1)
    error = max(float(np.abs(lengths - 1).max()), abs(float(directions[0] @ directions[1])))
    if not error <= bounds.orthogonality_rounded:
        return None
    row = directions[0] / lengths[0]
    column = directions[1] - (directions[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)]), not error <= bounds.orthogonality
