"""A decoding child can compute and answer, and nothing else: no file, socket, process or other study is within its reach."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.loader import limits
from dicom_io import decoding_process
from dicom_io.confinement import SYSTEM_CALLS, system_call_filter
from dicom_io.decoding_process import DecodingProcess
from tests.corpus.small_study import good

_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc and seccomp are Linux's")
_TRY = """
import json, os, signal, socket, subprocess, sys
from configs.loader import limits
from dicom_io.confinement import confine, system_call_filter
rules = system_call_filter() if sys.argv[1] == "seccomp" else None
attempts = {
    "open": lambda: os.open(sys.argv[2], os.O_RDONLY),
    "create": lambda: os.open(sys.argv[2] + ".new", os.O_WRONLY | os.O_CREAT),
    "socket": lambda: socket.socket(),
    "pair": lambda: socket.socketpair(),
    "fork": lambda: os.fork() or os._exit(0),
}
if rules is not None:
    attempts |= {
        "execute": lambda: os.execv("/bin/true", ["true"]),
        "signal": lambda: os.kill(os.getppid(), 0),
        "remove": lambda: os.unlink(sys.argv[2]),
        "priority": lambda: os.nice(1),
    }
confine(limits().child.model_dump(), rules)
done = {"root": os.geteuid() == 0}
for name, attempt in attempts.items():
    try:
        attempt()
        done[name] = True
    except OSError:
        done[name] = False
os.write(1, json.dumps(done).encode())
os._exit(0)
"""


def _started() -> DecodingProcess:
    return DecodingProcess.start(limits(), None)


def _status(process: int) -> dict[str, str]:
    lines = Path("/proc", str(process), "status").read_text(encoding="ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _confined(process: int) -> dict[str, str]:
    """The state of a child once it has given up what it does not need (it does so before its first object)."""
    for _ in range(200):
        limit = Path("/proc", str(process), "limits").read_text(encoding="ascii")
        if next(line for line in limit.splitlines() if line.startswith("Max open files")).split()[3] == "3":
            time.sleep(0.05)
            return _status(process)
        time.sleep(0.05)
    raise AssertionError("the child does not confine itself")


@pytest.mark.parametrize("fence", ["limits", "seccomp"])
def test_a_confined_process_opens_nothing_and_starts_nothing(fence: str, tmp_path: Path) -> None:
    if fence == "seccomp" and system_call_filter() is None:
        pytest.skip("no libseccomp here")
    (tmp_path / "secret").write_text("secret")
    command = [sys.executable, "-c", _TRY, fence, str(tmp_path / "secret")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "true" not in result.stdout
    assert '"socket": false' in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@_LINUX
def test_the_child_itself_is_confined() -> None:
    child = _started()
    try:
        state = _confined(child.process)
        assert set(state["Uid"].split()) != {"0"}
        if system_call_filter() is not None:
            assert (state["Seccomp"], state["NoNewPrivs"]) == ("2", "1")
    finally:
        child.end()


@_LINUX
def test_the_list_of_system_calls_names_none_that_opens_connects_or_executes() -> None:
    forbidden = {
        "open",
        "openat",
        "creat",
        "socket",
        "connect",
        "execve",
        "fork",
        "vfork",
        "clone",
        "clone3",
        "kill",
        "ptrace",
    }
    assert not forbidden & set(SYSTEM_CALLS)


def test_the_environment_of_the_server_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECESS_PASSWORD", "secret")
    decoding_process.close()
    child = _started()
    try:
        server = child.server.process.pid
        assert b"secret" not in Path("/proc", str(server), "environ").read_bytes()
    finally:
        child.end()


def test_a_module_that_lies_beside_the_input_is_not_taken_for_one_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy.py", "pydicom.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('foreign code')")
    monkeypatch.chdir(tmp_path)
    decoding_process.close()
    child = _started()
    child.end()
    assert child.peak_memory_bytes > 0


def test_two_studies_have_two_processes_and_none_lives_on() -> None:
    first, second = _started(), _started()
    numbers = first.process, second.process
    assert numbers[0] != numbers[1]
    first.send(good(0)[0][1])
    first.end()
    second.end()
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
    assert 0 < first.peak_memory_bytes < 512 << 20


def test_a_server_that_was_killed_is_started_anew() -> None:
    child = _started()
    os.kill(child.server.process.pid, signal.SIGKILL)
    child.server.process.wait()
    child.end()
    other = _started()
    assert other.server is not child.server
    other.end()
