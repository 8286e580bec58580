"""Runs a shipped network on arrays: picks the device, batches, and records what was used and what it fell back to.

Eager torch in 32 bit on the CPU, autocast on CUDA. Out of memory on CUDA halves the batch; on a batch of one it is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.intensity import normalise, with_context
from models.networks import NetworkSpec
from models.weights import CARDS, WEIGHTS, Card, WeightsError, load_card, load_network

if TYPE_CHECKING:
    import torch

_BATCH = {"cpu": 4, "cuda": 32}
"""Images in one forward pass; on the CPU small batches keep peak memory low and cost no time."""


class DeviceUnavailableError(Exception):
    """A device that was asked for by name and is not there; the text says what is."""


def choose_device(device: str) -> tuple[str, tuple[str, ...]]:
    """Resolve "auto", "cpu", "cuda" or "cuda:N" to a torch device name and the fallbacks taken on the way.

    "auto" takes CUDA when there is one and otherwise the CPU, with a text; CUDA asked for by name and absent is an error.
    """
    import torch

    if device == "cpu":
        return "cpu", ()
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda:0", ()
        return "cpu", ("no CUDA device was found; the CPU was used",)
    name, _, number = device.partition(":")
    if name != "cuda" or (number and not number.isdigit()):
        raise DeviceUnavailableError(f"device {device!r}: say auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(number or 0)
    if index >= count:
        raise DeviceUnavailableError(
            f"device {device!r} was asked for, but this machine has {count} CUDA devices; say cpu or auto"
        )
    return f"cuda:{index}", ()


@dataclass
class Segmenter:
    """A network ready to run. `fallbacks` grows when something had to give way during a run."""

    card: Card
    device: str
    precision: str
    network: Any
    engine: str
    fallbacks: list[str] = field(default_factory=list)
    batch: int = 4
    partner: Segmenter | None = None

    @classmethod
    def load(cls, name: str, device: str = "auto", *, cards: Path = CARDS, weights: Path = WEIGHTS) -> Segmenter:
        """The shipped network `name` with its partner on `device`. Raises WeightsError or DeviceUnavailableError."""
        card = load_card(name, cards)
        loaded = cls.of(card, load_network(card, weights), device)
        if card.partner is not None:
            loaded.partner = cls.load(card.partner, device, cards=cards, weights=weights)
            loaded.partner.fallbacks = loaded.fallbacks
        return loaded

    @classmethod
    def of(cls, card: Card, network: Any, device: str = "cpu") -> Segmenter:
        """A segmenter around a network that is already in memory, described by `card`. WeightsError for a grader's card."""
        import torch

        if not isinstance(card.network, NetworkSpec):
            raise WeightsError(f"card {card.name!r} describes a grader, not a network that segments")

        resolved, fallbacks = choose_device(device)
        kind = resolved.partition(":")[0]
        on_cuda = kind == "cuda"
        bf16 = on_cuda and torch.cuda.is_bf16_supported()
        return cls(
            card=card,
            device=resolved,
            precision=("bfloat16 autocast" if bf16 else "float16 autocast") if on_cuda else "float32",
            network=network.eval().to(resolved, memory_format=torch.channels_last),
            engine=f"torch {torch.__version__} eager",
            fallbacks=list(fallbacks),
            batch=_BATCH[kind],
        )

    @property
    def members(self) -> tuple[Segmenter, ...]:
        """This network and its partners."""
        return self, *(self.partner.members if self.partner is not None else ())

    @property
    def cards(self) -> tuple[Card, ...]:
        """The cards of this network and its partners."""
        return tuple(member.card for member in self.members)

    @property
    def spacing_mm(self) -> float:
        """Pixel size the network expects."""
        return self.card.input.spacing_mm

    def plane_probabilities(self, planes: NDArray[Any], step_mm: float = 1.0) -> NDArray[np.float32]:
        """Class probabilities (S, K, R, C) of normalised slices (S, R, C) that follow each other every `step_mm`.

        One slice alone (S = 1) is its own context. The mean over the sizes (`scales`) that the card names, and that of both
        networks where the card names a partner.
        """
        images = with_context(planes, step_mm, self.card.input)
        scales = self.card.input.scales
        own: NDArray[np.float32] = np.mean(
            [self._at_scale(images, scale) for scale in scales], axis=0, dtype=np.float32
        )
        if self.partner is not None:
            planes = normalise(planes, self.partner.card.input)
            own += self.partner.plane_probabilities(planes, step_mm)
            own /= 2
        return own

    def probabilities(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Class probabilities (N, K, H, W) of normalised images (N, C, H, W), any H and W.

        Edges are padded to the network's multiple and cut off again. Raises ValueError for another shape and
        torch's OutOfMemoryError when a single image does not fit the CUDA device.
        """
        import torch

        images = np.ascontiguousarray(images, dtype=np.float32)
        if images.ndim != 4 or images.shape[1] != self.card.network.in_channels:
            raise ValueError(f"images of shape {images.shape}; expected (N, {self.card.network.in_channels}, H, W)")
        count, _, rows, columns = images.shape
        result = np.empty((count, self.card.network.out_channels, rows, columns), dtype=np.float32)
        multiple = self.card.network.multiple
        pad = ((0, 0), (0, 0), (0, -rows % multiple), (0, -columns % multiple))
        start = 0
        while start < count:
            part = np.pad(images[start : start + self.batch], pad, mode="edge")
            try:
                result[start : start + self.batch] = self._forward(torch.from_numpy(part))[..., :rows, :columns]
            except torch.cuda.OutOfMemoryError:
                if self.batch == 1:
                    raise
                torch.cuda.empty_cache()
                self.batch //= 2
                self.fallbacks.append(f"out of memory on {self.device}: batch lowered to {self.batch}")
                continue
            start += part.shape[0]
        return result

    def _at_scale(self, images: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
        """Probabilities of images that were made `scale` times as large for the network, on their own pixels again."""
        if scale == 1.0:
            return self.probabilities(images)
        rows, columns = images.shape[2:]
        larger = _resized(images, (round(rows * scale), round(columns * scale)))
        return _resized(self.probabilities(larger), (rows, columns))

    def _forward(self, images: torch.Tensor) -> NDArray[np.float32]:
        import torch

        on_cuda = self.device.startswith("cuda")
        dtype = torch.bfloat16 if self.precision.startswith("bfloat16") else torch.float16
        with torch.inference_mode(), torch.autocast("cuda", dtype=dtype, enabled=on_cuda):
            logits = self.network(images.to(self.device, memory_format=torch.channels_last))
        probabilities: NDArray[np.float32] = torch.softmax(logits.float(), dim=1).cpu().numpy()
        return probabilities


def _resized(images: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Images (N, C, H, W) on another number of rows and columns over the same field, linear."""
    import torch

    resized = torch.nn.functional.interpolate(torch.from_numpy(images), shape, mode="bilinear", align_corners=False)
    result: NDArray[np.float32] = resized.numpy()
    return result
