"""The background worker: one analysis at a time, by the same functions as the command line, from a queue that survives restarts.

A result is written to a folder beside its place and renamed whole. What was running at a stop runs again; what stops the service
every time is given up with a reason.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from inference.provenance import result_key
from service.store import Entries, Job, Store

if TYPE_CHECKING:
    from dicom_io.study import Study
    from inference.analyze import Engine, Reading
    from inference.exam import Exam
    from inference.exam_versions import ExamVersions
    from inference.second_read import FirstRead

_LOG = logging.getLogger("recess.jobs")
_MOST_ATTEMPTS = 3
_IDLE_S = 1.0  # how often an idle worker looks for work that was queued by another process
FORMATS = ("json", "html", "pdf", "seg", "sr")


class ChangedInputError(Exception):
    """The study is no longer the one that the analysis was asked for; a new analysis takes the new objects in."""


def analysis_id(
    manifest_sha256: str, exam: Exam | ExamVersions | None, first_read: FirstRead | None, language: str = "en"
) -> str:
    """Id of the analysis of these inputs by this software: equal inputs give equal ids."""
    from inference.doctor import shipped_models

    return result_key(manifest_sha256, shipped_models(), plain(exam), plain(first_read), language)[:32]


def plain(entered: Exam | ExamVersions | FirstRead | None) -> str:
    """What a person entered, as the text that the result key is made from."""
    return entered.model_dump_json() if entered is not None else ""


class Worker:
    """A thread that works through the queue until it is stopped. `engine` is loaded at the first job unless it is given."""

    def __init__(self, store: Store, device: str = "auto", engine: Engine | None = None) -> None:
        self._store = store
        self._device = device
        self._engine = engine
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recess-worker", daemon=True)

    def start(self) -> None:
        """Put interrupted analyses back into the queue and begin."""
        self._store.requeue_interrupted(_MOST_ATTEMPTS)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the thread to end; an analysis in progress is left to run again at the next start."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def wake(self) -> None:
        """Say that something was queued."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while not self._stop.is_set():
            job = self._next()
            if job is None:
                self._wake.wait(_IDLE_S)
                self._wake.clear()
                continue
            self._run(job)

    def _next(self) -> Job | None:
        """The next job; None also while the index cannot be written, which is looked at again after a moment."""
        try:
            return self._store.claim()
        except SQLAlchemyError as error:
            _LOG.error("the queue cannot be read: %s", type(error).__name__)
            return None

    def _run(self, job: Job) -> None:
        try:
            reading = self._read(job)
            _keep_result(reading, self._store.results / job.id)
            self._store.objects.add_made(self._store.results / job.id)
        except _Stopped:
            return
        except Exception as error:
            # the text of an error can hold what stood in a file; class and job are enough to find it
            _LOG.error("analysis %s failed: %s", job.id, type(error).__name__)
            _LOG.debug("analysis %s", job.id, exc_info=True)
            self._store.end(job.id, "failed", error=type(error).__name__)
            return
        report = reading.report
        tier = report.triage.tier if report.triage else None
        flags = sum(finding.flagged for finding in report.findings)
        self._store.end(job.id, report.status, tier=tier, flags=flags, error=report.abstained_reason)

    def _read(self, job: Job) -> Reading:
        from inference.analyze import Engine, analyze

        self._tell(job.id, "reading files", 0.0)
        study = study_of(list(job.originals), job.pseudonym)
        if study.manifest_sha256 != job.manifest_sha256:
            raise ChangedInputError("objects came in after this analysis was asked for")
        exam, first_read = examination(job.exam), parse_first_read(job.first_read)
        if self._engine is None:
            self._tell(job.id, "loading the networks", 0.0)
            self._engine = Engine.load(device=self._device)
        return analyze(
            study,
            exam=exam,
            first_read=first_read,
            engine=self._engine,
            progress=lambda step, fraction: self._tell(job.id, step, fraction),
            language=job.language,
        )

    def _tell(self, analysis: str, step: str, fraction: float) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._store.progress(analysis, step, fraction)


class _Stopped(Exception):  # noqa: N818 (not an error: the service ends)
    """Raised inside a job when the service is asked to end."""


def study_of(originals: list[Path], pseudonym: str) -> Study:
    """The study with this pseudonym in the kept originals. Raises NoUsableSeries as the reader does."""
    from dicom_io import Study, read_outcomes

    outcomes = read_outcomes(originals)
    for outcome in outcomes:
        if isinstance(outcome, Study) and outcome.patient.pseudonym == pseudonym:
            return outcome
    raise next(o for o in outcomes if not isinstance(o, Study))


def examination(entries: Entries) -> Exam | ExamVersions | None:
    """The examination of a study: one, or several versions once an analysis was asked for with an earlier one."""
    from inference.exam_versions import series_of

    return series_of(entries.bodies, entries.analysed)


def parse_first_read(body: Any) -> FirstRead | None:
    """The first read in a request or row; None when there is none."""
    if body is None:
        return None
    from inference.second_read import FirstRead

    return FirstRead.parse(body)


def _keep_result(reading: Reading, folder: Path) -> None:
    """Write the result's files beside their place and rename the folder; a result that is there already stays."""
    if folder.exists():
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    reading.save(partial, FORMATS)
    for path in partial.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    partial.rename(folder)
