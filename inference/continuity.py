"""Whether neighbouring slices of a stack continue each other as their headers place them.

A picture of another patient, pictures exchanged among the places of a series and places that drift against their own pictures
pass every check of headers. Near slices look more alike than far ones, and that betrays them. Numbers: configs/limits.toml, [continuity].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs.loader import limits
from dicom_io.codes import notice
from dicom_io.geometry import FloatArray, Grid, Volume
from dicom_io.roles import rank
from dicom_io.study import Notice, Stack, Study
from inference.side_check import evened

_JUDGED = frozenset({"axial_t2", "axial_t1", "sagittal_t1", "sagittal_t2", "sagittal_t2_fs"})

_DRIFT_REACH = 2.0
"""Movements are tried up to so many times the drift."""


@dataclass(frozen=True)
class Continuity:
    """What is wrong with a stack: nothing, single slices (`outliers`, index from 0), or its places as a whole (`contradicted`)."""

    outliers: tuple[int, ...] = ()
    contradicted: str = ""
    """Why the places cannot be right, in words; empty when nothing speaks against them."""


def continuous(study: Study) -> Study:
    """The study without slices and stacks whose pictures contradict their places; what was left out is told in `excluded`.

    A stack is split at a slice that belongs elsewhere, as at one that is missing. A stack whose places are contradicted is left out.
    """
    told: list[Notice] = []
    stacks: list[Stack] = []
    drifting = _drifting(study)
    for stack in study.stacks:
        series = stack.series_instance_uid
        if (series, stack.role) in drifting:
            text = "the places drift from slice to slice and the pictures do not"
            told.append(notice("POSITION_INVALID", series, detail=f"{stack.volume.grid.shape[0]} images, {text}"))
            continue
        found = check_continuity(stack.volume) if stack.role in _JUDGED else Continuity()
        if found.contradicted:
            told.append(notice("POSITION_INVALID", series, detail=found.contradicted))
            continue
        if found.outliers:
            told.append(notice("CONTENT_OUTLIER", series, detail=f"slice {_numbers(found.outliers)} of {stack.role}"))
            stacks += _pieces(stack, found.outliers)
        else:
            stacks.append(stack)
    if not told:
        return study
    return replace(study, stacks=tuple(stacks), roles=rank(stacks), excluded=(*study.excluded, *told))


def _drifting(study: Study) -> set[tuple[str, str]]:
    """Series and role of stacks whose places drift within their plane while their pictures, one laid on the next, do not.

    All stacks of a series are weighed together, since a body may lie obliquely to the slices of one of them.
    """
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    for stack in study.stacks:
        if stack.role in _JUDGED and (share := seen_drift(stack.volume)) is not None:
            shares[stack.series_instance_uid, stack.role].append(share)
    return {key for key, seen in shares.items() if float(np.mean(seen)) < limits().continuity.seen_drift}


def seen_drift(volume: Volume) -> float | None:
    """Which share of the drift that the places tell is seen in the pictures: about 1 when true, about 0 when not.

    None where the places drift too little to judge.
    """
    bounds = limits().continuity
    small = _reduced(volume)
    spacing = np.array(small.grid.spacing[1:])
    told = _drift(small) * spacing
    length = float(np.linalg.norm(told))
    if volume.grid.shape[0] < bounds.least_slices or not length >= bounds.drift_mm:
        return None
    pictures = evened(small)
    reach = np.ceil(_DRIFT_REACH * np.maximum(np.abs(told), bounds.drift_mm) / spacing).astype(int)
    moves = [(y, x) for y in range(-reach[0], reach[0] + 1) for x in range(-reach[1], reach[1] + 1)]
    scores = np.array([_moved_alike(pictures, reach, move) for move in moves]).reshape(2 * reach + 1)
    row, column = (int(at) for at in np.unravel_index(int(scores.argmax()), scores.shape))
    place = np.array([row + _between(scores[:, column], row), column + _between(scores[row], column)]) - reach
    return float(place * spacing @ told) / length**2


def _moved_alike(pictures: FloatArray, reach: NDArray[np.int_], move: tuple[int, int]) -> float:
    """Mean correlation of neighbours when the second of each pair is read (rows, columns) further."""
    height, width = np.array(pictures.shape[1:]) - 2 * reach
    if height * width < limits().continuity.least_pixels:
        return 0.0
    y, x = reach + np.array(move)
    pairs = (
        np.corrcoef(one[reach[0] :, reach[1] :][:height, :width].ravel(), two[y:, x:][:height, :width].ravel())[0, 1]
        for one, two in pairwise(pictures)
    )
    return float(np.mean(np.nan_to_num(list(pairs))))


def _between(scores: FloatArray, top: int) -> float:
    """Offset of the vertex of the parabola through the highest score and its neighbours; 0 at an end."""
    if not 0 < top < len(scores) - 1:
        return 0.0
    before, here, after = scores[top - 1 : top + 2]
    bend = float(before - 2 * here + after)
    return 0.5 * float(before - after) / bend if bend < 0 else 0.0


def check_continuity(volume: Volume) -> Continuity:
    """Compare every slice with the others of its stack; stacks of fewer than three slices tell nothing."""
    bounds = limits().continuity
    if volume.grid.shape[0] < bounds.least_slices:
        return Continuity()
    small = _reduced(volume)
    pictures = evened(small)
    drift = _drift(small)
    alike = _alikeness(_aligned(pictures, drift))
    if not float((alike - np.eye(len(alike))).max()) >= bounds.least_agreement:
        return Continuity()  # noise: nothing is like anything
    outliers = _outliers(alike)
    if outliers:
        alike = np.maximum(alike, _nudged(_aligned(pictures, drift)))
        outliers = _outliers(alike)
    kept = [at for at in range(len(alike)) if at not in outliers]
    wrong_order = (
        _best_exchange(alike[np.ix_(kept, kept)], sagittal=volume.plane == "sagittal") >= bounds.exchange_margin
    )
    if wrong_order or len(outliers) > bounds.most_outliers * len(alike) or (outliers and _broken(alike, kept)):
        return Continuity(contradicted="the pictures do not follow each other in the order of their places")
    return Continuity(outliers)


def _reduced(volume: Volume) -> Volume:
    """The volume on pixels of about the size at which slices are compared, each the mean of a block."""
    _, row_mm, column_mm = volume.grid.spacing
    rows, columns = (max(1, round(limits().continuity.pixel_mm / mm)) for mm in (row_mm, column_mm))
    slices, height, width = volume.grid.shape
    kept = volume.array[:, : height // rows * rows, : width // columns * columns]
    array = kept.reshape(slices, height // rows, rows, width // columns, columns).mean(axis=(2, 4), dtype=np.float32)
    affine = volume.grid.affine @ np.diag([1.0, rows, columns, 1.0])
    affine[:3, 3] = volume.grid.to_lps(np.array([0.0, (rows - 1) / 2, (columns - 1) / 2]))
    return replace(volume, array=array, grid=Grid(array.shape, affine))


def _drift(volume: Volume) -> FloatArray:
    """How many (rows, columns) the same point of the body lies further in the next slice, as the places say."""
    step, down, right = volume.grid.affine[:3, 0], volume.grid.affine[:3, 1], volume.grid.affine[:3, 2]
    return np.array([-float(step @ down) / float(down @ down), -float(step @ right) / float(right @ right)])


def _aligned(pictures: FloatArray, drift: FloatArray) -> FloatArray:
    """The pictures moved onto the middle one's pixels, cut to what all of them show."""
    middle = (len(pictures) - 1) / 2
    moves = [-(number - middle) * drift for number in range(len(pictures))]
    if float(np.abs(moves).max()) < 0.5:
        return pictures
    moved = np.stack([ndimage.shift(plane, move, order=1) for plane, move in zip(pictures, moves, strict=True)])
    edge = np.ceil(np.abs(moves).max(axis=0)).astype(int)
    rows, columns = (slice(int(cut), -int(cut) or None) for cut in edge)
    return moved[:, rows, columns]


def _alikeness(pictures: FloatArray) -> FloatArray:
    """Correlation (slices, slices) of all pairs of pictures."""
    if pictures[0].size < limits().continuity.least_pixels:
        return np.eye(len(pictures))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num(np.corrcoef(pictures.reshape(len(pictures), -1))))


def _nudged(pictures: FloatArray) -> FloatArray:
    """Best correlation of neighbours over movements of a pixel, so that a patient who moved is no other patient; 0 elsewhere."""
    best = np.zeros((len(pictures), len(pictures)))
    inner = pictures[:, 1:-1, 1:-1]
    for at, (here, after) in enumerate(pairwise(range(len(pictures)))):
        height, width = inner.shape[1:]
        scores = [
            np.corrcoef(inner[here].ravel(), pictures[after, y : y + height, x : x + width].ravel())[0, 1]
            for y in range(3)
            for x in range(3)
        ]
        best[at, at + 1] = best[at + 1, at] = float(np.nanmax(scores))
    return best


def _outliers(alike: FloatArray) -> tuple[int, ...]:
    """Slices whose two neighbours are more like each other than like the slice; at an end, slices unlike their only neighbour."""
    bounds = limits().continuity
    beside = np.diag(alike, 1)
    usual = float(np.median(beside))
    found = []
    for at in range(1, len(alike) - 1):
        best = max(alike[at - 1, at], alike[at, at + 1])
        # the slices on both sides of a body's middle are alike without it, which is no sign against the middle one
        if alike[at - 1, at + 1] >= best + bounds.margin and best < bounds.outlier_share * usual:
            found.append(at)
    last = len(alike) - 1
    for end, next_to_it, value in ((0, 1, beside[0]), (last, last - 1, beside[-1])):
        if len(alike) > bounds.least_slices and next_to_it not in found and value < bounds.end_share * usual:
            found.append(end)
    return tuple(sorted(found))


def _broken(alike: FloatArray, kept: Sequence[int]) -> bool:
    """Whether two neighbours among the slices that stay agree far less than the others do: more is wrong than single slices."""
    beside = [alike[one, two] for one, two in pairwise(kept) if two == one + 1]
    return bool(beside) and min(beside) < limits().continuity.broken_share * float(np.median(beside))


def _best_exchange(alike: FloatArray, *, sagittal: bool) -> float:
    """By how much the sum of correlations of neighbours grows, at most, when two pictures change places or a row between turns round.

    A body's left half looks like its right one: in sagittal stacks nothing is moved from one half to the other.
    """
    count = len(alike)
    if count < limits().continuity.least_slices:
        return 0.0
    order = np.arange(count)
    as_placed = alike[order[:-1], order[1:]].sum()
    best = 0.0
    for first, second in combinations(range(count), 2):
        if sagittal and (first < count / 2) != (second < count / 2):
            continue
        exchanged, turned = order.copy(), order.copy()
        exchanged[[first, second]] = exchanged[[second, first]]
        turned[first : second + 1] = turned[first : second + 1][::-1]
        best = max(best, *(float(alike[other[:-1], other[1:]].sum() - as_placed) for other in (exchanged, turned)))
    return best


def _pieces(stack: Stack, outliers: Sequence[int]) -> list[Stack]:
    """What lies between the slices that are left out, each told that one is missing; single slices of sagittal stacks are dropped."""
    volume = stack.volume
    ends = [-1, *outliers, volume.grid.shape[0]]
    least = 1 if volume.plane == "axial" else limits().geometry.min_slices
    told = notice("SLICE_MISSING", stack.series_instance_uid)
    pieces = []
    for before, after in pairwise(ends):
        if after - before - 1 < least:
            continue
        affine = volume.grid.affine.copy()
        affine[:3, 3] = volume.grid.to_lps(np.array([before + 1.0, 0.0, 0.0]))
        array = volume.array[before + 1 : after]
        part = replace(
            volume, array=array, grid=Grid(array.shape, affine), instances=volume.instances[before + 1 : after]
        )
        pieces.append(replace(stack, volume=part, warnings=(*stack.warnings, told)))
    return pieces


def _numbers(outliers: Sequence[int]) -> str:
    return ", ".join(str(at + 1) for at in outliers)
