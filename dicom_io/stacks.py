"""Sorts the frames of one series into stacks of parallel slices at a regular step, by position and direction alone.

Instance numbers, file names and slice locations decide nothing (PS3.3 C.7.6.2.1). A step that changes ends a stack: no
volume ever spans a gap. Tolerances: configs/limits.toml, [geometry].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from configs.loader import limits
from dicom_io.codes import notice
from dicom_io.frames import Slice, is_localizer
from dicom_io.geometry import FloatArray, Grid, SourceInstance, Volume, plane_of, slice_affine
from dicom_io.study import Notice

_MISSING_UP_TO_STEPS = 4.02  # a gap of at most three absent slices is a gap; a wider one separates two blocks
_MOSTLY = 0.6  # of the gaps: two blocks lying into each other have shorter and longer ones in turn
_SHEAR_RELATIVE = 0.02  # in-plane shift per step, relative to the step, from which the shift is told


@dataclass(frozen=True)
class Run:
    """Slices in order of position, ready to become a volume, with what is to be said about them."""

    slices: tuple[Slice, ...]
    step: FloatArray
    codes: tuple[str, ...] = ()
    localizer: bool = False


@dataclass
class Sorted:
    """Runs of one series and the notices about what was left out of them."""

    runs: list[Run] = field(default_factory=list)
    excluded: list[Notice] = field(default_factory=list)


def sort_series(slices: Sequence[Slice], series: str) -> Sorted:
    """Split the frames of one series into regular runs. Independent of the order of `slices`."""
    result = Sorted()
    groups = _by_orientation(sorted(slices, key=_canonical_key))
    planes = {plane_of(group[0].normal) for group in groups}
    scout = len(planes) > 1 and all(_scattered(group) for group in groups)
    for group in groups:
        contrasts = _by_contrast(group)
        extra = ("MULTI_CONTRAST",) if len(contrasts) > 1 else ()
        for parallel in contrasts:
            for part, overlap in _overlapping(parallel):
                codes = extra + (("OVERLAP",) if overlap else ())
                _sort_parallel(part, series, codes, len(planes) > 1, scout, result)
    _leave_out_strays(result, groups, series)
    _leave_out_wrong_signs(result, series)
    result.runs.sort(key=lambda run: _canonical_key(run.slices[0]))
    return result


def volume_of(run: Run, array: FloatArray) -> Volume:
    """The run's pixels (slices, rows, columns) as a volume on the grid of its own positions."""
    first = run.slices[0]
    affine = slice_affine(first.position, first.directions.reshape(6), np.array(first.spacing), run.step)
    instances = tuple(
        SourceInstance(item.header.sop_instance_uid, item.frame.frame, item.header.sop_class_uid, item.item.name)
        for item in run.slices
    )
    return Volume(
        array,
        Grid(array.shape, affine),
        instances,
        first.header.series_instance_uid,
        first.header.frame_of_reference_uid,
    )


def _canonical_key(item: Slice) -> tuple[object, ...]:
    return (
        *(round(value, 4) for value in item.normal.tolist()),
        float(item.position @ item.normal),
        *item.position,
        item.item.digest,
        item.number,
    )


def _leave_out_strays(result: Sorted, groups: Sequence[Sequence[Slice]], series: str) -> None:
    """Take out single slices of another matrix or spacing that stand among the slices of a row: they cannot join it."""
    kept: list[Run] = []
    for run in result.runs:
        short = len(run.slices) < limits().geometry.min_slices and not run.localizer
        if short and any(_stands_among(run, group) for group in groups):
            result.excluded.append(notice("TOO_FEW_SLICES", series, detail=_count(run.slices)))
        else:
            kept.append(run)
    result.runs = kept


def _stands_among(run: Run, row: Sequence[Slice]) -> bool:
    """Whether `row` is parallel to `run` and leaves a gap of few slices where `run` stands."""
    normal = run.slices[0].normal
    if any(item is run.slices[0] for item in row) or float(row[0].normal @ normal) < np.cos(
        np.radians(limits().geometry.same_stack_angle_deg)
    ):
        return False
    along = np.unique([round(float(item.position @ normal), 2) for item in row])
    low, high = (float(end.position @ normal) for end in (run.slices[0], run.slices[-1]))
    before, after = along[along < low], along[along > high]
    if not (len(before) and len(after) and len(along) > 2):
        return False
    return bool(after[0] - before[-1] <= _MISSING_UP_TO_STEPS * np.diff(along).min())


def _leave_out_wrong_signs(result: Sorted, series: str) -> None:
    """Take out runs of which one continues the other exactly once the sign of one coordinate is turned.

    Two blocks lie so by chance hardly ever; half of a row with a wrong sign always does, and which half cannot be known.
    """
    wrong: set[int] = set()
    for first, second in combinations(range(len(result.runs)), 2):
        if _continues_with_other_sign(result.runs[first], result.runs[second]):
            wrong |= {first, second}
    for at in sorted(wrong):
        result.excluded.append(notice("POSITION_INVALID", series, detail=_count(result.runs[at].slices)))
    result.runs = [run for at, run in enumerate(result.runs) if at not in wrong]


def _continues_with_other_sign(one: Run, other: Run) -> bool:
    """Whether the places of `other`, one coordinate negated, follow on those of `one` at the same step at either end."""
    bounds = limits().geometry
    if one.localizer or other.localizer or min(len(one.slices), len(other.slices)) < 2:
        return False
    places = np.array([item.position for item in one.slices])
    step = float(np.linalg.norm(one.step))
    tolerance = max(bounds.step_absolute_mm, bounds.step_relative * step)
    for axis in np.flatnonzero(np.abs(one.step) > tolerance):
        turned = np.array([item.position for item in other.slices])
        turned[:, axis] *= -1
        along = turned @ one.step
        row = turned[np.argsort(along)]
        for joined in (np.vstack([places, row]), np.vstack([row, places])):
            if float(np.abs(np.diff(joined, axis=0) - one.step).max()) <= tolerance:
                return True
    return False


def _by_orientation(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Groups of equal matrix, spacing and frame of reference whose directions agree within the tolerance."""
    bounds = limits().geometry
    alike: dict[tuple[object, ...], list[Slice]] = defaultdict(list)
    for item in slices:
        header = item.header
        alike[(header.rows, header.columns, header.frame_of_reference_uid)].append(item)
    groups: list[list[Slice]] = []
    for members in alike.values():
        features = np.array([np.concatenate([item.directions.ravel(), np.log(item.spacing)]) for item in members])
        unique, inverse = np.unique(np.round(features, 6), axis=0, return_inverse=True)
        difference = unique[:, None, :] - unique[None, :, :]
        chord = 2 * np.sin(np.radians(bounds.same_stack_angle_deg) / 2)
        near = (np.linalg.norm(difference[..., :3], axis=-1) <= chord) & (
            np.linalg.norm(difference[..., 3:6], axis=-1) <= chord
        )
        near &= np.abs(difference[..., 6:]).max(axis=-1) <= bounds.pixel_spacing_relative
        label = _connected(near)
        for number in sorted(set(label.tolist())):
            groups.append([item for item, at in zip(members, label[inverse.ravel()], strict=True) if at == number])
    return groups


def _connected(near: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Group of each member, when neighbours of neighbours belong together; numbered by the first of the group."""
    label = np.arange(len(near))
    while True:
        lowest = np.where(near, label[None, :], len(near)).min(axis=1)
        if (lowest == label).all():
            return label
        label = lowest


def _by_contrast(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Groups of one echo, time point, b-value and inversion time."""
    groups: dict[tuple[object, ...], list[Slice]] = defaultdict(list)
    for item in slices:
        frame = item.frame
        groups[(frame.echo_time, frame.temporal_position, frame.b_value, frame.inversion_time)].append(item)
    if len(groups) > 1 and not _overlap(groups.values()):
        return [list(slices)]  # scanners note slightly different effective times slice by slice
    return list(groups.values())


def _overlap(groups: Iterable[Sequence[Slice]]) -> bool:
    """Whether two groups hold a slice at one place: only then do echo or time tell images apart."""
    places: set[tuple[float, ...]] = set()
    for group in groups:
        here = {tuple(float(value) for value in np.round(item.position, 1)) for item in group}
        if here & places:
            return True
        places |= here
    return False


def _scattered(slices: Sequence[Slice]) -> bool:
    """Whether parallel slices are few or further apart than any series that is read, as those of a localizer."""
    bounds = limits().geometry
    along = np.sort([float(item.position @ slices[0].normal) for item in slices])
    return len(slices) < bounds.min_slices or float(np.quantile(np.diff(along), 0.5)) > bounds.step_mm[1]


def _overlapping(slices: list[Slice]) -> list[tuple[list[Slice], bool]]:
    """Two blocks of one step that lie into each other, apart; else all slices together. True where they were parted."""
    bounds = limits().geometry
    normal = slices[0].normal
    order = sorted(slices, key=lambda item: (float(item.position @ normal), item.item.digest))
    positions = np.array([item.position for item in order])
    along = positions @ normal
    gaps = np.diff(along)
    if len(order) < 2 * bounds.min_slices or float(gaps.min()) <= bounds.step_absolute_mm or _even(gaps):
        return [(slices, False)]
    for step in sorted({round(float(along[at + 2] - along[at]), 2) for at in range(len(along) - 2)}):
        tolerance = max(bounds.step_absolute_mm, bounds.step_relative * step)
        blocks: list[list[int]] = []
        for at in range(len(order)):
            wanted = [
                block for block in blocks if _follows(positions[block[-1]], positions[at], step * normal, tolerance)
            ]
            (wanted[0].append(at) if wanted else blocks.append([at]))
        if len(blocks) == 2 and min(len(block) for block in blocks) >= bounds.min_slices:
            first, second = (along[block] for block in blocks)
            if second[0] < first[-1] and first[0] < second[-1]:
                return [([order[at] for at in block], True) for block in blocks]
    return [(slices, False)]


def _even(gaps: FloatArray) -> bool:
    """Whether most gaps are one step and the others whole multiples of it."""
    bounds = limits().geometry
    step = float(gaps.min())
    off = np.abs(gaps / step - np.round(gaps / step)) * step
    tolerance = max(bounds.step_absolute_mm, bounds.step_relative * step)
    return bool((off <= tolerance).all() and np.mean(gaps <= step + tolerance) > _MOSTLY)


def _follows(last: FloatArray, here: FloatArray, step: FloatArray, tolerance: float) -> bool:
    return float(np.linalg.norm(here - last - step)) <= tolerance


def _sort_parallel(
    slices: list[Slice], series: str, extra: tuple[str, ...], mixed_planes: bool, scout: bool, result: Sorted
) -> None:
    bounds = limits().geometry
    localizer = scout or any(is_localizer(item.header) for item in slices)
    normal = slices[0].normal
    nearest = float(np.abs(normal).max())
    if not nearest >= np.cos(np.radians(bounds.plane_angle_deg)):
        result.excluded.append(notice("ORIENTATION_SCOPE", series, detail=_count(slices)))
        return
    slices = sorted(slices, key=lambda item: (float(item.position @ normal), item.item.digest))
    slices, doubled = _without_doubles(slices, normal)
    if doubled:
        result.excluded.append(notice("POSITION_DUPLICATE", series, detail=_count(doubled)))
    codes = extra + (("IOP_ROUNDED",) if any(item.straightened for item in slices) else ())
    axial = plane_of(normal) == "axial"
    runs, missing = _regular_runs(slices, normal)
    if missing:
        codes += ("SLICE_MISSING",)
    irregular: list[Slice] = []
    regular: list[Run] = []
    for run, step in runs:
        distance = float(step @ normal)
        if localizer or (mixed_planes and (distance > bounds.step_mm[1] or len(run) < bounds.min_slices) and not axial):
            result.runs.append(Run(tuple(run), step, codes, localizer=True))
        elif len(run) > 1 and not bounds.step_mm[0] <= distance <= bounds.step_mm[1]:
            result.excluded.append(notice("RESOLUTION", series, detail=f"{_count(run)}, {distance:.1f} mm apart"))
        elif len(run) < bounds.min_slices and not axial:
            irregular.extend(run)
        else:
            regular.append(Run(tuple(run), step, codes + _run_codes(run, step, normal)))
    short = len(irregular) + sum(len(run.slices) for run in regular if len(run.slices) < bounds.min_slices)
    if short > max(bounds.min_slices, len(slices) / 2):
        # what looks regular by chance among positions that are not to be trusted is not to be trusted either
        irregular, regular = list(slices), []
    result.runs += regular
    if irregular:
        code = "POSITION_INVALID" if len(irregular) > bounds.min_slices else "TOO_FEW_SLICES"
        result.excluded.append(notice(code, series, detail=_count(irregular)))


def _run_codes(run: Sequence[Slice], step: FloatArray, normal: FloatArray) -> tuple[str, ...]:
    bounds = limits().geometry
    codes: list[str] = []
    distance = float(step @ normal)
    if len(run) < bounds.min_slices:
        codes.append("FEW_SLICES")
    if len(run) > 1 and float(np.linalg.norm(step - distance * normal)) > _SHEAR_RELATIVE * distance:
        codes.append("SHEARED")
    told = [item.frame.spacing_between_slices for item in run if item.frame.spacing_between_slices is not None]
    tolerance = max(bounds.step_absolute_mm, bounds.step_relative * distance)
    contradicts = any(not abs(value - distance) <= tolerance for value in told)
    thick = any((item.frame.slice_thickness or 0.0) > bounds.thickness_over_step * distance for item in run)
    if len(run) > 1 and (contradicts or thick):
        codes.append("SPACING_TAG")
    return tuple(codes)


def _count(slices: Sequence[Slice]) -> str:
    return f"{len(slices)} image{'s' if len(slices) != 1 else ''}"


def _without_doubles(slices: Sequence[Slice], normal: FloatArray) -> tuple[list[Slice], list[Slice]]:
    """Slices whose place no other slice claims, and those that share one."""
    along = np.array([float(item.position @ normal) for item in slices])
    closeness = limits().geometry.step_absolute_mm
    doubled = np.zeros(len(slices), dtype=bool)
    same = np.diff(along) <= closeness
    doubled[:-1] |= same
    doubled[1:] |= same
    kept = [item for item, double in zip(slices, doubled, strict=True) if not double]
    return kept, [item for item, double in zip(slices, doubled, strict=True) if double]


def _regular_runs(slices: list[Slice], normal: FloatArray) -> tuple[list[tuple[list[Slice], FloatArray]], bool]:
    """Longest pieces of constant step vector, and whether slices are missing between pieces of one step."""
    if not slices:
        return [], False
    if len(slices) == 1:
        return [(slices, _lone_step(slices[0], normal))], False
    positions = np.array([item.position for item in slices])
    steps = np.diff(positions, axis=0)
    solid = _constant_pieces(steps)
    runs: list[tuple[list[Slice], FloatArray]] = []
    taken = np.zeros(len(slices), dtype=bool)
    for begin, end in solid:  # slices begin..end inclusive
        runs.append((slices[begin : end + 1], (positions[end] - positions[begin]) / (end - begin)))
        taken[begin : end + 1] = True
    usual = (
        float(np.quantile([np.linalg.norm(step) for _, step in runs], 0.5))
        if runs
        else float(np.linalg.norm(steps, axis=1).min())
    )
    runs += _short_runs(slices, positions, taken, usual, normal)
    runs.sort(key=lambda run: float(run[0][0].position @ normal))
    missing = any(_gap(before, after, usual) for before, after in pairwise(runs))
    return runs, missing


def _gap(before: tuple[list[Slice], FloatArray], after: tuple[list[Slice], FloatArray], usual: float) -> bool:
    """Whether whole slices of the same row of slices are absent between two runs (a block set elsewhere is no gap)."""
    bounds = limits().geometry
    between = after[0][0].position - before[0][-1].position
    longest = max((before, after), key=lambda run: len(run[0]))[1]
    step = longest * (usual / float(np.linalg.norm(longest)))
    count = round(float(between @ step) / usual**2)
    tolerance = max(bounds.step_absolute_mm, bounds.step_relative * usual) * max(count, 1)
    return 1 < count <= _MISSING_UP_TO_STEPS and float(np.linalg.norm(between - count * step)) <= tolerance


def _lone_step(item: Slice, normal: FloatArray) -> FloatArray:
    """What a single slice stands for along its normal: its nominal spacing, else its thickness, else 1 mm."""
    return normal * (item.frame.spacing_between_slices or item.frame.slice_thickness or 1.0)


def _constant_pieces(steps: FloatArray) -> list[tuple[int, int]]:
    """Index ranges (first slice, last slice) of at least three slices whose step vectors are equal, longest first."""
    bounds = limits().geometry
    pieces: list[tuple[int, int]] = []
    begin = 0
    for at in range(1, len(steps) + 1):
        reference = steps[begin]
        tolerance = max(bounds.step_absolute_mm, bounds.step_relative * float(np.linalg.norm(reference)))
        if at < len(steps) and float(np.linalg.norm(steps[at] - reference)) <= tolerance:
            continue
        if at - begin >= 2:
            pieces.append((begin, at))
        begin = at
    used: set[int] = set()
    kept: list[tuple[int, int]] = []
    for first, last in sorted(pieces, key=lambda piece: (piece[0] - piece[1], piece[0])):
        while first in used:
            first += 1
        while last in used:
            last -= 1
        if last - first >= 2:
            kept.append((first, last))
            used.update(range(first, last + 1))
    return kept


def _short_runs(
    slices: Sequence[Slice], positions: FloatArray, taken: np.ndarray, usual: float, normal: FloatArray
) -> list[tuple[list[Slice], FloatArray]]:
    """Pairs and single slices that belong to no longer piece."""
    runs: list[tuple[list[Slice], FloatArray]] = []
    at = 0
    while at < len(slices):
        if taken[at]:
            at += 1
            continue
        step = positions[at + 1] - positions[at] if at + 1 < len(slices) and not taken[at + 1] else None
        if step is not None and float(np.linalg.norm(step)) <= 1.5 * usual:
            runs.append(([slices[at], slices[at + 1]], step))
            at += 2
        else:
            runs.append(([slices[at]], _lone_step(slices[at], normal)))
            at += 1
    return runs
