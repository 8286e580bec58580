"""All doubts about one study: of its column, its axial pictures, and both together."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_io.study import Stack, Study
from inference.axial_doubts import axial_doubts, picture_code
from inference.column_doubts import column_doubts, middle_picture, oblique_doubts
from inference.competence import Doubt
from inference.localize import Localization
from inference.segment import AxialReading


def study_doubts(study: Study, spine: Localization, stack: Stack, axial: Sequence[AxialReading]) -> tuple[Doubt, ...]:
    """Doubts in the order in which they give a withheld value its code. `stack` is the sagittal one that `spine` was found in."""
    t1 = next(iter(study.with_role("sagittal_t1")), None)
    column = column_doubts(spine, stack, t1)
    metal = tuple(doubt for doubt in column if doubt.code == "METAL")
    rest = tuple(doubt for doubt in column if doubt.code != "METAL")
    return (*metal, *axial_doubts(axial), *rest, *oblique_doubts(column, axial))


def too_poor(spine: Localization, stack: Stack) -> bool:
    """Whether the sagittal pictures in which no column was found are too noisy or too blurred for one to be found."""
    return picture_code(middle_picture(spine, stack.volume), 0.0, sagittal=True) == "LOW_QUALITY"
