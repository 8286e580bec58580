"""The DICOM listener: what it answers to each kind of object, its limits, TLS, storage commitment; and real peers on loopback."""

from __future__ import annotations

import errno
import io
import random
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from configs.loader import limits
from dicom_io.arrivals import NotKeptError
from dicom_io.commitment import NO_SUCH_OBJECT, PROCESSING_FAILURE, PUSH_MODEL, PUSH_MODEL_INSTANCE, Peer, request_of
from dicom_io.decoding_process import DecodingProcess
from dicom_io.network import Listener, ListenerSettings, listen
from dicom_io.send import SendError, address_of, outgoing, send
from dicom_io.wire import Checkpoint, client_tls, server_tls
from inference.cli import BadOptionError
from service.reception import enter_arrived
from service.sending import send_results
from service.settings import Settings
from service.store import Store
from tests.corpus.small_study import good
from tests.service.peers import certificate, close_for_good, free_port, numbered, orthanc, write_results

MR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1"
ECHO = "1.2.840.10008.1.1"
_STORESCU = Path("/usr/bin/storescu")
_ROOT = Path(__file__).resolve().parents[2]
Listen = Callable[..., Listener]


@pytest.fixture(autouse=True)
def sockets_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of callers that were refused or cut off are closed."""
    monkeypatch.setattr(AssociationSocket, "_shutdown_socket", close_for_good)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def listening(store: Store) -> Iterator[Listen]:
    """Starts listeners into the store; all end with the test."""
    with ExitStack() as stack:

        def start(commit: Any = None, **settings: Any) -> Listener:
            wanted = ListenerSettings("RECESS", **settings)
            listener = listen(wanted, commit or store.objects.receive, store.objects.confirm)
            stack.callback(listener.close)
            return listener

        yield start


def calling(port: int, title: str = "MODALITY", called: str = "RECESS", **named: Any) -> Association:
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    contexts = [build_context(MR, EXPLICIT), build_context(ECHO), build_context(PUSH_MODEL, EXPLICIT)]
    association = entity.associate("127.0.0.1", port, contexts=contexts, ae_title=called, **named)
    Checkpoint.put_into(association)
    return association


def _stored(port: int, objects: Sequence[Dataset]) -> list[int]:
    association = calling(port)
    assert association.is_established
    statuses = [association.send_c_store(dataset).Status for dataset in objects]
    association.release()
    return statuses


def _raw_store(association: Association, body: bytes, sop_instance_uid: str) -> Dataset:
    """C-STORE of bytes as they are, under any UID."""
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MR, sop_instance_uid
    request.DataSet = io.BytesIO(body)
    (context,) = (one for one in association.accepted_contexts if one.abstract_syntax == MR)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context.context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert response is not None
    answer = Dataset()
    answer.Status = response.Status
    answer.ErrorComment = getattr(response, "ErrorComment", "")
    return answer


def _body(number: int = 0) -> tuple[bytes, str]:
    """Data set of an object without its file head, and its UID."""
    content = good(5)[number][1]
    start = 132 + 12 + struct.unpack("<I", content[140:144])[0]
    return content[start:], str(dcmread(io.BytesIO(content)).SOPInstanceUID)


def test_echo_is_answered(listening: Listen) -> None:
    association = calling(listening().port)
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_acknowledged_object_lies_in_the_store_under_its_digest(listening: Listen, store: Store) -> None:
    objects = list(numbered(3))
    assert _stored(listening().port, objects) == [0, 0, 0]
    found = store.objects.find(str(objects[0].StudyInstanceUID))
    assert {kept.sop_instance_uid for kept in found} == {str(dataset.SOPInstanceUID) for dataset in objects}
    for kept in found:
        assert kept.path.name == kept.digest
        assert dcmread(kept.path).PixelData in {dataset.PixelData for dataset in objects}
    assert list(store.incoming.iterdir()) == []


def test_data_set_is_kept_byte_for_byte(listening: Listen, store: Store) -> None:
    body, uid = _body()
    association = calling(listening().port)
    assert _raw_store(association, body, uid).Status == 0x0000
    association.release()
    (kept,) = store.objects.find(instance=uid)
    assert kept.path.read_bytes().endswith(body)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda body: b"\0", 0xC000, "TRUNCATED"),
        (lambda body: body[:400], 0xC000, "TRUNCATED"),
        (lambda body: body[:-1], 0xB007, "PIXEL_LENGTH"),
        (lambda body: body + b"\xff" * 900, 0xB007, "TRAILING_BYTES"),
    ],
)
def test_object_that_cannot_be_used_is_answered_with_its_code(
    listening: Listen, change: Callable[[bytes], bytes], status: int, code: str
) -> None:
    body, uid = _body()
    association = calling(listening().port)
    answer = _raw_store(association, change(body), uid)
    association.release()
    assert (answer.Status, answer.ErrorComment) == (status, code)


def test_object_that_is_not_the_one_its_request_names_is_refused(listening: Listen, store: Store) -> None:
    body, _ = _body()
    association = calling(listening().port)
    assert _raw_store(association, body, "1.2.3.4").Status == 0xA900
    association.release()
    assert list((store.root / "originals").rglob("*/*")) == []


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (NotKeptError("STUDY_LIMIT"), 0xA700),
        (OSError(errno.ENOSPC, "full"), 0xA700),
        (OSError(errno.EIO, "broken"), 0xA700),
        (RuntimeError("a fault"), 0xC000),
    ],
)
def test_object_that_could_not_be_kept_is_never_acknowledged(listening: Listen, fault: Exception, status: int) -> None:
    def failing(data: bytes, examined: object) -> str:
        raise fault

    assert _stored(listening(commit=failing).port, list(numbered(2))) == [status, status]


def test_full_disk_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, low_water_bytes=2**60)
    listener = listen(ListenerSettings("RECESS"), store.objects.receive, store.objects.confirm)
    assert _stored(listener.port, list(numbered(1))) == [0xA700]
    listener.close()
    assert store.objects.find() == []
    store.close()


def test_study_beyond_its_limit_is_told(listening: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = limits().network.model_copy(update={"max_study_objects": 2})
    monkeypatch.setattr("service.received.limits", lambda: limits().model_copy(update={"network": bounds}))
    port, objects = listening().port, list(numbered(3))
    assert _stored(port, objects) == [0, 0, 0xA700]
    assert _stored(port, objects[:2]) == [0, 0], "what is there already takes up nothing"


def test_locked_index_is_told_and_the_object_taken_when_it_is_free(
    listening: Listen, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store._BUSY_MS", 100)
    locked = Store(store.root)  # opened with the short patience
    listener = listen(ListenerSettings("RECESS"), locked.objects.receive, locked.objects.confirm)
    other = sqlite3.connect(store.root / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    one = list(numbered(1))
    assert _stored(listener.port, one) == [0xA700]
    other.execute("ROLLBACK")
    other.close()
    assert _stored(listener.port, one) == [0]
    listener.close()
    locked.close()


def test_disk_that_fills_up_while_writing_leaves_nothing_in_the_spool(
    listening: Listen, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> str:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(store.objects, "_keep", full)
    assert _stored(listening().port, list(numbered(1))) == [0xA700]
    assert list(store.incoming.iterdir()) == []


def test_association_under_another_title_is_rejected(listening: Listen) -> None:
    assert calling(listening().port, called="OTHER").is_rejected


def test_one_peer_takes_up_no_more_than_its_share(listening: Listen) -> None:
    port = listening().port
    most = limits().network.max_associations_per_peer
    first = [calling(port, "GREEDY") for _ in range(most)]
    assert all(association.is_established for association in first)
    assert calling(port, "GREEDY").is_rejected
    other = calling(port, "OTHER")
    assert other.is_established
    for association in (*first, other):
        association.release()
    assert _comes_true(lambda: _released(calling(port, "GREEDY")))


def _released(association: Association) -> bool:
    established = bool(association.is_established)
    if established:
        association.release()
    return established


def _comes_true(condition: Callable[[], bool], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_pdu_longer_than_announced_ends_the_connection_unread(listening: Listen) -> None:
    with socket.create_connection(("127.0.0.1", listening().port), timeout=30) as peer:
        peer.sendall(struct.pack(">BBL", 0x01, 0, limits().network.max_pdu_bytes + 1))
        assert _ends(peer)


def test_connection_that_says_nothing_is_closed(listening: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = limits().network.model_copy(update={"header_seconds": 0.3})
    monkeypatch.setattr("dicom_io.network.limits", lambda: limits().model_copy(update={"network": bounds}))
    with socket.create_connection(("127.0.0.1", listening().port), timeout=30) as peer:
        assert _ends(peer)


def test_bytes_that_are_no_dicom_end_the_connection(listening: Listen) -> None:
    port = listening().port
    for seed in range(5):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
            peer.sendall(random.Random(seed).randbytes(2000))
            assert _ends(peer)
    association = calling(port)
    assert association.send_c_echo().Status == 0x0000
    association.release()


def _ends(peer: socket.socket) -> bool:
    try:
        while peer.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_object_beyond_the_limit_ends_the_association(listening: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = limits().object.model_copy(update={"max_bytes": 1000})
    monkeypatch.setattr("dicom_io.wire.limits", lambda: limits().model_copy(update={"object": bounds}))
    association = calling(listening().port)
    status = association.send_c_store(next(numbered(1)))
    assert "Status" not in status
    assert _comes_true(lambda: not association.is_established)


def test_what_waits_in_memory_is_bounded_and_given_back(listening: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = limits().network.model_copy(update={"max_in_flight_bytes": 40_000})
    monkeypatch.setattr("dicom_io.network.limits", lambda: limits().model_copy(update={"network": bounds}))
    port = listening().port
    one = dcmread(io.BytesIO(good(5)[0][1]))
    assert _stored(port, [one] * 4) == [0, 0, 0, 0]
    one.PixelData, one.Rows = one.PixelData * 3, one.Rows * 3
    association = calling(port)
    assert "Status" not in association.send_c_store(one)
    assert _stored(port, [dcmread(io.BytesIO(good(5)[1][1]))]) == [0]


def test_object_sent_on_eight_associations_is_one_row_and_eight_acknowledgements(
    listening: Listen, store: Store
) -> None:
    port = listening().port
    one = next(numbered(1))
    associations = [calling(port, f"SENDER{number // 4}") for number in range(8)]
    assert [association.send_c_store(one).Status for association in associations] == [0] * 8
    for association in associations:
        association.release()
    assert len(store.objects.find()) == 1


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder, "authority")
    for name in ("RECESS", "MODALITY"):
        certificate(folder, name, "authority")
    certificate(folder, "STRANGER")
    return folder


def _client(folder: Path, name: str) -> ssl.SSLContext:
    return client_tls(folder / "authority.pem", folder / f"{name}.pem", folder / f"{name}.key")


def test_certificate_must_name_the_calling_title(listening: Listen, certificates: Path) -> None:
    folder = certificates
    tls = server_tls(folder / "RECESS.pem", folder / "RECESS.key", folder / "authority.pem")
    port = listening(tls=tls).port
    named = {"tls_args": (_client(folder, "MODALITY"), "127.0.0.1")}
    association = calling(port, "MODALITY", **named)
    assert association.is_established
    assert association.send_c_store(next(numbered(1))).Status == 0
    association.release()
    assert calling(port, "OTHER", **named).is_rejected


def test_results_are_sent_over_tls(listening: Listen, certificates: Path, tmp_path: Path) -> None:
    folder = certificates
    tls = server_tls(folder / "RECESS.pem", folder / "RECESS.key", folder / "authority.pem")
    to = f"RECESS@127.0.0.1:{listening(tls=tls).port}"
    write_results(tmp_path)
    files = (folder / "authority.pem", folder / "MODALITY.pem", folder / "MODALITY.key")
    lines, complete = send_results(tmp_path, to, "MODALITY", True, files, confirm_s=30)
    assert complete, lines
    assert all("confirmed" in line for line in lines)
    with pytest.raises(BadOptionError, match="rejects"):
        send_results(tmp_path, to, "OTHER", True, files)
    with pytest.raises(BadOptionError, match="--tls"):
        send_results(tmp_path, to, "MODALITY", False, files)


def test_unknown_certificate_and_plain_connections_get_nowhere(listening: Listen, certificates: Path) -> None:
    folder = certificates
    tls = server_tls(folder / "RECESS.pem", folder / "RECESS.key", folder / "authority.pem")
    port = listening(tls=tls).port
    stranger = {"tls_args": (_client(folder, "STRANGER"), "127.0.0.1")}
    assert not calling(port, "STRANGER", **stranger).is_established
    assert not calling(port).is_established


def test_listener_leaves_loopback_only_with_tls_and_client_certificates() -> None:
    with pytest.raises(ValueError, match="TLS"):
        Settings(dicom_host="0.0.0.0", dicom_port=11112)
    with pytest.raises(ValueError, match="certificate, its key"):
        Settings(dicom_port=11112, dicom_tls_certificate=Path("c.pem"))


# storage commitment


def _asked(association: Association, objects: list[tuple[str, str]]) -> str:
    request = request_of(objects)
    status, _ = association.send_n_action(request, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    assert status.Status == 0x0000
    return str(request.TransactionUID)


def _reasons(report: Dataset) -> dict[str, int]:
    kept = {str(item.ReferencedSOPInstanceUID): 0 for item in report.get("ReferencedSOPSequence", [])}
    failed = report.get("FailedSOPSequence", [])
    return kept | {str(item.ReferencedSOPInstanceUID): int(item.FailureReason) for item in failed}


def test_commitment_hashes_the_kept_bytes_again(listening: Listen, store: Store) -> None:
    port = listening().port
    good_one, rotten = list(numbered(2))
    assert _stored(port, [good_one, rotten]) == [0, 0]
    (kept,) = store.objects.find(instance=str(rotten.SOPInstanceUID))
    content = kept.path.read_bytes()
    kept.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    reports: list[Dataset] = []

    def on_report(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_information)
        return 0x0000, None

    association = calling(port, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
    uids = [str(good_one.SOPInstanceUID), str(rotten.SOPInstanceUID), "1.2.3"]
    transaction = _asked(association, [(MR, uid) for uid in uids])
    assert _comes_true(lambda: bool(reports))
    association.release()
    assert reports[0].TransactionUID == transaction
    assert _reasons(reports[0]) == {uids[0]: 0, uids[1]: PROCESSING_FAILURE, uids[2]: NO_SUCH_OBJECT}


def test_commitment_follows_the_peer_that_has_hung_up(listening: Listen) -> None:
    reports: list[Dataset] = []

    def on_report(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_information)
        return 0x0000, None

    waiting = AE(ae_title="MODALITY")
    waiting.add_supported_context(PUSH_MODEL, scu_role=False, scp_role=True)
    server = waiting.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
    assert server is not None
    peers = {"MODALITY": Peer("127.0.0.1", server.socket.getsockname()[1])}
    association = calling(listening(peers=peers).port)
    _asked(association, [(MR, "1.2.3")])
    association.release()
    assert _comes_true(lambda: bool(reports))
    server.shutdown()
    assert _reasons(reports[0]) == {"1.2.3": NO_SUCH_OBJECT}


def test_sender_hears_that_its_objects_are_kept(listening: Listen, tmp_path: Path) -> None:
    results = write_results(tmp_path / "results")
    address = address_of(f"RECESS@127.0.0.1:{listening().port}")
    assert address is not None
    sent = send(outgoing(tmp_path / "results"), address, "READER", confirm_s=30)
    assert [one.file.path for one in sent] == results
    assert [(one.stored, one.confirmed) for one in sent] == [(True, True)] * 4


# sending


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "PACS@host:0", "PACS@host:70000", "A" * 17 + "@h:1", "a b@h:1"])
def test_wrong_address_is_not_taken_for_one(text: str) -> None:
    assert address_of(text) is None


def test_unreachable_peer_and_empty_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(SendError, match="no DICOM files"):
        outgoing(tmp_path)
    write_results(tmp_path)
    address = address_of(f"PACS@127.0.0.1:{free_port()}")
    assert address is not None
    with pytest.raises(SendError, match="cannot be reached"):
        send(outgoing(tmp_path), address)


# real peers


def _recess(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from service.cli import main; main()", *arguments]


_FETCH = """
import sys
from pathlib import Path
from dicom_io.dicomweb import DicomwebClient
with DicomwebClient(sys.argv[1]) as web:
    found = web.search("instances", {"limit": "100"})
    for item in found:
        uids = [item[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
        (content,) = web.retrieve(*uids)
        (Path(sys.argv[2]) / uids[2]).write_bytes(content)
"""


@pytest.mark.parametrize("way", ["C-STORE", "STOW"])
def test_archive_takes_the_results_and_returns_them_unchanged(tmp_path: Path, way: str) -> None:
    results = write_results(tmp_path / "results")
    (tmp_path / "back").mkdir()
    (tmp_path / "peer").mkdir()
    with orthanc(tmp_path / "peer") as archive:
        to = f"PEER@127.0.0.1:{archive.dicom_port}" if way == "C-STORE" else archive.root
        said = archive.run(*_recess("send", str(tmp_path / "results"), "--to", to))
        assert said.returncode == 0, said.stdout + said.stderr
        back = archive.run(sys.executable, "-c", _FETCH, archive.root, str(tmp_path / "back"))
        assert back.returncode == 0, back.stderr
    for path in results:
        ours = dcmread(path)
        theirs = dcmread(tmp_path / "back" / str(ours.SOPInstanceUID))
        assert theirs == ours
        assert theirs.get("PixelData") == ours.get("PixelData")
        assert theirs.get("EncapsulatedDocument") == ours.get("EncapsulatedDocument")


def test_shuffled_study_with_duplicates_over_eight_associations_is_one_study(
    listening: Listen, store: Store, tmp_path: Path
) -> None:
    if not _STORESCU.exists():
        pytest.skip("dcmtk is not installed")
    port = listening().port
    files = good(6)
    for number, (_, content) in enumerate(files):
        (tmp_path / f"{number:03d}").write_bytes(content)
    draw = random.Random(6)
    batches: list[list[str]] = [[] for _ in range(8)]
    for number in range(len(files)):
        for batch in draw.sample(batches, draw.choice([1, 1, 2, 3])):
            batch.append(str(tmp_path / f"{number:03d}"))
    senders = []
    for number, batch in enumerate(batches):
        draw.shuffle(batch)
        command = [str(_STORESCU), "-R", "-aet", f"SENDER{number // 4}", "-aec", "RECESS", "127.0.0.1", str(port)]
        senders.append(subprocess.Popen([*command, *batch], stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    for sender in senders:
        said, _ = sender.communicate()
        assert sender.returncode == 0, said
    study = str(dcmread(io.BytesIO(files[0][1])).StudyInstanceUID)
    assert enter_arrived(store, study) == ""
    total, (item,) = store.studies(10, 0, None, None)
    assert (total, item["objects"]) == (1, len(files))

    alone = Store(tmp_path / "alone")
    listener = listen(ListenerSettings("RECESS"), alone.objects.receive, alone.objects.confirm)
    in_order = [str(tmp_path / f"{number:03d}") for number in range(len(files))]
    subprocess.run([str(_STORESCU), "-R", "-aec", "RECESS", "127.0.0.1", str(listener.port), *in_order], check=True)
    listener.close()
    assert enter_arrived(alone, study) == ""
    _, (other,) = alone.studies(10, 0, None, None)
    assert alone.manifest_of(other["id"]) == store.manifest_of(item["id"])
    alone.close()


def test_peer_that_hangs_up_does_not_condemn_the_object_in_work(
    listening: Listen, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    examining, hung_up = threading.Event(), threading.Event()
    give = DecodingProcess.send

    def slowly(decoder: DecodingProcess, data: bytes) -> None:
        if data[128:132] == b"DICM":
            examining.set()
            assert hung_up.wait(60)
        give(decoder, data)

    monkeypatch.setattr(DecodingProcess, "send", slowly)
    association = calling(listening().port)
    sending = threading.Thread(target=association.send_c_store, args=(next(numbered(1)),))
    sending.start()
    assert examining.wait(60)
    connection: Any = association.dul.socket
    connection.socket.shutdown(socket.SHUT_RDWR)
    time.sleep(0.5)  # the listener sees the end of the connection meanwhile
    hung_up.set()
    sending.join()
    assert _comes_true(lambda: bool(store.objects.find()))
    ((kept,),) = (one["objects"] for one in store.objects.arrivals())
    assert (kept["state"], kept["code"]) == ("stored", "")
