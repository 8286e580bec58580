"""Writes made-up studies to disk; every one starts from the good study of tests/corpus/small_study.py."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dicom_io.ingest import read_study
from dicom_io.study import Study
from tests.corpus.small_study import File, good

Writer = Callable[[Sequence[File]], Path]


@pytest.fixture
def on_disk(tmp_path: Path) -> Writer:
    """Writes (name, bytes) pairs into a fresh folder, in an order and under names that say nothing."""

    def write(files: Sequence[File]) -> Path:
        folder = tmp_path / f"study{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        shuffled = list(files)
        random.Random(len(files)).shuffle(shuffled)
        for number, (_, data) in enumerate(shuffled):
            (folder / f"IM{number:05d}").write_bytes(data)
        return folder

    return write


@pytest.fixture(scope="session")
def good_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The good study of seed 0 as it is read."""
    folder = tmp_path_factory.mktemp("good")
    for number, (_, data) in enumerate(good(0)):
        (folder / f"{number}.dcm").write_bytes(data)
    return read_study(folder)
