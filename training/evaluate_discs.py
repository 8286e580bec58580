"""Whether the discs found on whole mid-sagittal slices are those that others counted or boxed.

SPIDER: the publisher's count for the series (van der Graaf 2024, CC BY 4.0). Lumbar Spine MRI Dataset: boxes around discs on T2 slices
(Sudirman et al., CC BY 4.0; boxes 10.17632/9j9hmy8kbn), never trained on. Counts and boxes end where a picture cuts the spine, each in
its own way, so a disc at the upper edge is no disagreement.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.column import Column, column_faults, disc_steps, find_column
from models.intensity import normalise
from models.runtime import Segmenter
from training.datasets.spider import WholeSlice, disc_counts, resample, whole_slices
from training.intervals import with_interval

TEST_SUBSET = "validation"
"""The publisher's name for the part that serves as test here."""
_EDGE_MM = 20.0
"""A disc whose centre lies (or would lie) nearer to the upper edge than this may be counted or not."""
_BOX_PIXEL_MM = 0.78
"""Of the boxed pictures; not published. A field of 300 mm over 384 pixels gives discs and steps of usual size."""
_BOX_CLASSES = {"DDD", "IVD_normal", "LDB", "TDB"}
_BOX_SIZE = 384
_SAME_DISC_PIXELS = 12.0
"""Boxes of two classes nearer to each other than this are about one disc."""
_BESIDE_PIXELS = 3.0


@dataclass(frozen=True)
class Boxed:
    """One T2 slice (rows, columns) and the boxes of its discs, lowest first: centre column, centre row, width, height in pixels."""

    patient: str
    pixels: NDArray[np.uint8]
    boxes: tuple[tuple[float, float, float, float], ...]


def find_discs(segmenter: Segmenter, pixels: NDArray[np.uint8], spacing_mm: float) -> Column | None:
    """The column in one whole slice (rows, columns) of square pixels; None where there is none or it has a fault."""
    image = normalise(resample(pixels, (spacing_mm, spacing_mm), segmenter.spacing_mm), segmenter.card.input)
    column = find_column(segmenter.plane_probabilities(image[None])[0].argmax(axis=0), segmenter.spacing_mm)
    return None if column_faults(column) else column


def disc_lines(segmenter: Segmenter, data: Path) -> list[str]:
    """Lines on the T2 and T1 slices of the test patients, and on the boxed T2 slices."""
    counts = disc_counts(data)
    lines = []
    for sequence in ("t2", "t1"):
        wholes = [w for w in whole_slices(data) if w.subset == TEST_SUBSET and w.sequence == sequence]
        lines.append(_count_line(segmenter, wholes, counts, sequence))
    boxed = boxed_slices(data)
    agree = [agrees_with_boxes(find_discs(segmenter, item.pixels, _BOX_PIXEL_MM), item) for item in boxed]
    wrong = " ".join(item.patient for item, good in zip(boxed, agree, strict=True) if not good)
    lines.append(
        f"discs on boxed T2 slices: each in a box and each box with one {with_interval(agree, [item.patient for item in boxed])}"
        f"; not so: {wrong or 'none'}"
    )
    return lines


def _count_line(
    segmenter: Segmenter, wholes: Sequence[WholeSlice], counts: dict[tuple[int, str], int], sequence: str
) -> str:
    columns = [find_discs(segmenter, w.image, w.spacing) for w in wholes]
    published = [counts[(w.patient, w.sequence)] for w in wholes]
    same = [c is not None and len(c.discs) == n for c, n in zip(columns, published, strict=True)]
    agree = [agrees_with_count(c, n) for c, n in zip(columns, published, strict=True)]
    patients = [w.patient for w in wholes]
    wrong = " ".join(str(w.patient) for w, good in zip(wholes, agree, strict=True) if not good)
    withheld = sum(column is None for column in columns)
    return (
        f"discs on whole {sequence.upper()} slices: the published number, upper edge apart, in {with_interval(agree, patients)}; "
        f"exactly in {with_interval(same, patients)}; no plausible column (withheld) in {withheld}; not so: {wrong or 'none'}"
    )


def agrees_with_count(column: Column | None, published: int) -> bool:
    """Whether a column has the published number of discs, or differs only by discs at the upper edge of the picture."""
    if column is None or column.gaps:
        return False
    rows = [disc.centre[0] * column.spacing_mm for disc in column.discs]
    if len(rows) < published:
        return bool(rows[-1] - np.median(disc_steps(column.discs, column.spacing_mm)) < _EDGE_MM)
    return all(row < _EDGE_MM for row in rows[published:])


def agrees_with_boxes(column: Column | None, item: Boxed) -> bool:
    """Whether every box holds the centre of a disc and every disc lies in a box, upper edge apart; discs above all boxes are free."""
    if column is None:
        return False
    scale = item.pixels.shape[0] / column.canal.shape[0]
    centres = [disc.centre * scale for disc in column.discs]
    edge = _EDGE_MM / _BOX_PIXEL_MM
    missed = [box for box in item.boxes if box[1] >= edge and not any(_inside(c, box) for c in centres)]
    highest = min(box[1] - box[3] for box in item.boxes)
    strange = [c for c in centres if c[0] > highest and not any(_inside(c, box) for box in item.boxes)]
    return not missed and not strange


def _inside(centre: NDArray[np.float64], box: tuple[float, float, float, float]) -> bool:
    column, row, width, height = box
    return bool(
        abs(centre[1] - column) <= width / 2 + _BESIDE_PIXELS and abs(centre[0] - row) <= height / 2 + _BESIDE_PIXELS
    )


def boxed_slices(data: Path) -> list[Boxed]:
    """Every boxed T2 slice whose picture is there. FileNotFoundError without the table of boxes."""
    folder = data / "axial"
    table = folder / "sudirman_sag_boxes" / "boxes.csv"
    if not table.is_file():
        raise FileNotFoundError(f"{table}: missing; give the folder that holds axial/ with --data or RECESS_DATA")
    boxes: dict[tuple[str, int], list[tuple[float, float, float, float]]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["weighting"] == "T2" and row["class"] in _BOX_CLASSES:
                numbers = [float(row[name]) * _BOX_SIZE for name in ("cx", "cy", "w", "h")]
                boxes.setdefault((row["patient"], int(row["slice"])), []).append(
                    (numbers[0], numbers[1], numbers[2], numbers[3])
                )
    found = []
    for path in sorted((folder / "sudirman_sag_t2").glob("T2sag_*.png")):
        _, patient, number = path.stem.split("_")
        if (patient, int(number)) in boxes:
            with Image.open(path) as picture:
                found.append(Boxed(patient, np.asarray(picture.convert("L")), _one_each(boxes[(patient, int(number))])))
    return found


def _one_each(
    boxes: Sequence[tuple[float, float, float, float]],
) -> tuple[tuple[float, float, float, float], ...]:
    """One box a disc, lowest first: a second class for the same disc is left out."""
    kept: list[tuple[float, float, float, float]] = []
    for box in sorted(boxes, key=lambda item: -item[1]):
        if not kept or kept[-1][1] - box[1] >= _SAME_DISC_PIXELS:
            kept.append(box)
    return tuple(kept)
