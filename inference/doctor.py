"""Whether this installation can read a study: codecs, weights with their hashes, devices, disk space, versions.

Every check says what was found and, where something is missing, how to get it. Nothing is changed.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass

from inference.provenance import GRADER, NETWORKS, NOTES, software

_NEEDED_FREE_BYTES = 2 * 1024**3  # originals, decoded pixels and results of one large study
_SYNTAXES = {
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.70": "JPEG lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
}
"""Compressed transfer syntaxes that archives send lumbar MR in."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    good: bool
    text: str
    remedy: str = ""


def examine_installation() -> tuple[Check, ...]:
    """All checks; the program can read studies when each one is good."""
    return (_versions(), *_codecs(), *weight_checks(), _device(), _disk())


def shipped_models() -> dict[str, str]:
    """Name and SHA-256 of each network that `Engine.load` takes, from their cards. Raises WeightsError."""
    from models.mirror_scores import fits
    from models.weights import with_partners

    names = (*NETWORKS, *([NOTES] if fits(NOTES) else []), GRADER)
    return {card.name: card.sha256 for name in names for card in with_partners(name)}


def _versions() -> Check:
    used = software()
    listed = ", ".join(f"{name} {version}" for name, version in used.libraries.items())
    commit = f", commit {used.commit[:10]}" if used.commit else ""
    text = (
        f"recess {used.version}{commit}, Python {platform.python_version()}, configuration {used.configs_sha256[:12]}"
    )
    return Check("versions", True, f"{text}, {listed}")


def _codecs() -> tuple[Check, ...]:
    from pydicom.pixels import get_decoder

    checks = []
    for uid, name in _SYNTAXES.items():
        decoder = get_decoder(uid)
        found = decoder.is_available
        text = ", ".join(decoder.available_plugins) if found else "no decoder"
        checks.append(Check(f"codec {name}", found, text, "pip install python-gdcm pylibjpeg-openjpeg"))
    return tuple(checks)


def weight_checks() -> tuple[Check, ...]:
    """Whether each network's weights are there and are the ones that its card describes."""
    from models.weights import WEIGHTS, WeightsError, file_sha256, load_card, model_names

    checks = []
    remedy = "the weights come with the package: install it again"
    for name in dict.fromkeys((*NETWORKS, GRADER, *model_names())):
        try:
            card = load_card(name)
            path = WEIGHTS / f"{name}.safetensors"
            found = file_sha256(path) if path.is_file() else "no file"
            good = found == card.sha256
            checks.append(Check(f"weights {name}", good, f"sha256 {found[:16]}, card {card.sha256[:16]}", remedy))
        except WeightsError as error:
            checks.append(Check(f"weights {name}", False, str(error), remedy))
    return tuple(checks)


def _device() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("device", True, f"CPU with {torch.get_num_threads()} threads; no CUDA device")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check("device", True, f"CUDA: {', '.join(names)}")


def _disk() -> Check:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    text = f"{free / 1024**3:.1f} GiB free for temporary files"
    return Check("disk", free >= _NEEDED_FREE_BYTES, text, "free some space or set TMPDIR to a larger disk")
