"""What was acknowledged is never lost: the service is killed again and again while objects come in, and every answer is checked."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from service.store import Store
from tests.service.peers import close_for_good, free_port, numbered, wait_for_port

MR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1"


@pytest.fixture(autouse=True)
def sockets_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of callers that were refused or cut off are closed."""
    monkeypatch.setattr(AssociationSocket, "_shutdown_socket", close_for_good)


class _Sender(threading.Thread):
    """Sends every object until it is acknowledged, over a new association whenever one breaks, and notes what was acknowledged."""

    def __init__(self, port: int, title: str, objects: Iterator[Dataset]) -> None:
        super().__init__(daemon=True)
        self._port, self._title, self._objects = port, title, objects
        self.acknowledged: dict[str, str] = {}
        self.broken = 0

    def run(self) -> None:
        association: Association | None = None
        for dataset in self._objects:
            while True:
                association = self._again(association)
                answer = association.send_c_store(dataset) if association.is_established else Dataset()
                if answer.get("Status") == 0x0000:
                    self.acknowledged[str(dataset.SOPInstanceUID)] = hashlib.sha256(dataset.PixelData).hexdigest()
                    break
                self.broken += 1
                association.abort()
                association = None
                time.sleep(0.05)
        if association is not None:
            association.release()

    def _again(self, association: Association | None) -> Association:
        while association is None or not association.is_established:
            entity = AE(ae_title=self._title)
            entity.add_requested_context(MR, EXPLICIT)
            association = entity.associate("127.0.0.1", self._port, ae_title="RECESS")
            if not association.is_established:
                time.sleep(0.1)
        return association


def _start(data_dir: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from service.cli import main; main()", "serve", "--data-dir", str(data_dir)]
    command += ["--port", str(free_port()), "--dicom-port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, env=os.environ | {"RECESS_STUDY_QUIET_S": "3600"}, stderr=subprocess.DEVNULL)
    wait_for_port(port, process)
    return process


def _killed_while_sending(data_dir: Path, objects: int, kills: int, seed: int) -> tuple[dict[str, str], int]:
    """Send so many objects from two senders while the service dies so many times; returns what was acknowledged, and breaks."""
    draw, port = random.Random(seed), free_port()
    everything = list(numbered(objects))
    senders = [_Sender(port, f"SENDER{n}", iter(everything[n::2])) for n in range(2)]
    process = _start(data_dir, port)
    for sender in senders:
        sender.start()
    for number in range(kills):
        goal = (number + 1) * objects // (kills + 1) - draw.randrange(max(1, objects // (2 * kills)))
        while sum(len(sender.acknowledged) for sender in senders) < goal:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = _start(data_dir, port)
    for sender in senders:
        sender.join()
    process.send_signal(signal.SIGKILL)
    process.wait()
    acknowledged = {uid: digest for sender in senders for uid, digest in sender.acknowledged.items()}
    return acknowledged, sum(sender.broken for sender in senders)


def _lost(data_dir: Path, acknowledged: dict[str, str]) -> list[str]:
    """Acknowledged objects that are not found whole under their digest with the pixels that were sent."""
    store = Store(data_dir)
    store.sweep()
    lost = []
    for uid, pixels in acknowledged.items():
        found = store.objects.find(instance=uid)
        whole = [kept for kept in found if hashlib.sha256(kept.path.read_bytes()).hexdigest() == kept.digest]
        if not whole or hashlib.sha256(dcmread(whole[0].path).PixelData).hexdigest() != pixels:
            lost.append(uid)
    assert list(store.incoming.iterdir()) == []
    store.close()
    return lost


def test_acknowledged_objects_outlive_kills(tmp_path: Path) -> None:
    acknowledged, broken = _killed_while_sending(tmp_path, objects=120, kills=3, seed=1)
    assert len(acknowledged) == 120
    assert broken >= 3
    assert _lost(tmp_path, acknowledged) == []


@pytest.mark.soak
def test_five_thousand_acknowledged_objects_outlive_twenty_kills(tmp_path: Path) -> None:
    acknowledged, broken = _killed_while_sending(tmp_path, objects=5000, kills=20, seed=2)
    lost = _lost(tmp_path, acknowledged)
    sys.stderr.write(f"\nacks.checked: inputs={len(acknowledged)} kills=20 breaks={broken} unexpected={len(lost)}\n")
    assert len(acknowledged) == 5000
    assert lost == []
