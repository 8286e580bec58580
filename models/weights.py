"""Cards and weights: what ships, and the check that the file on disk is the one its card describes.

A card is JSON for programs (`cards/<name>.json`); `cards/<name>.md` says the same to people. Weights are safetensors, 16-bit.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.calibration import LogisticHead
from models.intensity import InputSpec
from models.networks import GraderSpec, NetworkSpec

if TYPE_CHECKING:
    from torch import nn

CARDS = Path(__file__).parent / "cards"
WEIGHTS = Path(__file__).parent / "weights"


class WeightsError(Exception):
    """A card or weights file that is missing, damaged or not the one described; the text names the file and the remedy."""


class Card(BaseModel):
    """Everything a program must know about one network, and where it came from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str = "1"
    network: NetworkSpec | GraderSpec = Field(discriminator="kind")
    input: InputSpec
    classes: tuple[str, ...]
    """Names of the output channels in their order; the first is the background."""
    sha256: str = ""
    trained_on: str
    calibrated_on: str = "not calibrated"
    recipe: str
    command: str
    metrics: dict[str, Any] = Field(default_factory=dict)
    heads: dict[str, LogisticHead] = Field(default_factory=dict)
    partner: str | None = None
    """Another network for the same classes and pixels, whose probabilities are averaged with this one's on whole slices."""
    constants: dict[str, float] = Field(default_factory=dict)
    """Other numbers fitted with the network (temperature, slope and offset of a measure), by name."""


def load_card(name: str, folder: Path = CARDS) -> Card:
    """The card of a shipped network. WeightsError when there is none or it does not read."""
    path = folder / f"{name}.json"
    if not path.is_file():
        raise WeightsError(f"{path}: no card of that name; known: {', '.join(model_names(folder)) or 'none'}")
    try:
        return Card.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise WeightsError(f"{path}: {error}") from error


def model_names(folder: Path = CARDS) -> tuple[str, ...]:
    """Names of all networks that have a card."""
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


def write_card(card: Card, folder: Path = CARDS) -> Path:
    """Write the card as JSON and return its path."""
    path = folder / f"{card.name}.json"
    path.write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    return path


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file. WeightsError when it is not there."""
    if not path.is_file():
        raise WeightsError(
            f"{path}: the weights are missing; reinstall the package or fetch the file from the repository"
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_weights(network: nn.Module, path: Path) -> str:
    """Write the parameters of `network` as 16-bit safetensors; returns the file's SHA-256."""
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach().to("cpu", torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    save_file(tensors, str(path))
    return file_sha256(path)


def with_partners(name: str, cards: Path = CARDS, *, alone: bool = False) -> tuple[Card, ...]:
    """The card `name` and those of its partners, whose probabilities are averaged with its own. WeightsError as `load_card`.

    `alone` leaves out those that need a slice's neighbours.
    """
    card = load_card(name, cards)
    found = (card,) if card.partner is None else (card, *with_partners(card.partner, cards))
    return tuple(one for one in found if not alone or one.input.context_mm is None)


def load_network(card: Card, folder: Path = WEIGHTS) -> nn.Module:
    """The network of `card` with its shipped weights in 32 bit, in evaluation mode.

    WeightsError when the file is missing, its digest is not the card's, or its tensors do not fit the network.
    """
    import torch
    from safetensors.torch import load

    from models.networks import build

    path = folder / f"{card.name}.safetensors"
    digest = file_sha256(path)
    if digest != card.sha256:
        raise WeightsError(
            f"{path}: SHA-256 {digest} is not the {card.sha256 or '(empty)'} of the card; the file was changed or belongs "
            "to another version: restore both from one release"
        )
    tensors = {key: value.to(torch.float32) for key, value in load(path.read_bytes()).items()}
    network = build(card.network)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"{path}: the tensors do not fit the network of the card: {error}") from error
    return network.eval()
