"""Class probabilities of axial windows: the mean over a window and its mirror image, and over a network and its partner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.intensity import normalise

if TYPE_CHECKING:
    from models.runtime import Segmenter


def mirrored_average(
    probabilities: NDArray[np.float32], mirrored: NDArray[np.float32], classes: Sequence[str]
) -> NDArray[np.float32]:
    """Mean (N, K, H, W) of two readings of which the second saw the window left-right mirrored; sides are swapped back."""
    swapped = {"recess_left": "recess_right", "recess_right": "recess_left"}
    order = [list(classes).index(swapped.get(name, name)) for name in classes]
    return np.asarray((probabilities + mirrored[:, order, :, ::-1]) / 2, dtype=np.float32)


def read_windows(images: NDArray[np.float32], segmenter: Segmenter) -> NDArray[np.float32]:
    """Class probabilities (N, K, H, W) of normalised windows (N, H, W), averaged over the window and its mirror image.

    The mean of both networks where the card names a partner, which sees each window on its own scale.
    """
    stacked = images[:, None]
    straight = segmenter.probabilities(stacked)
    mirrored = segmenter.probabilities(np.ascontiguousarray(stacked[..., ::-1]))
    own = mirrored_average(straight, mirrored, segmenter.card.classes)
    if segmenter.partner is None:
        return own
    scaled = np.stack([normalise(image, segmenter.partner.card.input) for image in images])
    return np.asarray((own + read_windows(scaled, segmenter.partner)) / 2, dtype=np.float32)
