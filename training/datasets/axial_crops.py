"""Cuts of simulated axial slices around the canal, rendered once into shards and read many times.

Every shard is an npz of images, labels (numbers of configs/anatomy.toml) and exact truth in mm; seeds of the splits never meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Crops:
    """Rendered cuts: images (N, H, W) uint8, labels (N, H, W) uint8, anchors (N, 2) as (row, column), seeds (N,).

    An anchor is the midline point of the unbulged posterior disc margin; rows run to the back, columns to the patient's left.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    anchors: NDArray[np.float64]
    seeds: NDArray[np.int64]
    pixel_mm: float


def load_crops(folder: Path, split: str) -> Crops:
    """All shards of a split in one piece. FileNotFoundError when there is none."""
    paths = sorted(folder.glob(f"{split}-*.npz"))
    if not paths:
        raise FileNotFoundError(
            f"{folder}: no shard {split}-*.npz; render them with python -m training.datasets.axial_crops"
        )
    parts: list[dict[str, Any]] = [dict(np.load(path)) for path in paths]
    return Crops(
        images=np.concatenate([part["images"] for part in parts]),
        labels=np.concatenate([part["labels"] for part in parts]),
        anchors=np.concatenate([part["anchors"] for part in parts]),
        seeds=np.concatenate([part["seeds"] for part in parts]),
        pixel_mm=float(parts[0]["pixel_mm"]),
    )
