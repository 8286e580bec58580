"""How an image is brought to the scale a network was trained on: one pixel size, one robust intensity range, its neighbours.

Training and reading call the same function, with the numbers of the model's card.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

_FLAT_RANGE = 1e-6
"""An image whose percentiles lie nearer than this has no content; it becomes all zeros."""


class InputSpec(BaseModel):
    """Pixel size in mm, the percentiles of the image that become 0 and 1 (values are clipped to -0.5..1.5), and context.

    `unit` "deviation" takes the mean as 0 and the standard deviation as 1 instead, and clips nothing.
    With `context_mm` a network sees three channels: a slice between those that lie about so many mm before and after it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing_mm: float = Field(gt=0)
    unit: Literal["percentiles", "deviation"] = "percentiles"
    low_percentile: float = Field(default=1.0, ge=0, le=100)
    high_percentile: float = Field(default=99.0, ge=0, le=100)
    context_mm: float | None = Field(default=None, gt=0)
    scales: tuple[float, ...] = (1.0,)
    """Sizes at which whole slices are read; their probabilities are averaged."""

    @model_validator(mode="after")
    def _ordered(self) -> InputSpec:
        if self.low_percentile >= self.high_percentile:
            raise ValueError("low_percentile must lie below high_percentile")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError("scales must be positive, and at least one")
        return self


def normalise(image: NDArray[Any], spec: InputSpec) -> NDArray[np.float32]:
    """`image` (any shape, any units) as float32 with its low percentile at 0 and its high percentile at 1, or as `unit` says.

    Not-a-number pixels are taken as what becomes 0. A flat image gives zeros.
    """
    values = np.asarray(image, dtype=np.float32)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, dtype=np.float32)
    if spec.unit == "deviation":
        low = finite.mean(dtype=np.float64)
        high = low + finite.std(dtype=np.float64)
    else:
        low, high = np.percentile(finite, (spec.low_percentile, spec.high_percentile))
    if high - low < _FLAT_RANGE * max(1.0, abs(float(high))):
        return np.zeros(values.shape, dtype=np.float32)
    scaled = (np.where(np.isfinite(values), values, low) - low) / (high - low)
    return (scaled if spec.unit == "deviation" else np.clip(scaled, -0.5, 1.5)).astype(np.float32)


def with_context(planes: NDArray[Any], step_mm: float, spec: InputSpec) -> NDArray[np.float32]:
    """Slices (S, R, C) that follow each other every `step_mm` as network input: (S, 1, R, C), or (S, 3, R, C) with context.

    The neighbours are whole slices away, at least one; at either end, and for a slice alone, the outermost slice stands in.
    """
    planes = np.asarray(planes, dtype=np.float32)
    if spec.context_mm is None:
        return planes[:, None]
    apart = max(1, round(spec.context_mm / step_mm))
    index = np.arange(len(planes))
    before, after = np.clip(index - apart, 0, None), np.clip(index + apart, None, len(planes) - 1)
    return np.stack([planes[before], planes, planes[after]], axis=1)
