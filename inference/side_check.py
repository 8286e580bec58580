"""Whether both planes show one body the same way round: axial pictures against the sagittal stack cut at their places.

Pixels mirrored under an intact header are invisible to every header check; two planes not mirrored alike betray them. Both
planes mirrored alike agree with each other: that cannot be seen here. Numbers: configs/limits.toml, [sides].
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs.loader import limits
from dicom_io.geometry import FloatArray, Grid, Volume
from dicom_io.study import Notice
from inference.report import Finding, Withheld
from inference.segment import AxialReading, reading

_LEAST_SPREAD = 0.05  # of the strongest local contrast: below, evening would only raise noise
_THREADS = 2


@dataclass(frozen=True)
class SideCheck:
    """What the comparison of the planes says.

    `conflict`: mirrored explains the pictures better, so sides must be withheld. `verified`: the way round that the headers
    tell wins. `turned`: up and down or front and back are exchanged. Neither verified nor conflict: sides are unverified.
    `shift_mm`: how far the axial places must be moved along the body (towards the head positive) to show what the sagittal
    stack shows there; None when the planes agree too little to tell. `spacing_swapped`: the axial pictures fit better when the
    distances between rows and between columns are exchanged, so no millimetre of them holds.
    `stacks`: single axial stacks that contradict the sagittal pictures while the stacks together do not.
    """

    conflict: bool
    verified: bool
    reason: str
    turned: bool = False
    shift_mm: float | None = None
    spacing_swapped: bool = False
    stacks: tuple[StackCheck, ...] = ()


@dataclass(frozen=True)
class StackCheck:
    """What the comparison says of one axial stack alone: its images (series, instance, frame) and what is wrong with it."""

    images: frozenset[tuple[str, str, int | None]]
    check: SideCheck


@dataclass(frozen=True)
class _Way:
    """One way round: which index axes (0 slices, 1 rows, 2 columns) of each plane are reversed."""

    axial: tuple[int, ...] = ()
    sagittal: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Sample:
    """One axial stack, evened, the indices (n, 3) taken from it and the LPS mm points (n, 3) they stand at."""

    volume: Volume
    values: FloatArray
    chosen: NDArray[np.int_]
    points: FloatArray


_STRAIGHT = _Way()
_MIRRORED = (_Way(axial=(2,)), _Way(sagittal=(0,)))
_TURNED = (
    *(_Way(axial=(1,)), _Way(axial=(1, 2))),
    *(_Way(sagittal=(1,)), _Way(sagittal=(2,)), _Way(sagittal=(1, 2))),
)


def check_sides(sagittal: Volume, axial: Sequence[Volume]) -> SideCheck:
    """Compare the axial stacks with the sagittal one as the headers place them, and mirrored and turned.

    The stacks should have one weighting or nearly so (T2 with T2). The correlation of evened pictures decides.
    """
    bounds = limits().sides
    samples = [sample for volume in axial if (sample := _samples(sagittal, volume)) is not None]
    if sum(len(sample.points) for sample in samples) < bounds.min_samples:
        return SideCheck(False, False, "the planes share too little of the body to compare their sides")
    even = evened(sagittal)
    if any(_oblong(volume) for volume in axial):
        straight = _score(sagittal, even, samples, _STRAIGHT)
        exchanged = [s for v in axial if (s := _samples(sagittal, _swapped(v))) is not None]
        other = _score(sagittal, even, exchanged, _STRAIGHT) if exchanged else 0.0
        if other >= max(straight + bounds.swapped_margin, bounds.least_agreement):
            told = f"agreement {straight:.2f} as the headers say, {other:.2f} with the spacings exchanged"
            return SideCheck(False, False, f"row and column spacing seem exchanged ({told})", spacing_swapped=True)
    whole = _judged(sagittal, even, samples)
    if len(samples) < 2 or whole.conflict or whole.turned:
        return whole
    alone = [
        StackCheck(_images(sample.volume), _judged(sagittal, even, [sample]))
        for sample in samples
        if len(sample.points) >= bounds.min_samples
    ]
    return replace(whole, stacks=tuple(item for item in alone if _unsafe(item.check)))


def _judged(sagittal: Volume, even: FloatArray, samples: Sequence[_Sample]) -> SideCheck:
    """Which way round, and how far along the body, the samples agree best with the sagittal stack."""
    bounds = limits().sides
    straight = _score(sagittal, even, samples, _STRAIGHT)
    mirrored = max(_score(sagittal, even, samples, way) for way in _MIRRORED)
    turned = max(_score(sagittal, even, samples, way) for way in _TURNED)
    shift, moved = _shift(sagittal, even, samples)
    told = f"agreement {straight:.2f} as the headers say, {mirrored:.2f} mirrored, {turned:.2f} turned"
    if max(straight, mirrored, turned, moved) < bounds.least_agreement:
        return SideCheck(False, False, f"the planes agree too little to tell ({told})")
    if turned >= straight + bounds.turned_margin and turned >= mirrored + bounds.turned_margin:
        return SideCheck(False, False, f"up and down or front and back are exchanged in one plane ({told})", True)
    if mirrored >= straight + bounds.mirror_margin:
        return SideCheck(True, False, f"left and right are exchanged in one plane ({told})")
    if straight >= mirrored + bounds.mirror_margin:
        return SideCheck(False, True, f"both planes show one body the same way round ({told})", False, shift)
    return SideCheck(False, False, f"the body is too even from side to side to tell ({told})", False, shift)


def _unsafe(check: SideCheck) -> bool:
    """Whether values must be withheld for what the comparison says."""
    return check.conflict or check.turned or check.spacing_swapped or _far(check)


def _far(check: SideCheck) -> bool:
    return check.shift_mm is not None and abs(check.shift_mm) > limits().sides.withhold_shift_mm


def _images(volume: Volume) -> frozenset[tuple[str, str, int | None]]:
    series = volume.series_instance_uid
    return frozenset((series, instance.sop_instance_uid, instance.frame) for instance in volume.instances)


def _oblong(volume: Volume) -> bool:
    _, row_mm, column_mm = volume.grid.spacing
    return abs(row_mm / column_mm - 1) > limits().geometry.pixel_spacing_relative


def _swapped(volume: Volume) -> Volume:
    """The volume with the distances between rows and between columns exchanged about its corner."""
    affine = volume.grid.affine.copy()
    _, row_mm, column_mm = volume.grid.spacing
    affine[:3, 1] *= column_mm / row_mm
    affine[:3, 2] *= row_mm / column_mm
    return replace(volume, grid=Grid(volume.grid.shape, affine))


def _samples(sagittal: Volume, axial: Volume) -> _Sample | None:
    """Every few millimetres of the axial slices, as far as the sagittal stack covers them."""
    step = limits().sides.sample_mm
    slices, height, width = axial.grid.shape
    _, row_mm, column_mm = axial.grid.spacing
    rows, columns = (
        np.arange(0, count, max(1, round(step / mm))) for count, mm in ((height, row_mm), (width, column_mm))
    )
    chosen = np.stack(np.meshgrid(np.arange(slices), rows, columns, indexing="ij"), axis=-1).reshape(-1, 3)
    points = axial.grid.to_lps(chosen.astype(np.float64))
    inside = sagittal.grid.contains(points, margin=0.0)
    return _Sample(axial, evened(axial), chosen[inside], points[inside]) if inside.any() else None


def evened(volume: Volume) -> FloatArray:
    """Slices (slices, rows, columns) blurred to one sharpness, their local mean removed and their local contrast made equal."""
    bounds = limits().sides
    _, row_mm, column_mm = volume.grid.spacing
    out = np.empty(volume.array.shape, dtype=np.float32)
    fine = (bounds.smooth_mm / row_mm, bounds.smooth_mm / column_mm)
    coarse = (bounds.field_mm / row_mm, bounds.field_mm / column_mm)

    def even(number: int) -> None:
        smooth = ndimage.gaussian_filter(np.asarray(volume.array[number], dtype=np.float32), fine)
        centred = smooth - ndimage.gaussian_filter(smooth, coarse)
        spread = np.sqrt(ndimage.gaussian_filter(centred**2, coarse))
        out[number] = centred / np.maximum(spread, max(_LEAST_SPREAD * float(spread.max()), 1e-6))

    with ThreadPoolExecutor(_THREADS) as threads:  # the filters work outside the interpreter's lock
        list(threads.map(even, range(len(out))))
    return out


def _score(sagittal: Volume, even: FloatArray, samples: Sequence[_Sample], way: _Way) -> float:
    """Best correlation of one way round over small movements across and along the body."""
    nudges = limits().sides.nudge_mm
    turned = even[tuple(slice(None, None, -1 if axis in way.sagittal else 1) for axis in range(3))]
    values = _axial_values(samples, way)
    return max(_correlation(sagittal, turned, samples, values, (x, z)) for x in nudges for z in nudges)


def _axial_values(samples: Sequence[_Sample], way: _Way) -> FloatArray:
    parts = []
    for sample in samples:
        index = sample.chosen.copy()
        for axis in way.axial:
            index[:, axis] = sample.values.shape[axis] - 1 - index[:, axis]
        parts.append(sample.values[tuple(index.T)])
    return np.concatenate(parts)


def _correlation(
    sagittal: Volume, even: FloatArray, samples: Sequence[_Sample], values: FloatArray, move: tuple[float, float]
) -> float:
    """Correlation of axial `values` with the sagittal stack at their places moved by (x, z) mm."""
    points = np.concatenate([sample.points for sample in samples]) + np.array([move[0], 0.0, move[1]])
    seen = ndimage.map_coordinates(even, sagittal.grid.to_index(points).T, order=1, mode="nearest")
    if not (seen.std() > 0 and values.std() > 0):
        return 0.0
    return float(np.corrcoef(seen, values)[0, 1])


def _shift(sagittal: Volume, even: FloatArray, samples: Sequence[_Sample]) -> tuple[float, float]:
    """Movement along the body (mm) at which the planes agree best, and that agreement; 0 unless it beats staying."""
    bounds = limits().sides
    values = _axial_values(samples, _STRAIGHT)
    scores = {z: _correlation(sagittal, even, samples, values, (0.0, z)) for z in bounds.slide_mm}
    best = max(scores, key=lambda z: scores[z])
    return (best, scores[best]) if scores[best] >= scores[0.0] + bounds.shift_margin else (0.0, scores[0.0])


def withhold_unsafe(
    findings: Sequence[Finding], withheld: Sequence[Withheld], check: SideCheck
) -> tuple[tuple[Finding, ...], tuple[Withheld, ...], tuple[Notice, ...]]:
    """Take back what the comparison of the planes forbids: sides where one plane is mirrored, all axial values where they disagree.

    Returns the findings that stay, the withheld values with the new ones, and warnings for the report.
    """
    kept, lost, notices = _taken(findings, check)
    for item in check.stacks:
        here = [finding for finding in kept if _seen_on(finding, item.images)]
        stays, taken, told = _taken(here, item.check)
        kept = [finding for finding in kept if finding not in here or finding in stays]
        lost, notices = (
            [*lost, *taken],
            [*notices, *(replace(one, text=f"one axial stack: {one.text}") for one in told)],
        )
    return tuple(kept), (*withheld, *lost), tuple(notices)


def withhold_at_gaps(
    findings: Sequence[Finding], withheld: Sequence[Withheld], axial: Sequence[AxialReading]
) -> tuple[tuple[Finding, ...], tuple[Withheld, ...]]:
    """Take back the axial values of a level at which a slice is missing: the narrowest place may be on it.

    A level is hit when its stack was split at a gap and ends more than half a step inside the range that is read at the disc.
    """
    low, high = reading().slices.recess_mm
    hit = set()
    for item in axial:
        offsets = [one.offset_mm for one in item.slices]
        split = any(warning.code == "SLICE_MISSING" for warning in item.stack.warnings)
        half = item.stack.volume.grid.spacing[0] / 2
        if split and offsets and (min(offsets) > low + half or max(offsets) < high - half):
            hit.add(item.disc.name)
    taken = [finding for finding in findings if finding.level in hit and _from_axial(finding)]
    reason = "slice gap too large"
    new = [Withheld(level=f.level, side=f.side, kind=f.kind, code="SLICE_MISSING", reason=reason) for f in taken]
    return tuple(finding for finding in findings if finding not in taken), (*withheld, *new)


def _taken(findings: Sequence[Finding], check: SideCheck) -> tuple[list[Finding], list[Withheld], list[Notice]]:
    """Findings that stay under one comparison, what is withheld instead of the others, and what is to be told."""
    bounds = limits().sides
    if check.conflict:
        code, reason = "SIDE_CONFLICT", "orientation unknown"
        taken = [finding for finding in findings if finding.side in ("left", "right")]
    elif check.turned:
        code, reason = "ORIENTATION_CONFLICT", "orientation unknown"
        taken = [finding for finding in findings if _from_axial(finding)]
    elif check.spacing_swapped or _far(check):
        code, reason = "PLANES_DISAGREE", "measures disagree"
        taken = [finding for finding in findings if _from_axial(finding)]
    elif check.verified:
        moved = check.shift_mm is not None and abs(check.shift_mm) > bounds.warn_shift_mm
        text = f"the planes are displaced by {check.shift_mm:.0f} mm along the body" if moved else ""
        return list(findings), [], [Notice("PLANES_SHIFTED", text)] if moved else []
    else:
        return list(findings), [], [Notice("SIDE_UNVERIFIED", f"sides rest on headers: {check.reason}")]
    lost = [Withheld(level=item.level, side=item.side, kind=item.kind, code=code, reason=reason) for item in taken]
    return [finding for finding in findings if finding not in taken], lost, [Notice(code, check.reason)]


def _seen_on(finding: Finding, images: frozenset[tuple[str, str, int | None]]) -> bool:
    return any(
        (item.series_instance_uid or "", item.sop_instance_uid, item.frame) in images for item in finding.evidence
    )


def _from_axial(finding: Finding) -> bool:
    return any(measurement.name != "sagittal_probability" for measurement in finding.measurements)
