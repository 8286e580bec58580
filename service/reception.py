"""What the service does with objects that come in one by one: a DICOM listener, and studies entered when no more objects come.

A study is complete after a time without a further object (`study_quiet_s`); what comes later makes it wait and enter again, as a
new manifest. Time is measured by the monotonic clock, and begins anew at a restart.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from dicom_io import Study, read_outcomes
from dicom_io.errors import InputError
from service.settings import Settings
from service.store import Store
from service.uploads import enter_study

if TYPE_CHECKING:
    from dicom_io.network import Listener

_LOG = logging.getLogger("recess.reception")
_LOOK_S = 1.0  # how often arrivals are looked at


class Reception:
    """Listener and assembly of one service; `start` and `stop` belong to the service's own."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._seen: dict[str, tuple[int, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recess-reception", daemon=True)
        self._listener = None if settings.dicom_port is None else _listen(store, settings)

    @property
    def ready(self) -> bool:
        """Whether studies are entered, and objects taken if they should be."""
        return self._thread.is_alive() and (self._listener is None or self._listener.alive)

    def start(self) -> None:
        """Begin to enter studies."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and entering; what was acknowledged is entered after the next start."""
        self._stop.set()
        if self._listener is not None:
            self._listener.close()
        self._thread.join(5)

    def _work(self) -> None:
        pause = min(_LOOK_S, max(self._settings.study_quiet_s / 2, 0.05))
        while not self._stop.wait(pause):
            try:
                self._look()
            except SQLAlchemyError as error:  # a locked index is looked at again
                _LOG.error("arrivals cannot be read: %s", type(error).__name__)

    def _look(self) -> None:
        now = time.monotonic()
        waiting = self._store.objects.waiting()
        self._seen = {study: seen for study, seen in self._seen.items() if study in waiting}
        for study, count in waiting.items():
            before, since = self._seen.get(study, (-1, now))
            if count != before:
                self._seen[study] = (count, now)
            elif now - since >= self._settings.study_quiet_s:
                enter_arrived(self._store, study)


def enter_arrived(store: Store, study: str) -> str:
    """Enter the objects received for a study UID as a study; returns "" or the code why it cannot be read."""
    digests = store.objects.received_of(study)
    code = ""
    try:
        outcomes = read_outcomes([store.original(digest) for digest in digests])
        for outcome in outcomes:
            if isinstance(outcome, Study):
                enter_study(store, outcome, digests)
            else:
                code = outcome.code
    except InputError as error:
        code = error.code
    except (
        Exception
    ) as error:  # one study that cannot be entered must not hold up the others; the text may hold header text
        _LOG.error("a study could not be entered: %s", type(error).__name__)
        code = "INTERNAL"
    store.objects.entered(study, len(digests), code)
    _LOG.info("study of %d objects entered code=%s", len(digests), code)
    return code


def _listen(store: Store, settings: Settings) -> Listener:
    from dicom_io.commitment import Peer
    from dicom_io.network import ListenerSettings, listen
    from dicom_io.wire import client_tls, server_tls

    certificate, key, clients = settings.dicom_tls_certificate, settings.dicom_tls_key, settings.dicom_tls_clients
    own = server_tls(certificate, key, clients) if certificate and key and clients else None
    calling = client_tls(clients, certificate, key) if own is not None else None
    peers = {
        title: Peer(peer.host, peer.port, (calling or client_tls()) if peer.tls else None)
        for title, peer in settings.dicom_peers.items()
    }
    wanted = ListenerSettings(settings.ae_title, settings.dicom_host, settings.dicom_port or 0, own, peers)
    return listen(wanted, store.objects.receive, store.objects.confirm)
