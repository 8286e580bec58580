"""Figures of the trap tests, and the traps that are measured in pictures: signal, symmetry, traces of drawing.

Limits are this project's; the classifiers are those of training.evaluate_realism.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import binomtest

from training.evaluate_realism import Crops, cross_scores, texture_features
from training.intervals import bootstrap_interval, roc_auc
from training.trap_people import NO_EXTENT_MM, PIXEL_MM, Person, Pictured

Floats = NDArray[np.float64]
AUC_GIVEN_DISC, AUC_MIRROR, AUC_RESIDUE, POLARITY = 0.60, 0.55, 0.60, 0.30
HEALTHY_SD_MM = 0.6
_COMPONENTS = 30
_RESIDUE_MM, _HIGH_PASS_PX = 16.0, 2.0


Verdict = Literal["kept", "not decided", "not kept", "told"]


@dataclass(frozen=True)
class Figure:
    """One statistic of a trap: its text with n and 95 % interval, its limit in words, and what became of it."""

    text: str
    limit: str
    verdict: Verdict


def verdict(value: float, low: float, high: float, limits: tuple[float, float]) -> Verdict:
    """Kept within the limits; else not decided as long as the interval low..high reaches them."""
    if limits[0] <= value <= limits[1]:
        return "kept"
    return "not decided" if low <= limits[1] and high >= limits[0] else "not kept"


def certain(kept: bool) -> Verdict:
    """Of a figure without an interval."""
    return "kept" if kept else "not kept"


@dataclass(frozen=True)
class Trap:
    """One trap by number and name, with its figures."""

    number: int
    name: str
    figures: tuple[Figure, ...]

    @property
    def verdict(self) -> Verdict:
        """That of the worst of its figures."""
        found = {figure.verdict for figure in self.figures}
        return next((worst for worst in ("not kept", "not decided") if worst in found), "kept")

    def line(self) -> str:
        """All of it in one line."""
        told = "; ".join(
            f"{figure.text} [{figure.limit}{': ' + figure.verdict if figure.verdict.startswith('not') else ''}]"
            for figure in self.figures
        )
        return f"{self.number:2d} {self.name}: {told}: {self.verdict.upper() if self.verdict != 'kept' else 'kept'}"


def signal(whole: Sequence[Person]) -> Trap:
    """1: herniations brighter or darker than their disc always, or discs with one brighter or darker than their grade explains."""
    rows = [(person.seed, *tone[1:]) for person in whole for tone in person.tones]
    owners = [row[0] for row in rows]
    table = np.array([row[1:] for row in rows], dtype=np.float64)
    herniated, contrast, disc, grade = table.T
    terms = np.stack([np.ones(len(grade)), grade, grade**2], axis=1)
    residual = np.log(disc) - terms @ np.linalg.lstsq(terms, np.log(disc), rcond=None)[0]
    known = np.isfinite(contrast)
    brighter, n = int((contrast[known] > 0).sum()), int(known.sum())
    return Trap(
        1,
        "signal of a herniation",
        (
            auc_figure(
                "herniation told by the disc's signal given Pfirrmann, AUC", residual, herniated, owners, AUC_GIVEN_DISC
            ),
            share_figure(
                "brighter than its disc",
                brighter,
                n,
                f"both at least {POLARITY:.0%} of herniations",
                (POLARITY, 1 - POLARITY),
            ),
        ),
    )


def symmetry(pictured: Sequence[Pictured]) -> Trap:
    """4: healthy sides that are alike, or pictures in which left differs from right in kind."""
    plain = [person for person in pictured if person.extent_mm == 0]
    difference = np.array([person.difference_mm for person in plain])
    owners = [person.seed for person in plain]
    low, high = bootstrap_interval(difference, owners, np.std)
    flipped = np.random.default_rng(5).random(len(plain)) < 0.5
    images = np.stack(
        [person.crop[:, ::-1] if flip else person.crop for person, flip in zip(plain, flipped, strict=True)]
    )
    crops = as_crops(images, flipped, owners)
    # a half less its mirror image: the two classes differ in its sign alone
    half = images[:, :, : images.shape[2] // 2] - images[:, :, ::-1][:, :, : images.shape[2] // 2]
    scores = cross_scores(half.reshape(len(half), -1).astype(np.float64), crops, _COMPONENTS)
    ties = int((difference == 0).sum())
    return Trap(
        4,
        "symmetry",
        (
            Figure(
                f"standard deviation of left minus right in healthy recesses {np.std(difference):.2f} mm "
                f"(95 % {low:.2f} to {high:.2f}, n = {len(plain)})",
                f"at least {HEALTHY_SD_MM} mm",
                verdict(float(np.std(difference)), low, high, (HEALTHY_SD_MM, np.inf)),
            ),
            Figure(f"equal to the last digit {ties}", "none", certain(ties == 0)),
            auc_figure("mirrored crops without vessels told from others, AUC", scores, flipped, owners, AUC_MIRROR),
        ),
    )


def residue(pictured: Sequence[Pictured]) -> Trap:
    """5: traces of how a herniation was drawn, after a high-pass filter: those without extent, and of less than 1.5 mm, against none."""
    half, images = round(_RESIDUE_MM / PIXEL_MM / 2), []
    for person in pictured:
        sharp = person.crop - ndimage.gaussian_filter(person.crop, _HIGH_PASS_PX)
        row = sharp.shape[0] // 2 - round(8.0 / PIXEL_MM)
        column = int(np.clip(person.column, half, sharp.shape[1] - half))
        images.append(sharp[max(row - half, 0) : row + half, column - half : column + half])
    extents = np.array([person.extent_mm for person in pictured])
    figures = []
    for told, drawn in (("without extent", extents == NO_EXTENT_MM), ("under 1.5 mm", extents > NO_EXTENT_MM)):
        chosen = np.nonzero(drawn | (extents == 0))[0]
        owners, truth = [pictured[int(i)].seed for i in chosen], drawn[chosen]
        crops = as_crops(np.stack([images[i] for i in chosen]), truth, owners)
        flat = crops.images.reshape(len(chosen), -1).astype(np.float64)
        for way, scores in (
            ("texture", cross_scores(texture_features(crops), crops, None)),
            ("pixels", cross_scores(flat, crops, _COMPONENTS)),
        ):
            name = f"herniations {told} told by {way} after a high pass, AUC"
            figures.append(auc_figure(name, scores, truth, owners, AUC_RESIDUE))
    return Trap(5, "residue of placement", tuple(figures))


def as_crops(images: NDArray[np.floating], truth: NDArray[np.bool_], owners: Sequence[int]) -> Crops:
    """Pictures of a class each, or none, with their persons, for the classifiers of training.evaluate_realism."""
    names = np.array([str(owner) for owner in owners])
    return Crops(np.asarray(images, dtype=np.float32), np.asarray(truth, dtype=bool), names, PIXEL_MM)


def auc_figure(
    name: str, scores: Floats, truth: NDArray[np.generic], owners: Sequence[int], limit: float | None
) -> Figure:
    """An AUC in whichever direction it is above a half."""
    rows = np.stack([scores, np.asarray(truth, dtype=np.float64)], axis=1)
    value = roc_auc(rows)
    low, high = bootstrap_interval(rows, owners, roc_auc, draws=500)
    text = f"{name} {value:.3f} (95 % {low:.3f} to {high:.3f}, n = {len(rows)})"
    if limit is None:
        return Figure(text, "told only", "told")
    return Figure(text, f"at most {limit} either way", verdict(value, low, high, (1 - limit, limit)))


def correlation(rows: Floats) -> float:
    """Of two columns of `rows` (n, 2); 0 where one does not vary."""
    if min(rows.std(axis=0)) == 0:
        return 0.0
    return float(np.asarray(np.corrcoef(rows.T))[0, 1])


def share_figure(name: str, count: int, n: int, limit: str, limits: tuple[float, float]) -> Figure:
    """A share with its Wilson interval against limits; nothing is decided without cases."""
    if n == 0:
        return Figure(f"{name} 0/0", limit, "not decided")
    low, high = binomtest(count, n).proportion_ci(method="wilson")
    text = f"{name} {count}/{n} = {count / n:.3f} (95 % {low:.3f} to {high:.3f})"
    return Figure(text, limit, verdict(count / n, low, high, limits))
