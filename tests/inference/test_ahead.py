"""Networks are loaded while a study is read: what goes wrong with them is told when they are asked for, and only then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference.ahead import engine_ahead
from models.runtime import DeviceUnavailableError


def test_a_device_that_is_not_there_is_told_when_the_engine_is_asked_for() -> None:
    with engine_ahead("cuda:99", ("seg",)) as engine, pytest.raises(DeviceUnavailableError, match="cuda:99"):
        engine()
    with engine_ahead("cuda:99"):
        pass  # a study that is refused asks for no engine


def test_an_input_that_is_not_there_is_refused_without_loading_a_network(tmp_path: Path) -> None:
    code = (
        "import sys; from inference.cli import app, run; "
        f"code = run(app, ['analyze', {str(tmp_path / 'nowhere')!r}]); "
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "nowhere: no such file or folder" in done.stderr
