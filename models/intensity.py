"""How an image is brought to the scale a network was trained on: one pixel size, one robust intensity range.

Training and reading call the same function, with the numbers of the model's card.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

_FLAT_RANGE = 1e-6
"""An image whose percentiles lie nearer than this has no content; it becomes all zeros."""


class InputSpec(BaseModel):
    """Pixel size in mm, and the percentiles of the image that become 0 and 1 (values are clipped to -0.5..1.5)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing_mm: float = Field(gt=0)
    low_percentile: float = Field(default=1.0, ge=0, le=100)
    high_percentile: float = Field(default=99.0, ge=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> InputSpec:
        if self.low_percentile >= self.high_percentile:
            raise ValueError("low_percentile must lie below high_percentile")
        return self


def normalise(image: NDArray[Any], spec: InputSpec) -> NDArray[np.float32]:
    """`image` (any shape, any units) as float32 with its low percentile at 0 and its high percentile at 1.

    Not-a-number pixels are taken as the low value. A flat image gives zeros.
    """
    values = np.asarray(image, dtype=np.float32)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, dtype=np.float32)
    low, high = np.percentile(finite, (spec.low_percentile, spec.high_percentile))
    if high - low < _FLAT_RANGE * max(1.0, abs(float(high))):
        return np.zeros(values.shape, dtype=np.float32)
    scaled = (np.where(np.isfinite(values), values, low) - low) / (high - low)
    return np.clip(scaled, -0.5, 1.5).astype(np.float32)
