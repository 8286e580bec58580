"""Herniation and its side on the axial T1 slice nearest to a disc, by the network that radiologists' notes taught on T1.

It was taught on T1 alone: no other weighting is given to it. A side is named only where the asymmetry is larger than most people free
of a herniation show; the band stands in the network's card. Numbers of the pose: configs/canal_pose.toml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from inference.canal_pose import canal_pose, posed_maps
from inference.segment import AxialReading, AxialSlice
from inference.sizes import Missing
from models.mirror_scores import MirrorReader

if TYPE_CHECKING:
    from dicom_io.geometry import FloatArray

T1_ROLE = "axial_t1"


@dataclass(frozen=True)
class T1Herniation:
    """Probability (0..1) of a protrusion or worse; the side where the asymmetry tells one, with the probability of that side.

    `side` None: not told. `margin_lps` (3,) is the posterior disc margin on the slice that was read, of the series named.
    """

    probability: float
    side: Literal["left", "right"] | None
    side_probability: float
    slice: AxialSlice
    margin_lps: FloatArray
    series_instance_uid: str | None


def read_axial_t1(axial: AxialReading, reader: MirrorReader) -> T1Herniation | Missing:
    """Read the slice of a T1 stack that lies nearest to the disc. ValueError for a stack of another weighting.

    Missing where no slice lies within reach of the disc's mid-plane and along it, or no disc is seen on it.
    """
    if axial.stack.role != T1_ROLE:
        raise ValueError(f"a stack of role {axial.stack.role}: the network was taught on axial T1 alone")
    limits = canal_pose().slice
    nearest = min(axial.slices, key=lambda item: abs(item.offset_mm), default=None)
    if nearest is None or abs(nearest.offset_mm) > limits.nearest_mm or nearest.tilt_deg > limits.largest_tilt_deg:
        return Missing("NOT_COVERED", "axial slices do not cover the level")
    disc = nearest.probabilities[[axial.channel("disc"), axial.channel("herniated_material")]].sum(axis=0)
    if float(disc.sum()) * nearest.window.pixel_mm**2 < limits.smallest_disc_mm2:
        return Missing("QUALITY", "the disc is not seen on the axial slice")
    maps = posed_maps(nearest.image, nearest.probabilities, axial.classes, nearest.window.pixel_mm)
    found = reader.read(maps)
    anchor = np.asarray(axial.disc.posterior_margin_lps)
    row, column = nearest.window.to_pixel(anchor)
    left = found.left_probability >= 0.5
    side: Literal["left", "right"] | None = ("left" if left else "right") if found.side_told else None
    chance = found.left_probability if left else 1 - found.left_probability
    return T1Herniation(
        probability=found.herniation_probability,
        side=side,
        side_probability=chance,
        slice=nearest,
        margin_lps=nearest.window.to_lps(row, column),
        series_instance_uid=axial.stack.series_instance_uid or None,
    )
