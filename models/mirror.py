"""A network that treats left and right alike by construction: it sees a picture and its mirror image and compares.

The side score of a mirrored picture is the negative, the other scores are the same, whatever the weights. Residual units: MONAI.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

SCORES = ("side", "herniation_against_none", "herniation_against_bulge")
"""Log odds: left against right; protrusion or worse against no herniation; against a bulge."""
TRUNK_OUTPUTS = ("here", "none", "bulge", "herniation", "root_here", "foramen_here", "root", "foramen", "sac")
"""What the trunk gives for a picture: "here" speaks of the picture's left half (columns of high number), the others of the level."""
ASYMMETRY_MAPS = (1, 2, 3)
PRESENCE_MAPS = (0, 1, 2, 3)
"""Channels that the linear part reads: disc, herniated material, sac; and the image with them."""
_SIDE_ROWS, _SIDE_COLUMNS = slice(4, 30), slice(10, 38)
_PRESENCE_ROWS = slice(2, 32)
_TRUNK_ROWS, _TRUNK_COLUMNS = slice(2, 30), slice(4, 44)
_ASYMMETRY_SHARE = 0.5
"""Weight of the size of the differences between the halves, beside their mean, in what tells that something is there."""


def halves(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and half difference (N, C, H, W/2) of the right-hand columns and the mirrored left-hand ones of maps (N, C, H, W)."""
    width = maps.shape[-1] // 2
    left, right = maps[..., -width:], maps[..., :width].flip(-1)
    return (left + right) / 2, (left - right) / 2


def side_features(maps: Tensor) -> Tensor:
    """Features (N, F) that change their sign when the maps (N, 7, 32, 48) are mirrored: signed roots of the differences."""
    _, odd = halves(maps[:, ASYMMETRY_MAPS, _SIDE_ROWS, _SIDE_COLUMNS])
    return (odd.sign() * odd.abs().sqrt()).flatten(1)


def presence_features(maps: Tensor) -> Tensor:
    """Features (N, F) that stay when the maps (N, 7, 32, 48) are mirrored: means of the halves, and sizes of their differences."""
    even, odd = halves(maps[:, PRESENCE_MAPS, _PRESENCE_ROWS])
    return torch.cat([even.flatten(1), _ASYMMETRY_SHARE * odd.abs().flatten(1)], dim=1)


class LinearScores(nn.Module):
    """Logistic regressions on the features above; the one for the side has no intercept, so that it has no favourite."""

    def __init__(self, channels: int, rows: int, columns: int) -> None:
        super().__init__()
        with torch.no_grad():
            blank = torch.zeros(1, channels, rows, columns)
            side, presence = side_features(blank).shape[1], presence_features(blank).shape[1]
        self.side = nn.Linear(side, 1, bias=False)
        self.presence = nn.Linear(presence, len(SCORES) - 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Scores (N, 3) of maps (N, C, H, W)."""
        return torch.cat([self.side(side_features(maps)), self.presence(presence_features(maps))], dim=1)


class Trunk(nn.Module):
    """A small residual network on maps (N, C, 32, 48); only the windows that `cropped` cuts are ever given to it."""

    def __init__(self, in_channels: int, widths: Sequence[int], dropout: float) -> None:
        from monai.networks.blocks.convolutions import Convolution, ResidualUnit

        super().__init__()
        norm = ("GROUP", {"num_groups": 4})
        stages: list[nn.Module] = [
            Convolution(2, in_channels, widths[0], strides=1, kernel_size=3, act="RELU", norm=norm, bias=False)
        ]
        for before, width in pairwise(widths):
            stages.append(
                ResidualUnit(2, before, width, strides=2, kernel_size=3, subunits=2, act="RELU", norm=norm, bias=False)
            )
        self.stages = nn.Sequential(*stages)
        rows, columns = _after_strides(28, len(widths) - 1), _after_strides(40, len(widths) - 1)
        self.dropout = nn.Dropout(dropout)
        self.outputs = nn.Linear(widths[-1] * rows * columns, len(TRUNK_OUTPUTS))

    def forward(self, cut: Tensor) -> Tensor:
        """Outputs (N, 9) of cuts (N, C, 28, 40)."""
        return cast(Tensor, self.outputs(self.dropout(self.stages(cut).flatten(1))))

    def both_ways(self, cut: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the cuts and of their mirror images."""
        first, second = self(torch.cat([cut, cut.flip(-1)])).float().chunk(2)
        return first, second


def cropped(maps: Tensor) -> Tensor:
    """The middle (N, C, 28, 40) of maps (N, C, 32, 48)."""
    return maps[..., _TRUNK_ROWS, _TRUNK_COLUMNS]


def trunk_scores(straight: Tensor, mirrored: Tensor) -> Tensor:
    """Scores (N, 3) from the trunk's outputs for a picture and for its mirror image."""
    level = (straight + mirrored) / 2
    none, bulge, herniation = level[:, 1], level[:, 2], level[:, 3]
    return torch.stack([straight[:, 0] - mirrored[:, 0], herniation - none, herniation - bulge], dim=1)


class MirrorPair(nn.Module):
    """The mean log odds of the linear part and of the trunk."""

    def __init__(
        self, in_channels: int, widths: Sequence[int], dropout: float, rows: int = 32, columns: int = 48
    ) -> None:
        super().__init__()
        self.linear = LinearScores(in_channels, rows, columns)
        self.trunk = Trunk(in_channels, widths, dropout)

    def parts(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, 3) of the linear part and of the trunk."""
        return self.linear(maps), trunk_scores(*self.trunk.both_ways(cropped(maps)))

    def forward(self, maps: Tensor) -> Tensor:
        """Scores (N, 3) of maps (N, C, 32, 48)."""
        linear, trunk = self.parts(maps)
        return (linear + trunk) / 2


class MirrorEnsemble(nn.Module):
    """Several pairs, each taught without one fold of the patients."""

    def __init__(self, members: int, in_channels: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.members = nn.ModuleList(MirrorPair(in_channels, widths, dropout) for _ in range(members))

    def member(self, number: int) -> MirrorPair:
        """One of the pairs, by the number of the fold that it did not see."""
        return cast(MirrorPair, self.members[number])

    def forward(self, maps: Tensor) -> Tensor:
        """Mean scores (N, 3) of maps (N, C, 32, 48)."""
        return torch.stack([member(maps) for member in self.members]).mean(dim=0)


def _after_strides(size: int, strides: int) -> int:
    for _ in range(strides):
        size = (size + 1) // 2
    return size
