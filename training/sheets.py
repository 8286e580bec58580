"""Contact sheets: plain slices beside their labels, to be looked at after every training.

Colours: `configs/anatomy.toml`. The sheet is written where the caller says; pictures of patients stay outside the repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from configs import anatomy
from configs.loader import LabelSet
from inference.column import column_faults, find_column
from models.intensity import normalise
from models.runtime import Segmenter
from training.datasets.spider import WholeSlice, resample

_OPACITY = 0.45
_PER_ROW = 6
_TILE = 300
"""Height of a tile in pixels."""


def overlay(image: NDArray[Any], label_map: NDArray[Any], labels: LabelSet) -> NDArray[np.uint8]:
    """A normalised slice (rows, columns) in grey with its classes coloured: (rows, columns, 3)."""
    colours = np.zeros((max(label.value for label in labels.label) + 1, 3))
    for label in labels.label:
        colours[label.value] = label.colour
    grey = np.repeat(np.clip(image, 0, 1)[..., None] * 255, 3, axis=2)
    marked = label_map > 0
    grey[marked] = (1 - _OPACITY) * grey[marked] + _OPACITY * colours[label_map[marked]]
    return grey.astype(np.uint8)


def sagittal_sheet(segmenter: Segmenter, slices: Sequence[WholeSlice], path: Path) -> None:
    """Write one PNG with every slice plain and labelled, its discs numbered from the lowest, and any fault of its column."""
    tiles = []
    for whole in slices:
        image = normalise(resample(whole.image, (whole.spacing,) * 2, segmenter.spacing_mm), segmenter.card.input)
        label_map = segmenter.plane_probabilities(image[None])[0].argmax(axis=0)
        column = find_column(label_map, segmenter.spacing_mm)
        painted = overlay(image, label_map, anatomy().sagittal)
        plain = overlay(image, np.zeros_like(label_map), anatomy().sagittal)
        tile = Image.fromarray(np.concatenate([plain, painted], axis=1))
        draw = ImageDraw.Draw(tile)
        for number, disc in enumerate(column.discs if column else (), start=1):
            draw.text((disc.centre[1] + image.shape[1] - 4, disc.centre[0] - 5), str(number), fill=(255, 0, 0))
        faults = "; ".join(column_faults(column))
        draw.text((2, 2), f"{whole.patient} {whole.sequence} {faults}", fill=(0, 255, 0))
        tiles.append(tile.resize((round(tile.width * _TILE / tile.height), _TILE)))
    width = max(tile.width for tile in tiles)
    sheet = Image.new("RGB", (width * _PER_ROW, _TILE * -(-len(tiles) // _PER_ROW)))
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (width * (index % _PER_ROW), _TILE * (index // _PER_ROW)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
