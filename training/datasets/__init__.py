"""One adapter per source of training data; each turns what is on disk into `Sample`s.

A dataset module has `Settings` (a strict pydantic model of the recipe's [data]) and
`build(recipe, split, rng, data) -> Iterator[Sample]` with split "train", "validation" or "test" and `data` the folder of data.

"train" never ends and keeps no state of its own besides `rng`, which the loop re-seeds before every batch: a resumed run
then sees exactly the samples of an uninterrupted one. "validation" and "test" end, use no augmentation and no chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORE = -1
"""Target value of pixels that nobody labelled; they take no part in the loss or in a score."""


@dataclass(frozen=True)
class Sample:
    """One training image: (C, H, W) float32 normalised, (H, W) int64 class numbers, which labels it has, whose it is."""

    image: NDArray[np.float32]
    target: NDArray[np.int64]
    partial: int = 0
    """Number of the recipe's grouping that the target uses; 0 = every class is labelled."""
    patient: str = ""
    weight: float = 1.0
