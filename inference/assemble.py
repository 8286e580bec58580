"""Puts a report together: what travels inside becomes the types that leave, with the pictures that show it.

No number is made here; each part comes from the module that measured it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from configs import anatomy
from dicom_io.geometry import FloatArray
from dicom_io.study import Notice, Stack, Study
from inference.disc_grades import PFIRRMANN, pfirrmann_grades
from inference.localize import Disc
from inference.report import Finding, LevelRead, Plane, Point, Report, ReportWarning, SeriesRead, StudyRead
from inference.roots import Imaging, reach
from inference.segment import AxialReading, LabelMap

if TYPE_CHECKING:
    from inference.render.pictures import KeyPicture


def study_read(study: Study, numbering: str) -> StudyRead:
    """The study as the report shows it: pseudonym, hashes, every stack with its role and the reason for it."""
    return StudyRead.model_validate(
        {
            "pseudonym": study.patient.pseudonym,
            "study_instance_uid": study.study_instance_uid,
            "manifest_sha256": study.manifest_sha256,
            "numbering": numbering,
            "series": tuple(_series_read(stack) for stack in study.stacks),
        }
    )


def _series_read(stack: Stack) -> SeriesRead:
    return SeriesRead.model_validate(
        {
            "role": stack.role,
            "reason": stack.reason,
            "series_instance_uid": stack.series_instance_uid,
            "slices": stack.volume.grid.shape[0],
            "spacing_mm": stack.volume.grid.spacing,
            "orientation": stack.volume.plane,
            "warnings": tuple(notice.code for notice in stack.warnings),
        }
    )


def warnings_of(notices: Sequence[Notice]) -> tuple[ReportWarning, ...]:
    """Notices of reading as warnings of the report, each once."""
    made = (ReportWarning(code=item.code, text=item.text, series=item.series_instance_uid) for item in notices)
    return tuple(dict.fromkeys(made))


def level_read(disc: Disc) -> LevelRead:
    """A disc as the report shows it."""
    return LevelRead(
        name=disc.name,
        basis=disc.basis,
        confidence=disc.confidence,
        alternative_name=disc.alternative_name,
        disc_centre_lps=_point(disc.centre_lps),
        mid_plane=Plane(point=_point(disc.centre_lps), normal=_point(disc.normal)),
        disc_ap_mm=round(disc.ap_mm, 1),
        pfirrmann={grade: round(p, 3) for grade, p in pfirrmann_grades(disc.grades).items()} if disc.grades else None,
        grades={name: round(p, 3) for name, p in disc.grades.items() if name not in PFIRRMANN} or None,
    )


def with_roots(findings: Sequence[Finding], imaging: Imaging) -> tuple[Finding, ...]:
    """The findings with the roots that each one endangers by its level, side and zone, as "left:L5"."""
    roots = {
        item.id: tuple(f"{side}:{root}" for side, root in reach(item).endangered())
        for item in imaging.findings
        if item.withheld is None
    }
    return tuple(item.model_copy(update={"roots_at_risk": roots.get(item.id, ())}) for item in findings)


def merged_maps(axial: Sequence[AxialReading]) -> tuple[LabelMap, ...]:
    """One label map a stack, with the level of every slice; where two levels read one slice, the nearer disc's labels stay."""
    merged: dict[int, LabelMap] = {}
    distance: dict[tuple[int, int], float] = {}
    for item in axial:
        if item.label_map is None:
            continue
        stack = id(item.stack)
        whole = merged.get(stack)
        array = np.zeros_like(item.label_map.array) if whole is None else whole.array.copy()
        levels: list[str | None] = [None] * array.shape[0] if whole is None else list(whole.levels)
        for one in item.slices:
            if abs(one.offset_mm) < distance.get((stack, one.index), np.inf):
                distance[stack, one.index] = abs(one.offset_mm)
                array[one.index] = item.label_map.array[one.index]
                levels[one.index] = item.disc.name
        merged[stack] = replace(item.label_map, array=array, levels=tuple(levels))
    return tuple(merged.values())


def outlined_as_decided(axial: Sequence[AxialReading], findings: Sequence[Finding]) -> tuple[AxialReading, ...]:
    """The readings with outlines that say what the findings say: where none is called, material beyond the margin is disc."""
    denied = {item.level for item in findings if item.kind == "herniation" and not item.flagged}
    material, disc = (anatomy().axial.value(name) for name in ("herniated_material", "disc"))
    decided = []
    for item in axial:
        outlines = item.label_map
        if outlines is not None and item.disc.name in denied:
            array = np.where(outlines.array == material, disc, outlines.array).astype(np.uint8)
            outlines = replace(outlines, array=array)
        decided.append(replace(item, label_map=outlines))
    return tuple(decided)


def pictures_of(
    report: Report, sagittal: LabelMap, stack: Stack, axial: Sequence[AxialReading]
) -> tuple[KeyPicture, ...]:
    """The sagittal picture with the names of the discs, then the axial slices on which values were measured, caudal first."""
    from inference.render.pictures import axial_pictures, sagittal_picture

    lumbar = [level for level in report.levels if level.name in anatomy().levels]
    language = report.language
    pictures = [sagittal_picture(sagittal.source, sagittal.array, lumbar, role=stack.role, language=language)]
    read = {item.disc.name: item for item in axial}
    for level in reversed(lumbar):
        if level.name in read:
            item = read[level.name]
            labels = None if item.label_map is None else item.label_map.array
            role = item.stack.role
            pictures += axial_pictures(item.stack.volume, labels, level, report.findings, role=role, language=language)
    return tuple(pictures)


def _point(values: FloatArray) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
