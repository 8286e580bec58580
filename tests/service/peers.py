"""What tests of the network share: result objects to send, certificates, objects in numbers, and real peers on loopback."""

from __future__ import annotations

import copy
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.transport import AssociationSocket

from configs.loader import anatomy
from dicom_io.captures import write_capture, write_encapsulated_pdf
from dicom_io.ingest import read_study
from dicom_io.seg import segments_by_level, write_seg
from dicom_io.sr import MeasuredValue, ReportedFinding, write_sr
from tests.corpus.small_study import datasets, encode, good

_ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def close_for_good(connection: AssociationSocket) -> None:
    """pynetdicom's `_shutdown_socket` as it should be: the socket is closed also when the peer has gone already.

    As it is, the socket of a failed association stays open until it is collected, which pytest counts as a fault of the tests.
    """
    if connection.socket is not None:
        with suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)
        connection.socket.close()


def write_results(folder: Path, seed: int = 0) -> list[Path]:
    """SEG, SR, key image and PDF of the good study of this seed, as an analysis writes them."""
    source = folder / "source"
    source.mkdir(parents=True)
    for number, (_, content) in enumerate(good(seed)):
        (source / str(number)).write_bytes(content)
    study = read_study(source)
    shutil.rmtree(source)
    volume = study.with_role("axial_t2")[0].volume
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    labels[1:4, 40:60, 50:77] = anatomy().axial.value("disc")
    array, segments = segments_by_level(labels, anatomy().axial, ["L4-L5"] * volume.grid.shape[0])
    seg = write_seg(folder / "seg.dcm", array, segments, volume, study, "key")
    depth = MeasuredValue("depth", 2.1, "mm", source=volume.instances[2])
    disc = seg.reference("disc", "L4-L5")
    finding = ReportedFinding("f1", "recess_stenosis", "L4-L5", "left", "severe", 0.8, (depth,), segment=disc)
    write_sr(folder / "sr.dcm", [finding], [volume], study, "key", segmentations=[seg])
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    write_capture(folder / "capture-01.dcm", picture, study, "key", 1, "L4-L5", volume.instances[2])
    write_encapsulated_pdf(folder / "report-pdf.dcm", b"%PDF-1.7\n%%EOF", study, "key")
    (folder / "report.json").write_text("{}")
    return sorted(folder.glob("*.dcm"))


def numbered(count: int) -> Iterator[Dataset]:
    """So many small MR objects of one study, each with its own UID and bytes."""
    base = datasets(9)[0][1]
    base.Rows, base.Columns, base.PixelData = 16, 16, bytes(512)
    for number in range(count):
        dataset = copy.deepcopy(base)
        dataset.SOPInstanceUID = f"{base.SeriesInstanceUID}.{number + 1000}"
        dataset.InstanceNumber = number + 1
        dataset.PixelData = number.to_bytes(4, "little") * 128
        yield dcmread(BytesIO(encode(dataset)))


def free_port() -> int:
    """A port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens on the port, or the process has ended (which fails the test)."""
    while True:
        assert process.poll() is None, "the service ended at its start"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


def certificate(folder: Path, name: str, authority: str | None = None) -> tuple[Path, Path]:
    """A certificate and key with this common name, signed by `authority` (made before) or by itself; with openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    new += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    if authority is not None:
        new += ["-CA", str(folder / f"{authority}.pem"), "-CAkey", str(folder / f"{authority}.key")]
        new += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(new, check=True, capture_output=True)
    return cert, key


class Orthanc:
    """A running Orthanc in a network of its own that has nothing but loopback; `run` runs a command in there."""

    def __init__(self, process: subprocess.Popen[bytes], dicom_port: int, root: str) -> None:
        self._process, self.dicom_port, self.root = process, dicom_port, root

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "-t", str(self._process.pid), "-n", "--"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False)


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """Orthanc with its DICOMweb plug-in and private storage. Skips where it, or a network namespace, cannot be had."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
    if program is None or not _ORTHANC_DICOMWEB.exists():
        pytest.skip("Orthanc with its DICOMweb plug-in is not installed")
    if not all(shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin") for tool in ("ip", "nsenter", "unshare")):
        pytest.skip("ip (iproute2), nsenter or unshare is not installed, and Orthanc listens on all addresses")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a network namespace, and Orthanc listens on all addresses")
    web, dicom = 8042, 4242
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": web,
        "RemoteAccessAllowed": False,
        "DicomPort": dicom,
        "DicomAet": "PEER",
        "Plugins": [str(_ORTHANC_DICOMWEB)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "storage").mkdir()
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    start = f"PATH=/usr/sbin:/sbin:$PATH ip link set lo up && exec {program} {folder / 'orthanc.json'}"
    log = (folder / "orthanc.log").open("wb")
    process = subprocess.Popen(["unshare", "-n", "sh", "-c", start], stdout=log, stderr=log)
    peer = Orthanc(process, dicom, f"http://127.0.0.1:{web}/dicom-web")
    try:
        while True:
            assert process.poll() is None, (folder / "orthanc.log").read_text()
            if b"Orthanc has started" in (folder / "orthanc.log").read_bytes():
                break
            time.sleep(0.1)
        yield peer
    finally:
        process.terminate()
        process.wait(20)
        log.close()
