"""Finds the discs in a sagittal stack, names them from the lumbosacral junction upward, and says how sure each name is.

Every slice is segmented; discs are separated on the curved mid-sagittal section along the canal. Limits: `configs/column.toml`.
A stack whose column is not plausible is not taken for a lumbar spine, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs import anatomy
from dicom_io.geometry import Volume
from dicom_io.study import Notice
from inference.column import (
    Column,
    FlatDisc,
    column_faults,
    column_limits,
    find_column,
    without_lordosis,
    without_remnant,
)
from inference.disc_features import disc_features, looks_like_t2, of_usual_disc
from inference.disc_grades import disc_window
from inference.numbering import LEVELS_UPWARD, Numbering, number_discs
from inference.upright import Upright, to_source, upright
from models.intensity import normalise

if TYPE_CHECKING:
    from models.grader import Grader
    from models.runtime import Segmenter

_SURE_PIXEL, _CANAL_ROWS = 0.5, 10
"""A pixel counts as its class above this probability; fewer rows with canal or discs than this are none."""
_WINDOWS_MM = (40.0, 32.0, 28.0)
"""Distance from the middle within which slices are looked at, narrowing in; an adult body is 40-55 mm wide."""


@dataclass(frozen=True)
class Disc:
    """One disc: its name and why, where it lies (LPS mm), how large it is, and how likely it is herniated."""

    name: str
    basis: str
    confidence: float
    alternative_name: str | None
    centre_lps: NDArray[np.float64]
    normal: NDArray[np.float64]
    """Unit vector (3,) perpendicular to the mid-plane, towards the head."""
    posterior_margin_lps: NDArray[np.float64]
    """Midline point of the posterior margin at mid height."""
    anterior_margin_lps: NDArray[np.float64]
    height_mm: float
    ap_mm: float
    volume_mm3: float
    source_slice: int
    """Index of the slice nearest to the middle of the canal at this disc."""
    herniation_probability: float | None = None
    usual_herniation_probability: float = 0.5
    """What the same score says of a disc of that level of which nothing was measured: where `herniation_probability` starts."""
    features: dict[str, float] = field(default_factory=dict)
    grades: dict[str, float] = field(default_factory=dict)
    """Calibrated answers of the disc grader (`inference.disc_grades.QUESTIONS`); empty where the stack is no T2."""


@dataclass(frozen=True)
class Localization:
    """All discs of a stack, lowest first, with the label map on the stack's grid; or why it is no lumbar spine."""

    discs: tuple[Disc, ...]
    label_map: NDArray[np.uint8]
    numbering: Literal["certain", "uncertain"]
    reasons: tuple[str, ...]
    lumbar: bool
    lumbar_score: float
    lumbar_reason: str
    warnings: tuple[Notice, ...] = ()
    scope_code: str = "NOT_LUMBAR"
    """Why it is not read, as a code, where `lumbar` is False."""
    middle_uncertain: bool = False
    """Whether the slices end so near to what was taken for the column's middle that the other half may be missing."""
    ambiguous: str = ""
    """In words: why four or six vertebrae may be of lumbar type."""

    def disc(self, name: str) -> Disc | None:
        """The disc of that name, or None."""
        return next((disc for disc in self.discs if disc.name == name), None)

    @property
    def lumbosacral_missed(self) -> bool:
        """Whether a whole body lies below the lowest disc that was found."""
        return bool(self.ambiguous) and self.disc(LEVELS_UPWARD[0]) is None


def completes(spine: Localization, missing: Localization) -> bool:
    """Whether `spine`, of another stack of the patient, leaves no doubt about names and has the lumbosacral disc below the discs that
    both stacks show, each under the same name at the same place.

    A patient may lie a few millimetres elsewhere, and fat and water do on another contrast; the next disc is 20 mm away and more.
    """
    if not spine.lumbar or spine.middle_uncertain or spine.numbering == "uncertain":
        return False
    pairs = [(disc, spine.disc(disc.name)) for disc in missing.discs]
    apart = [float(np.linalg.norm(seen.centre_lps - disc.centre_lps)) for disc, seen in pairs if seen is not None]
    return (
        spine.disc(LEVELS_UPWARD[0]) is not None
        and len(apart) >= column_limits().min_discs - 1
        and max(apart) < column_limits().same_disc_mm
    )


def locate_discs(volume: Volume, segmenter: Segmenter, grader: Grader | None = None) -> Localization:
    """Segment a sagittal stack (T2, STIR or T1; any orientation sign), name its discs, and grade them where it is T2-like.

    Never raises for content: what is no lumbar spine comes back with `lumbar` False and `lumbar_reason`.
    """
    try:
        turned = upright(volume, segmenter.spacing_mm)
    except ValueError as error:
        return _not_lumbar(volume.grid.shape, str(error))
    seen = _look(segmenter, turned)
    if isinstance(seen, _Refused):
        return _not_lumbar(volume.grid.shape, seen.reason, seen.score, seen.code)
    doubts = seen.numbering.doubts
    t2 = looks_like_t2(seen.picture, seen.flat)
    discs = _named(segmenter, turned, seen, t2=t2)
    if grader is not None and t2:
        discs = _graded(discs, volume, grader, seen.probabilities, seen.column)
    warnings: tuple[Notice, ...] = (
        (Notice("NUMBERING_UNCERTAIN", f"the names of the discs are uncertain: {'; '.join(doubts)}"),) if doubts else ()
    )
    narrow = _least_beside_mm(discs, volume) < column_limits().beside_middle_mm
    if narrow:
        text = "the sagittal slices reach less far to one side than a vertebral body does: where its middle lies is uncertain"
        warnings += (Notice("MIDDLE_UNCERTAIN", text),)
    return Localization(
        discs,
        _largest_piece(to_source(seen.probabilities, turned, volume.grid.shape)),
        "uncertain" if doubts else "certain",
        doubts,
        lumbar=True,
        lumbar_score=seen.score,
        lumbar_reason="the column of discs and canal has the sizes of a lumbar spine",
        warnings=warnings,
        middle_uncertain=narrow,
        ambiguous=seen.numbering.ambiguous,
    )


@dataclass(frozen=True)
class _Refused:
    """Why a stack is not read as a lumbar spine."""

    reason: str
    score: float = 0.0
    code: str = "NOT_LUMBAR"


@dataclass(frozen=True)
class _Look:
    """What the network saw in a stack: class probabilities (S, K, R, C), the middle, and along it picture, labels (R, C) and column."""

    probabilities: NDArray[np.float32]
    middle: NDArray[np.float64]
    picture: NDArray[np.float32]
    flat: NDArray[np.uint8]
    column: Column
    numbering: Numbering
    score: float


def _look(segmenter: Segmenter, turned: Upright) -> _Look | _Refused:
    """Segment an upright stack and number the discs of the column in it."""
    pictures = normalise(turned.planes, segmenter.card.input)
    # always from the patient's right to the left: the network tells the slice before from the one after
    leftwards = slice(None, None, 1 if turned.affine[0, 0] > 0 else -1)
    probabilities = segmenter.plane_probabilities(pictures[leftwards], turned.step_mm)[leftwards]
    middle = _middle_slice(probabilities, turned.step_mm)
    if middle is None:
        return _Refused("no spinal canal was found")
    section = _curved_section(probabilities, middle, turned.step_mm)
    flat = section.argmax(axis=0).astype(np.uint8)
    whole = find_column(flat, turned.pixel_mm)
    column = None if whole is None else without_remnant(whole)
    faults = column_faults(column)
    score = _plausibility(column, section)
    if column is None or faults or score < column_limits().min_found:
        return _Refused("; ".join(faults) or "the network is unsure of the discs it found", score)
    if without_lordosis(column):
        reason = "the column has no lumbar curve and shows no sacrum: it may be a thoracic one"
        return _Refused(reason, score, "SCOPE_UNCERTAIN")
    numbering = number_discs(column, flat, remnant=whole is not column)
    return _Look(probabilities, middle, _along(pictures, middle), flat, column, numbering, score)


def _not_lumbar(shape: tuple[int, int, int], reason: str, score: float = 0.0, code: str = "NOT_LUMBAR") -> Localization:
    nothing = np.zeros(shape, dtype=np.uint8)
    return Localization((), nothing, "uncertain", (reason,), False, score, reason, scope_code=code)


def _middle_slice(probabilities: NDArray[np.float32], step_mm: float) -> NDArray[np.float64] | None:
    """Fractional slice index of the middle of the column for every row (R,), smooth along the spine; None without a canal.

    Discs give it: they are even to both sides, while what is taken for canal far to one side is not. Rows above and below
    the discs take the value of the outermost disc.
    """
    labels = anatomy().sagittal
    canal = probabilities[:, labels.value("canal")] > _SURE_PIXEL
    discs = (probabilities[:, labels.value("disc")] > _SURE_PIXEL).sum(axis=2).astype(np.float64)
    if canal.any(axis=(0, 2)).sum() < _CANAL_ROWS:
        return None
    rows, slices = np.arange(discs.shape[1], dtype=np.float64), np.arange(discs.shape[0], dtype=np.float64)
    profile = ndimage.gaussian_filter1d(discs.sum(axis=1), 8.0 / step_mm, mode="constant")
    middle = np.full(len(rows), float(profile.argmax()))
    for window_mm in _WINDOWS_MM:
        part = discs * (np.abs(slices[:, None] - middle[None]) * step_mm <= window_mm)
        per_row = part.sum(axis=0)
        seen = per_row > 0
        if seen.sum() < _CANAL_ROWS:
            return None
        centre = (slices[:, None] * part).sum(axis=0)[seen] / per_row[seen]
        fit = np.polynomial.Polynomial.fit(rows[seen], centre, 2, w=np.sqrt(per_row[seen]))
        low, high = np.percentile(rows[seen], (2, 98))
        middle = np.clip(fit(np.clip(rows, low, high)), 0, discs.shape[0] - 1)
    return middle


def _curved_section(
    probabilities: NDArray[np.float32], middle: NDArray[np.float64], step_mm: float
) -> NDArray[np.float32]:
    """Class probabilities (K, R, C) averaged over slices around the middle of the canal, row by row."""
    offset = (np.arange(probabilities.shape[0])[:, None] - middle[None]) * step_mm
    weight = np.exp(-0.5 * (offset / column_limits().mid_slab_sigma_mm) ** 2) + 1e-6
    weight /= weight.sum(axis=0, keepdims=True)
    section: NDArray[np.float32] = np.einsum("sr,skrc->krc", weight.astype(np.float32), probabilities, optimize=True)
    return section


def _along(pictures: NDArray[np.float32], middle: NDArray[np.float64]) -> NDArray[np.float32]:
    """Image (R, C) that follows the middle of the canal: every row from the slice nearest to it."""
    nearest = np.rint(middle).astype(int)
    followed: NDArray[np.float32] = pictures[nearest, np.arange(pictures.shape[1])]
    return followed


def _plausibility(column: Column | None, section: NDArray[np.float32]) -> float:
    """Mean probability of the disc class inside the discs found; 0 without a column."""
    if column is None or not column.discs:
        return 0.0
    inside = np.any([disc.mask for disc in column.discs], axis=0)
    return float(section[anatomy().sagittal.value("disc")][inside].mean())


def _least_beside_mm(discs: tuple[Disc, ...], volume: Volume) -> float:
    """Distance in mm from the middle of the column to the nearer end of the stack, at the disc where it is least."""
    last = volume.grid.shape[0] - 1
    return min(min(disc.source_slice, last - disc.source_slice) for disc in discs) * volume.grid.spacing[0]


def _graded(
    discs: tuple[Disc, ...], volume: Volume, grader: Grader, probabilities: NDArray[np.float32], column: Column
) -> tuple[Disc, ...]:
    """The discs with what the grader says of the slice nearest to the middle of the canal at each of them."""
    pixel = grader.card.input.spacing_mm
    fine = {disc.source_slice: upright(_one_slice(volume, disc.source_slice), pixel).planes[0] for disc in discs}
    windows = [
        disc_window(
            normalise(fine[disc.source_slice], grader.card.input),
            probabilities[disc.source_slice],
            column,
            number,
            pixel,
        )
        for number, disc in enumerate(discs)
    ]
    return tuple(
        replace(disc, grades=answers)
        for disc, answers in zip(discs, grader.probabilities(np.stack(windows)), strict=True)
    )


def _one_slice(volume: Volume, index: int) -> Volume:
    """One slice of a stack as a stack of its own, where it lies."""
    affine = np.array(volume.grid.affine)
    affine[:3, 3] = volume.grid.to_lps(np.array([index, 0.0, 0.0]))
    return replace(
        volume,
        array=volume.array[index : index + 1],
        grid=replace(volume.grid, shape=(1, *volume.grid.shape[1:]), affine=affine),
        instances=volume.instances[index : index + 1],
    )


def _named(segmenter: Segmenter, turned: Upright, seen: _Look, *, t2: bool) -> tuple[Disc, ...]:
    head = segmenter.card.heads.get("herniation")
    is_disc = seen.probabilities.argmax(axis=1) == anatomy().sagittal.value("disc")
    discs = []
    for number, flat_disc in enumerate(seen.column.discs):
        missed = sum(1 for gap in seen.column.gaps if gap < number)
        name = seen.numbering.name(number, missed)
        if name is None:
            break
        features = disc_features(seen.picture, seen.flat, seen.column, number) if t2 else {}
        place = _in_space(turned, flat_disc, is_disc, seen.middle)
        discs.append(
            Disc(
                name=name,
                basis=seen.numbering.basis,
                confidence=seen.numbering.confidence,
                alternative_name=seen.numbering.alternative(number, missed),
                centre_lps=place.centre,
                normal=place.normal,
                posterior_margin_lps=place.posterior,
                anterior_margin_lps=place.anterior,
                height_mm=flat_disc.height_mm,
                ap_mm=flat_disc.ap_mm,
                volume_mm3=place.volume_mm3,
                source_slice=round(seen.middle[round(flat_disc.centre[0])]),
                herniation_probability=head.probability(features) if head and features else None,
                usual_herniation_probability=head.probability(of_usual_disc(features)) if head and features else 0.5,
                features=features,
            )
        )
    return tuple(discs)


@dataclass(frozen=True)
class _Place:
    centre: NDArray[np.float64]
    normal: NDArray[np.float64]
    posterior: NDArray[np.float64]
    anterior: NDArray[np.float64]
    volume_mm3: float


def _in_space(turned: Upright, disc: FlatDisc, is_disc: NDArray[np.bool_], middle: NDArray[np.float64]) -> _Place:
    """Carry a disc of the curved section into LPS mm; the tilt to the side comes from its voxels in the other slices."""
    pixel, step = turned.pixel_mm, turned.step_mm

    def lift(point: NDArray[np.float64]) -> NDArray[np.float64]:
        row = int(np.clip(round(point[0]), 0, len(middle) - 1))
        return turned.to_lps(np.array([middle[row], point[0], point[1]]))

    slices, rows, columns = np.nonzero(is_disc)
    centre_slice = middle[round(disc.centre[0])]
    aside = (slices - centre_slice) * step
    offset = np.stack([rows, columns], axis=1) - disc.centre
    rise, along = (offset @ disc.up) * pixel, (offset @ disc.back) * pixel
    mine = (
        (np.abs(aside) <= column_limits().disc_half_width_mm)
        & (np.abs(rise) <= disc.height_mm / 2 + 6)
        & (np.abs(along) <= disc.ap_mm / 2 + 6)
    )
    lean = 0.0
    if mine.sum() > 20 and np.ptp(aside[mine]) > 0:
        lean = float(np.polyfit(aside[mine], rise[mine], 1)[0])
    up = disc.up[0] * turned.direction(1) + disc.up[1] * turned.direction(2)
    normal = up - np.clip(lean, -0.6, 0.6) * turned.direction(0)
    normal /= np.linalg.norm(normal)
    return _Place(
        centre=lift(disc.centre),
        normal=normal,
        posterior=lift(disc.posterior),
        anterior=lift(disc.anterior),
        volume_mm3=float(mine.sum()) * pixel**2 * step,
    )


def _largest_piece(label_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The label map without what does not hang together with the column."""
    pieces, count = ndimage.label(label_map > 0, structure=np.ones((3, 3, 3), dtype=int))
    if count <= 1:
        return label_map
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.where(pieces == int(sizes.argmax()), label_map, 0).astype(np.uint8)
