"""Class probabilities of axial windows: the mean over a window and its mirror image, and over a network and its partners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.intensity import normalise, with_context

if TYPE_CHECKING:
    from models.runtime import Segmenter


def mirrored_average(
    probabilities: NDArray[np.float32], mirrored: NDArray[np.float32], classes: Sequence[str]
) -> NDArray[np.float32]:
    """Mean (N, K, H, W) of two readings of which the second saw the window left-right mirrored; sides are swapped back."""
    swapped = {"recess_left": "recess_right", "recess_right": "recess_left"}
    order = [list(classes).index(swapped.get(name, name)) for name in classes]
    return np.asarray((probabilities + mirrored[:, order, :, ::-1]) / 2, dtype=np.float32)


def read_windows(
    images: NDArray[np.float32], segmenter: Segmenter, step_mm: float | None = None
) -> NDArray[np.float32]:
    """Class probabilities (N, K, H, W) of normalised windows (N, H, W), averaged over the window and its mirror image.

    The mean over the network and its partners, each of which sees the windows on its own scale. `step_mm` says that the windows are
    slices of one stack, in order, so far apart; without it those networks take no part that need a slice's neighbours.
    """
    read = []
    for member in segmenter.members:
        spec = member.card.input
        if step_mm is None and spec.context_mm is not None:
            continue
        own = images if member is segmenter else np.stack([normalise(image, spec) for image in images])
        pictures = with_context(own, step_mm or 1.0, spec)
        straight = member.probabilities(pictures)
        mirrored = member.probabilities(np.ascontiguousarray(pictures[..., ::-1]))
        read.append(mirrored_average(straight, mirrored, member.card.classes))
    return np.asarray(np.mean(read, axis=0, dtype=np.float32))
