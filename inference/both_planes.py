"""One probability of a herniation from the axial slices of a disc and from what the sagittal score adds; none where they disagree."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

from inference.segment import reading
from inference.sizes import Missing

if TYPE_CHECKING:
    from inference.localize import Disc

_PLANES_DISAGREE = Missing("PLANES_DISAGREE", "measures disagree")
_SUREST = 1e-3
"""No score is taken as surer than this."""


def with_sagittal(axial: float, sagittal: float, usual: float, weight: float) -> float:
    """The axial probability of a herniation, its log odds moved by `weight` times what the sagittal one adds to the `usual`."""

    return 1 / (1 + exp(-(_log_odds(axial) + weight * (_log_odds(sagittal) - _log_odds(usual)))))


def together_of(axial: float, disc: Disc) -> tuple[float, tuple[float, float] | None] | Missing:
    """Probability of a herniation from both planes, and its span from none to all of what the sagittal score adds.

    PLANES_DISAGREE where one end of the span says clearly yes and the other clearly no, and where the axial slices say yes while the
    sagittal score, which real images taught, says less than of a usual disc.
    """
    sagittal, settings = disc.herniation_probability, reading().herniation
    if sagittal is None:
        return axial, None
    usual = disc.usual_herniation_probability
    low, high = sorted((axial, with_sagittal(axial, sagittal, usual, 1.0)))
    against = _log_odds(sagittal) - _log_odds(usual) < log(settings.sagittal_against)
    if (axial >= 0.5 and against) or (low < settings.planes_disagree[0] and high > settings.planes_disagree[1]):
        return _PLANES_DISAGREE
    return with_sagittal(axial, sagittal, usual, settings.sagittal_weight), (round(low, 3), round(high, 3))


def _log_odds(probability: float) -> float:
    held = min(max(probability, _SUREST), 1 - _SUREST)
    return log(held / (1 - held))
