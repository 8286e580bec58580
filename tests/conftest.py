"""Fixtures for all tests: where real data lie, if anywhere, and one small simulated study that several tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def recess_data() -> Path:
    """Folder with the real data sets; the test is skipped where it is absent."""
    path = Path(os.environ.get("RECESS_DATA", _ROOT / ".." / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"real data are not on this machine (RECESS_DATA, {path.name})")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long runs belong to `make soak`: they are left out unless it asks for them."""
    if os.environ.get("RECESS_SOAK") == "1":
        return
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="long run: make soak"))
