"""The repository itself: nothing large, no patient data, no addresses in the pins, every weights file described by its card."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_LARGEST_WEIGHTS = 16 * 1024**2
_ALL_WEIGHTS = 64 * 1024**2
_MEDICAL_SUFFIXES = {".dcm", ".dicom", ".nii", ".mha", ".nrrd", ".ima"}


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (_ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "-C", str(_ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    return [_ROOT / name for name in listed.stdout.split("\0") if name and (_ROOT / name).is_file()]


def test_no_medical_image_is_tracked(tracked: list[Path]) -> None:
    assert [path.name for path in tracked if _MEDICAL_SUFFIXES & {suffix.lower() for suffix in path.suffixes}] == []
    assert [path.name for path in tracked if path.read_bytes()[128:132] == b"DICM"] == []


def test_weights_stay_small(tracked: list[Path]) -> None:
    sizes = {path.name: path.stat().st_size for path in tracked if path.suffix == ".safetensors"}
    assert sizes, "no weights are shipped"
    assert max(sizes.values()) < _LARGEST_WEIGHTS
    assert sum(sizes.values()) < _ALL_WEIGHTS


def test_pins_hold_names_and_versions_only() -> None:
    lines = [line for line in (_ROOT / "constraints.txt").read_text().splitlines() if line.strip()]
    assert [line for line in lines if "://" in line or "@" in line or "+cpu" in line] == []
    assert all("==" in line for line in lines)


def test_every_weights_file_is_the_one_its_card_describes() -> None:
    from models.weights import WEIGHTS, file_sha256, load_card, model_names

    assert {"sagittal", "axial"} <= set(model_names())
    for name in model_names():
        assert file_sha256(WEIGHTS / f"{name}.safetensors") == load_card(name).sha256


def test_every_card_for_programs_has_one_for_people() -> None:
    from models.weights import CARDS, model_names

    for name in model_names():
        text = (CARDS / f"{name}.md").read_text()
        assert "recess-train" in text, f"{name}: the command that made the weights is missing from the card"
