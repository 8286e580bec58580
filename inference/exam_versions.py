"""Serial examinations of one patient: which one is the study's, which were entered after the findings were shown, what changed.

The first version that was locked before any finding of the program was shown is the study's (M-04); without a lock it is the newest.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from inference.clinical_input import ClinicalInputError, load_file
from inference.exam import Exam

LOCK = "meta.locked_at"
PATIENT = "meta.patient"
MAX_VERSIONS = 50
"""More versions than any course of one illness has; keeps a broken file from taking the program's time."""


class ExamVersions(BaseModel):
    """Versions of one patient's examination, oldest first; at least one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: tuple[Exam, ...]

    @property
    def of_study(self) -> int:
        """Index of the version that the study rests on: the first locked one, else the newest."""
        locked = [index for index, exam in enumerate(self.versions) if LOCK in exam.general]
        return locked[0] if locked else len(self.versions) - 1

    @property
    def newest(self) -> Exam:
        return self.versions[-1]

    def entered_after_findings(self, index: int) -> bool:
        """Whether a version came after the lock, and so may have been written with the findings in view."""
        return index > self.of_study

    def changed(self, index: int) -> tuple[str, ...]:
        """Entries (side:field) of a version that differ from the version before it, the lock left out."""
        if index == 0:
            return ()
        before, here = self.versions[index - 1], self.versions[index]
        out: list[str] = []
        for block in ("general", "right", "left"):
            old, new = getattr(before, block), getattr(here, block)
            fields = dict.fromkeys([*old, *new])
            out += [f"{block}:{name}" for name in fields if name != LOCK and old.get(name) != new.get(name)]
        return tuple(out)

    def with_version(self, exam: Exam) -> ExamVersions:
        """One version more. ClinicalInputError when it is the same as the newest, of another patient, or there are too many."""
        named = {one.general[PATIENT] for one in (*self.versions, exam) if PATIENT in one.general}
        if len(named) > 1:
            raise ClinicalInputError(f"general.{PATIENT}", exam.general[PATIENT], "the patient of the versions before")
        if exam == self.newest:
            raise ClinicalInputError("exam", "the newest version once more", "an examination that differs")
        if len(self.versions) >= MAX_VERSIONS:
            raise ClinicalInputError("versions", f"{len(self.versions) + 1} versions", f"at most {MAX_VERSIONS}")
        return ExamVersions(versions=(*self.versions, exam))

    def locked(self, now: dt.datetime) -> ExamVersions:
        """The newest version locked at a time. ClinicalInputError when a version is locked already."""
        if any(LOCK in exam.general for exam in self.versions):
            raise ClinicalInputError(f"general.{LOCK}", "a locked examination", "one lock; add a version instead")
        stamp = now.astimezone(dt.UTC).replace(microsecond=0).isoformat()
        newest = Exam.parse(
            {"left": self.newest.left, "right": self.newest.right, "general": self.newest.general | {LOCK: stamp}}
        )
        return ExamVersions(versions=(*self.versions[:-1], newest))

    def save(self, path: str | Path) -> None:
        """Write all versions as JSON (.json) or YAML, whole or not at all, so that `load_exam` gives the same ones."""
        plain = [exam.to_plain() for exam in self.versions]
        content: dict[str, Any] = plain[0] if len(plain) == 1 else {"versions": plain}
        path = Path(path)
        if path.suffix.lower() == ".json":
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        else:
            text = "\n".join(_yaml(content)) + "\n"
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def _yaml(content: dict[str, Any]) -> list[str]:
    if "versions" in content:
        out = ["versions:"]
        for number, version in enumerate(content["versions"], start=1):
            lines = _yaml(version) or ["general: {}"]
            out += [f"  # version {number}", f"  - {lines[0]}", *(f"    {line}" for line in lines[1:])]
        return out
    out = []
    for block, values in content.items():
        out.append(f"{block}:")
        out += [f"  {field}: {json.dumps(value, ensure_ascii=False)}" for field, value in values.items()]
    return out


def parse_exam(data: object, today: dt.date | None = None) -> Exam | ExamVersions:
    """One examination, or several under `versions`. ClinicalInputError names the version and the field."""
    if not isinstance(data, dict) or "versions" not in data:
        return Exam.parse(data, today=today)
    given = data["versions"]
    if set(data) != {"versions"}:
        raise ClinicalInputError("versions", sorted(set(data) - {"versions"}), "nothing beside versions")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_VERSIONS:
        raise ClinicalInputError("versions", given, f"a list of 1 to {MAX_VERSIONS} examinations, oldest first")
    exams: list[Exam] = []
    for number, item in enumerate(given, start=1):
        try:
            exams.append(Exam.parse(item, today=today))
        except ClinicalInputError as error:
            raise ClinicalInputError(f"versions[{number}].{error.path}", error.given, error.allowed) from error
    return ExamVersions(versions=tuple(exams))


def load_exam(path: str | Path, today: dt.date | None = None) -> Exam | ExamVersions:
    """Read a YAML or JSON file with one examination or with versions of it."""
    return parse_exam(load_file(Path(path)), today)


def series_of(entries: Sequence[object], analysed: tuple[int, str] | None = None) -> Exam | ExamVersions | None:
    """Examinations of one patient as they were entered, oldest first, for a keeper of entries such as the service.

    `analysed` is the index of the one with which findings were first asked for, and when (ISO time): it is locked then, unless
    one before it was locked by hand. What came before the lock are corrections. None without an entry.
    """
    exams = [Exam.parse(entry) for entry in entries]
    if not exams:
        return None
    by_hand = next((index for index, exam in enumerate(exams) if LOCK in exam.general), len(exams))
    first = min(by_hand, analysed[0] if analysed else len(exams))
    if first >= len(exams) - 1:
        return exams[-1]
    series = ExamVersions(versions=(exams[first],))
    if first < by_hand and analysed is not None:
        series = series.locked(dt.datetime.fromisoformat(analysed[1]))
    for exam in exams[first + 1 :]:
        series = series if exam == series.newest else series.with_version(exam)
    return series


def check_patient(exam: Exam | ExamVersions | None, pseudonym: str) -> None:
    """Refuse an examination that names another patient than the study. ClinicalInputError names the version and the field."""
    series = all_versions(exam).versions if exam is not None else ()
    for number, version in enumerate(series, start=1):
        named = version.general.get(PATIENT)
        if named not in (None, pseudonym):
            where = f"versions[{number}].general.{PATIENT}" if len(series) > 1 else f"general.{PATIENT}"
            raise ClinicalInputError(where, named, f"{pseudonym}, the patient of this study, or nothing")


def all_versions(exam: Exam | ExamVersions) -> ExamVersions:
    """Versions of an examination; a single one is its own first version."""
    return exam if isinstance(exam, ExamVersions) else ExamVersions(versions=(exam,))
