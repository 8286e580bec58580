"""Fixtures for all tests: where real data lie, if anywhere, and one small simulated study that several tests read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from inference.analyze import Engine
    from training.phantom import StudyTruth

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def recess_data() -> Path:
    """Folder with the real data sets; the test is skipped where it is absent."""
    path = Path(os.environ.get("RECESS_DATA", _ROOT / ".." / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"real data are not on this machine (RECESS_DATA, {path.name})")
    return path


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long runs belong to `make soak`: they are left out unless it asks for them."""
    if os.environ.get("RECESS_SOAK") == "1":
        return
    long_runs = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=long_runs)
    items[:] = [item for item in items if not item.get_closest_marker("soak")]


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyTruth]:
    """Folder of a small simulated study (two lowest discs, angled stacks) and what is true of it; not to be written to."""
    from training.phantom import draw_anatomy, study_files
    from training.phantom.demo import SEED

    folder = tmp_path_factory.mktemp("small_study")
    return folder, study_files(draw_anatomy(SEED), folder, seed=SEED)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The shipped networks on the CPU."""
    from inference.analyze import Engine

    return Engine.load("cpu")
