"""Where the reactor of an association stops for a sender."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from dicom_io.wire import Checkpoint


class Reactor(threading.Thread):
    """Goes round like that of an association: it rests at its checkpoint where it has to, and works at once after it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rounds, self.over = 0, False
        self.checkpoint = Checkpoint(self)

    def run(self) -> None:
        while not self.over:
            self.checkpoint.wait()
            self.rounds += 1


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change at any place
    running = Reactor()
    running.start()
    yield running
    running.over = True
    running.checkpoint.set()
    running.join()
    sys.setswitchinterval(often)


def test_reactor_stands_once_it_was_stopped_and_runs_on_afterwards(reactor: Reactor) -> None:
    for _ in range(300):
        reactor.checkpoint.clear()
        seen = reactor.rounds
        time.sleep(0)
        assert reactor.rounds == seen
        reactor.checkpoint.set()
    until = time.monotonic() + 60
    while reactor.rounds == seen and time.monotonic() < until:
        time.sleep(0.001)
    assert reactor.rounds > seen


def test_stopping_a_reactor_that_has_ended_or_oneself_returns() -> None:
    Checkpoint(threading.Thread()).clear()
    Checkpoint(threading.current_thread()).clear()
