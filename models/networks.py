"""Networks by MONAI, built from a checked description that stands in every recipe and card.

Sizes: a residual U-Net of 16..256 channels costs about 25 ms for 256 x 256 on one CPU thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from torch import nn


class NetworkSpec(BaseModel):
    """A two-dimensional network: kind, channels in and out, width of every level, residual units.

    "unet" and "dynunet" label pixels; "mirror" scores posed maps (models/mirror.py), with `members` networks averaged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["unet", "dynunet", "mirror"] = "unet"
    in_channels: int = Field(default=1, ge=1)
    out_channels: int = Field(ge=2)
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    residual_units: int = Field(default=2, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    norm: Literal["instance", "batch"] = "instance"
    """Normalisation between the layers of a "unet"."""
    members: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _has_levels(self) -> NetworkSpec:
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise ValueError("a network needs the widths of at least two levels")
        return self

    @property
    def multiple(self) -> int:
        """Rows and columns of an input must be a multiple of this."""
        return int(2 ** (len(self.channels) - 1))


class GraderSpec(BaseModel):
    """A two-dimensional DenseNet that answers `out_channels` questions about a picture: growth, layers of every block."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["densenet"] = "densenet"
    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    first_channels: int = Field(default=24, ge=1)
    growth_rate: int = Field(default=12, ge=1)
    layers: tuple[int, ...] = (3, 4, 6, 4)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @property
    def multiple(self) -> int:
        """Any number of rows and columns will do."""
        return 1


def build(spec: NetworkSpec | GraderSpec) -> nn.Module:
    """The network that `spec` describes, randomly initialised: (N, in, H, W) -> logits (N, out, H, W), or (N, out) of a grader."""
    from monai.networks.nets import DenseNet, DynUNet, UNet

    network: nn.Module
    if isinstance(spec, GraderSpec):
        network = DenseNet(
            spatial_dims=2,
            in_channels=spec.in_channels,
            out_channels=spec.out_channels,
            init_features=spec.first_channels,
            growth_rate=spec.growth_rate,
            block_config=spec.layers,
            dropout_prob=spec.dropout,
        )
        return network
    if spec.kind == "mirror":
        from models.mirror import MirrorEnsemble

        return MirrorEnsemble(spec.members, spec.in_channels, spec.channels, spec.dropout)
    levels = len(spec.channels)
    if spec.kind == "unet":
        network = UNet(
            spatial_dims=2,
            in_channels=spec.in_channels,
            out_channels=spec.out_channels,
            channels=spec.channels,
            strides=(2,) * (levels - 1),
            num_res_units=spec.residual_units,
            dropout=spec.dropout,
            norm=spec.norm,
        )
    else:
        network = DynUNet(
            spatial_dims=2,
            in_channels=spec.in_channels,
            out_channels=spec.out_channels,
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=list(spec.channels),
            dropout=spec.dropout or None,
            res_block=spec.residual_units > 0,
        )
    return network
