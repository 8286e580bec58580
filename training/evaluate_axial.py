"""The shipped axial network on real slices it never saw: disc and thecal sac of the test split of `axial/outlines.json`.

Dice on the pictures' own pixels and distances in mm against outlines drawn by eye, beside those of a second outliner. Intervals:
bootstrap over patients. Nothing here says anything about recess, facets or herniations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs import anatomy
from inference.segment import reading
from inference.window_reading import read_windows
from models.intensity import normalise
from models.runtime import Segmenter
from training.datasets.axial import Outlined, Placement, Settings, load_outlines, placed, polygon_mask
from training.intervals import with_interval
from training.outline_distance import agreement, fine_grid, outline_masks

_SHIFT_MM = 6.0
"""Windows are moved by up to this from the outlines' own middle, as a disc found on sagittal slices would be off."""
_SHEET_SLICES, _SHEET_COLUMNS = 40, 8
_FEW = 10
"""Groups of fewer slices are said to be few."""


@dataclass(frozen=True)
class Scored:
    """One slice: what it is, Dice of disc and sac, the predicted masks on its own pixels.

    Mean distances in mm of the sac's border and of the disc's margin at the canal; nan where the network sees none.
    """

    item: Outlined
    disc_dice: float
    sac_dice: float
    labels: NDArray[np.uint8]
    sac_mm: float
    margin_mm: float


def evaluate_axial(data: Path, *, device: str = "auto", sheet: Path | None = None, split: str = "test") -> str:
    """Lines of text with Dice, distances, n and 95 % intervals, and what two outliners agree to; overlays go where `sheet` says."""
    segmenter = Segmenter.load("axial", device)
    slices = [item for item in load_outlines(data, Settings()) if item.split == split]
    scored = score(segmenter, slices)
    if sheet is not None:
        draw_sheet(scored, sheet)
    lines = [
        f"axial, {split} split of outlines.json ({len({s.item.patient for s in scored})} patients), weights {segmenter.card.sha256[:12]}"
    ]
    groups = (
        ("T1, good and fair", [s for s in scored if s.item.weighting == "t1" and s.item.quality != "poor"]),
        ("T1, good", [s for s in scored if s.item.weighting == "t1" and s.item.quality == "good"]),
        (
            "T1, poor (sac partly guessed by the outliner)",
            [s for s in scored if s.item.weighting == "t1" and s.item.quality == "poor"],
        ),
        ("T2, at the disc", [s for s in scored if s.item.weighting == "t2" and not s.item.body_level]),
        (
            "T2, at body level (outer outline is bone: no disc score)",
            [s for s in scored if s.item.weighting == "t2" and s.item.body_level],
        ),
    )
    for name, group in groups:
        if not group:
            lines.append(f"{name}: no slices")
            continue
        few = f" (few: {len(group)} slices)" if len(group) < _FEW else ""
        if group[0].item.body_level:
            lines.append(f"{name}{few}: sac Dice {_figure(group, 'sac_dice')}")
            continue
        lines.append(f"{name}{few}: disc Dice {_figure(group, 'disc_dice')}; sac Dice {_figure(group, 'sac_dice')}")
        lines.append(f"{name}, mean distance in mm: {_distances(group)}")
    return "\n".join([*lines, *outliner_lines(data)])


def outliner_lines(data: Path) -> list[str]:
    """Agreement of two outliners on the slices that both outlined, T1 alone, as the network's is measured."""
    slices = {item.name: item for item in load_outlines(data, Settings())}
    scored = []
    for second in load_outlines(data, Settings(), "repeats"):
        first = slices[second.name]
        grid = fine_grid(first.disc, first.sac, first.pixel_mm)
        masks = [outline_masks(item.disc, item.sac, grid) for item in (second, first)]
        found = agreement(masks[0], masks[1], grid.pixel_mm)
        none = np.zeros((0, 0), dtype=np.uint8)
        scored.append(Scored(first, found.disc_dice, found.sac_dice, none, found.sac_mm, found.margin_mm))
    lines = []
    for name, qualities in (
        ("good and fair", {"good", "fair"}),
        ("good", {"good"}),
        ("fair", {"fair"}),
        ("poor", {"poor"}),
    ):
        group = [s for s in scored if s.item.quality in qualities and s.item.weighting == "t1"]
        if group:
            lines.append(
                f"two outliners, T1, {name}: disc Dice {_figure(group, 'disc_dice')}; sac Dice {_figure(group, 'sac_dice')}; "
                f"mean distance in mm: {_distances(group)}"
            )
    return lines


def score(segmenter: Segmenter, slices: Sequence[Outlined]) -> list[Scored]:
    """Read each slice through a slightly misplaced window and compare on its own pixels."""
    rng = np.random.default_rng(7)
    pixel = segmenter.spacing_mm
    placements = []
    for item in slices:
        shift = rng.uniform(-_SHIFT_MM, _SHIFT_MM, 2) / item.pixel_mm
        plain = placed(item.pixel_mm, pixel, item.anchor[::-1])
        placements.append(Placement(plain.centre + shift, plain.matrix))
    windows = [window_image(item, placement, segmenter) for item, placement in zip(slices, placements, strict=True)]
    probabilities = read_windows(np.stack(windows), segmenter)
    disc = [segmenter.card.classes.index(name) for name in ("disc", "herniated_material")]
    sac = segmenter.card.classes.index("thecal_sac")
    result = []
    for item, placement, part in zip(slices, placements, probabilities, strict=True):
        labels = on_source(part, placement, item.pixels.shape)
        rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]
        truth_sac = polygon_mask(item.sac, rows, columns)
        truth_disc = polygon_mask(item.disc, rows, columns) & ~truth_sac
        grid = fine_grid(item.disc, item.sac, item.pixel_mm)
        fine = labels_at(part, placement, grid.rows, grid.columns)
        found = agreement((np.isin(fine, disc), fine == sac), outline_masks(item.disc, item.sac, grid), grid.pixel_mm)
        result.append(
            Scored(
                item,
                dice(np.isin(labels, disc), truth_disc),
                dice(labels == sac, truth_sac),
                labels,
                found.sac_mm,
                found.margin_mm,
            )
        )
    return result


def window_image(item: Outlined, placement: Placement, segmenter: Segmenter) -> NDArray[np.float32]:
    """The normalised window (H, W) of a real slice as the network sees it."""
    rows, columns = placement.positions(reading().window.rows_columns)
    image = ndimage.map_coordinates(item.pixels, [rows, columns], order=3, mode="nearest")
    return normalise(image, segmenter.card.input)


def on_source(probabilities: NDArray[np.float32], placement: Placement, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Class numbers on the picture's own pixels (rows, columns) from probabilities (K, H, W) of a window."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return labels_at(probabilities, placement, rows, columns)


def labels_at(
    probabilities: NDArray[np.float32],
    placement: Placement,
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Class numbers (R, C) at places (R, C) of the picture from probabilities (K, H, W) of a window; 0 outside it."""
    size = probabilities.shape[-1]
    inverse = np.linalg.inv(placement.matrix)
    offset = np.stack([rows - placement.centre[0], columns - placement.centre[1]])
    pixel = np.einsum("ij,jrc->irc", inverse, offset) + (size - 1) / 2
    sampled = np.stack([ndimage.map_coordinates(channel, pixel, order=1, mode="constant") for channel in probabilities])
    return np.where(sampled.sum(axis=0) > 0.5, np.argmax(sampled, axis=0), 0).astype(np.uint8)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Dice of two masks; 1 when both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def _figure(group: Sequence[Scored], what: str) -> str:
    values = [float(getattr(item, what)) for item in group]
    figure = with_interval(values, [item.item.patient for item in group])
    return f"{figure}, {len(values)} slices, least {min(values):.3f}"


def _distances(group: Sequence[Scored]) -> str:
    """Distances with intervals; slices on which the network sees no sac are counted, not averaged."""
    seen = [s for s in group if np.isfinite(s.sac_mm) and np.isfinite(s.margin_mm)]
    missed = f"; not seen on {len(group) - len(seen)}" if len(seen) < len(group) else ""
    people = [s.item.patient for s in seen]
    margin, sac = ([float(getattr(s, name)) for s in seen] for name in ("margin_mm", "sac_mm"))
    return (
        f"posterior disc margin {with_interval(margin, people, 2)}, most {max(margin):.2f}; "
        f"sac border {with_interval(sac, people, 2)}, most {max(sac):.2f}; {len(seen)} slices{missed}"
    )


def draw_sheet(scored: Sequence[Scored], path: Path) -> None:
    """Up to 40 slices side by side: network's labels in colour, outlines in white, sac Dice in the corner."""
    from PIL import Image, ImageDraw

    colours = {label.value: label.colour for label in anatomy().axial.label}
    tiles = []
    for entry in scored[:_SHEET_SLICES]:
        item = entry.item
        low, high = np.percentile(item.pixels, [1, 99.5])
        grey = (np.clip((item.pixels - low) / max(high - low, 1.0), 0, 1) * 255).astype(np.uint8)
        picture = np.repeat(grey[..., None], 3, axis=2)
        for value, colour in colours.items():
            mask = entry.labels == value
            edge = mask & ~ndimage.binary_erosion(mask)
            picture[edge] = colour
        column, row = item.anchor
        half = round(48 / item.pixel_mm)
        top, left = max(int(row) - round(56 / item.pixel_mm), 0), max(int(column) - half, 0)
        part = Image.fromarray(picture[top : top + 2 * half, left : left + 2 * half]).resize((240, 240))
        draw = ImageDraw.Draw(part)
        scale = 240 / (2 * half)
        for polygon in (item.disc, item.sac):
            points = [((x - left) * scale, (y - top) * scale) for x, y in polygon]
            draw.line([*points, points[0]], fill=(255, 255, 255), width=1)
        draw.text(
            (4, 4), f"{item.name} {item.quality} d{entry.disc_dice:.2f} s{entry.sac_dice:.2f}", fill=(255, 255, 0)
        )
        tiles.append(np.asarray(part))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % _SHEET_COLUMNS)
    rows = [np.hstack(tiles[i : i + _SHEET_COLUMNS]) for i in range(0, len(tiles), _SHEET_COLUMNS)]
    Image.fromarray(np.vstack(rows)).save(path)
