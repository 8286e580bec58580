"""Key pictures: one slice each, with its label map, its place in LPS mm and what is drawn on it.

Which slices are shown follows from the report: those on which its values were measured. No number is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs import anatomy
from configs.clinical import words
from dicom_io.geometry import FloatArray, Volume
from inference.report import Finding, LevelRead, Measurement, Point, Severity

LabelSetName = Literal["axial", "sagittal"]

SEVERITY_RANK: dict[Severity, int] = {"normal_mild": 0, "moderate": 1, "severe": 2}
_PICTURES_PER_LEVEL = 2
_AXIAL_EXTENT_MM = 84.0  # canal, both facet joints and the disc margin with some muscle around them
_SAGITTAL_MARGIN_MM = 14.0
_DISC_LINE_HALF_MM = 20.0  # about half the depth of a lumbar disc


@dataclass(frozen=True)
class Mark:
    """A line or a point with a short text, drawn where its LPS points lie: one point, or two for a line."""

    text: str
    points_lps: tuple[Point, ...]


@dataclass(frozen=True, eq=False)
class KeyPicture:
    """One slice that goes into the report.

    `image` (rows, columns) in any unit; `labels` of the same shape with the numbers of `label_set` in anatomy.toml;
    `affine` 4x4 from (0, row, column) to LPS mm; `extent_mm` the side of the square shown around `focus_lps`
    (the whole slice where either is None).
    """

    plane: Literal["axial", "sagittal"]
    level: str | None
    title: str
    alt_text: str
    image: FloatArray
    affine: FloatArray
    labels: NDArray[np.integer[Any]] | None = None
    label_set: LabelSetName = "axial"
    measurements: tuple[Measurement, ...] = ()
    marks: tuple[Mark, ...] = ()
    source_instance: str = ""
    focus_lps: Point | None = None
    extent_mm: float | None = None
    language: str = "en"


def slice_picture_affine(volume: Volume, index: int) -> FloatArray:
    """4x4 matrix (0, row, column) -> LPS mm of slice `index` of a volume."""
    affine = np.array(volume.grid.affine, dtype=np.float64)
    affine[:3, 3] = volume.grid.to_lps(np.array([float(index), 0.0, 0.0]))
    return affine


def axial_pictures(
    volume: Volume,
    labels: NDArray[np.integer[Any]] | None,
    level: LevelRead,
    findings: Sequence[Finding],
    *,
    role: str = "axial_t2",
    language: str = "en",
) -> tuple[KeyPicture, ...]:
    """Pictures of one level: the slices on which its values were measured, the most severe value first (at most two).

    A slice on which nothing is moderate or severe is shown once, and only at the levels that are always read.
    `labels` (slices, rows, columns) on the volume's grid. Empty when nothing was measured on this volume.
    """
    rank: dict[int, int] = {}
    drawn: dict[int, list[Measurement]] = {}
    for finding in findings:
        if finding.level != level.name:
            continue
        for measurement in finding.measurements:
            index = _slice_of(volume, measurement)
            if index is not None:
                drawn.setdefault(index, []).append(measurement)
                rank[index] = max(rank.get(index, -1), SEVERITY_RANK[finding.severity])
    order = sorted(drawn, key=lambda index: (-rank[index], -len(drawn[index]), index))
    first = 1 if level.name in anatomy().read_levels else 0
    chosen = order[:first] + [index for index in order[first:] if rank[index] > 0]
    chosen = chosen[:_PICTURES_PER_LEVEL]
    return tuple(_axial_picture(volume, labels, level, index, tuple(drawn[index]), role, language) for index in chosen)


def _axial_picture(
    volume: Volume,
    labels: NDArray[np.integer[Any]] | None,
    level: LevelRead,
    index: int,
    measurements: tuple[Measurement, ...],
    role: str,
    language: str,
) -> KeyPicture:
    page, total = words(language).page, volume.grid.shape[0]
    said = "; ".join(f"{spoken(m.name, language)} {value_text(m)}" for m in measurements)
    return KeyPicture(
        plane="axial",
        level=level.name,
        title=page["axial_title"].format(level=level.name, series=words(language).role[role], n=index + 1, total=total),
        alt_text=page["axial_alt"].format(level=level.name, n=index + 1, total=total, list=said),
        image=volume.array[index],
        affine=slice_picture_affine(volume, index),
        labels=None if labels is None else labels[index],
        label_set="axial",
        measurements=measurements,
        source_instance=volume.instances[index].sop_instance_uid,
        focus_lps=_focus(volume, labels, index, measurements, level),
        extent_mm=_AXIAL_EXTENT_MM,
        language=language,
    )


def _focus(
    volume: Volume,
    labels: NDArray[np.integer[Any]] | None,
    index: int,
    measurements: tuple[Measurement, ...],
    level: LevelRead,
) -> Point:
    """Where the picture is centred: on what was outlined, else on what was measured, else on the disc."""
    if labels is not None and np.any(labels[index]):
        rows, columns = np.nonzero(labels[index])
        middle = [float(index), (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2]
        return _point(volume.grid.to_lps(np.array(middle)))
    points = [point for m in measurements if m.points_lps for point in m.points_lps]
    return _point(np.mean(points, axis=0)) if points else level.disc_centre_lps


def sagittal_picture(
    volume: Volume,
    labels: NDArray[np.integer[Any]] | None,
    levels: Sequence[LevelRead],
    *,
    role: str = "sagittal_t2",
    language: str = "en",
    index: int | None = None,
) -> KeyPicture:
    """The slice nearest the middle of the discs, with the name and the mid-plane of each disc.

    `labels` (slices, rows, columns) on the volume's grid; `index` picks another slice.
    """
    total = volume.grid.shape[0]
    if index is None:
        if levels:
            centres = np.array([level.disc_centre_lps for level in levels])
            index = int(np.clip(np.rint(np.median(volume.grid.to_index(centres)[:, 0])), 0, total - 1))
        else:
            index = total // 2
    affine = slice_picture_affine(volume, index)
    page = words(language).page
    names = ", ".join(level.name for level in levels) or page["no_place"]
    focus, extent = _column_window(levels)
    return KeyPicture(
        plane="sagittal",
        level=None,
        title=page["levels_title"].format(series=words(language).role[role], n=index + 1, total=total),
        alt_text=page["sagittal_alt"].format(n=index + 1, total=total, list=names),
        image=volume.array[index],
        affine=affine,
        labels=None if labels is None else labels[index],
        label_set="sagittal",
        marks=disc_marks(levels, affine),
        source_instance=volume.instances[index].sop_instance_uid,
        focus_lps=focus,
        extent_mm=extent,
        language=language,
    )


def disc_marks(levels: Sequence[LevelRead], affine: FloatArray) -> tuple[Mark, ...]:
    """Name and mid-plane of each disc as a line in the plane of a sagittal slice with this (0, row, column) affine."""
    slice_normal = np.cross(affine[:3, 1], affine[:3, 2])
    slice_normal = slice_normal / np.linalg.norm(slice_normal)
    marks = []
    for level in levels:
        centre = np.array(level.disc_centre_lps)
        centre = centre - ((centre - affine[:3, 3]) @ slice_normal) * slice_normal
        along = np.cross(slice_normal, np.array(level.mid_plane.normal))
        length = float(np.linalg.norm(along))
        if length < 0.1:  # a plane nearly parallel to the slice draws no line in it
            continue
        along = along / length * _DISC_LINE_HALF_MM
        doubt = f" / {level.alternative_name}?" if level.alternative_name else ""
        marks.append(Mark(level.name + doubt, (_point(centre - along), _point(centre + along))))
    return tuple(marks)


def _column_window(levels: Sequence[LevelRead]) -> tuple[Point | None, float | None]:
    if not levels:
        return None, None
    centres = np.array([level.disc_centre_lps for level in levels])
    low, high = centres.min(axis=0), centres.max(axis=0)
    return _point((low + high) / 2), float(max((high - low)[1:].max() + 4 * _SAGITTAL_MARGIN_MM, 120.0))


def _slice_of(volume: Volume, measurement: Measurement) -> int | None:
    """Slice of `volume` on which a value was measured; instance and position must both fit (instances can repeat)."""
    for index, instance in enumerate(volume.instances):
        if instance.sop_instance_uid != measurement.source_instance:
            continue
        if measurement.points_lps is None:
            return index
        place = volume.grid.to_index(np.array(measurement.points_lps))
        if np.all(np.abs(place[:, 0] - index) <= 1.0) and np.all(
            volume.grid.contains(np.array(measurement.points_lps))
        ):
            return index
    return None


def spoken(name: str, language: str = "en") -> str:
    """A value's or structure's name as people say it: `recess_mm` becomes "recess depth"."""
    known = words(language).measure | words(language).structure
    parts = name.removesuffix("_mm2").removesuffix("_mm").split("_")
    return known.get(name) or " ".join("AP" if part == "ap" else part for part in parts)


def value_text(measurement: Measurement) -> str:
    """The value with its unit: lengths to a tenth of a millimetre, areas to the whole square millimetre."""
    return f"{measurement.value:.{digits_of(measurement.unit)}f} {unit_text(measurement.unit)}".strip()


def digits_of(unit: str) -> int:
    """Decimals that a value of this unit is printed with."""
    return {"mm": 1, "1": 2}.get(unit, 0)


def unit_text(unit: str) -> str:
    """Unit as it is printed; a share has none."""
    return {"mm2": "mm²", "mm3": "mm³", "deg": "°", "1": ""}.get(unit, unit)


def _point(values: FloatArray) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
