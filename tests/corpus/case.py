"""What a bad study is made of and what must become of it; `judge` reads it and says what differs from the declared outcome.

A case starts from the good study of tests/corpus/small_study.py. Class ids are grouped as F files, I identity, G geometry,
P pixels, S scope.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from dicom_io import ingest, read_outcomes
from dicom_io.errors import InputError, NoUsableSeries
from dicom_io.isolation import Examined, examine_all
from dicom_io.study import Stack, Study
from tests.corpus.small_study import File, good
from tests.corpus.truth import misplaced_mm

Place = Callable[[Path], Path]
Made = Sequence[File] | Place
MOST_MISPLACED_MM = 0.5

# Whether an object with this code is kept aside or not kept at all. What has no line here is decided by series and studies.
STATES = dict.fromkeys(
    (
        *(
            "EMPTY",
            "NOT_DICOM",
            "TRUNCATED",
            "LENGTH_INVALID",
            "DEPTH",
            "TOO_MANY_ELEMENTS",
            "ELEMENT_TOO_LARGE",
            "TOO_LARGE",
        ),
        *(
            "DECOMPRESSION_LIMIT",
            "DIMENSION_LIMIT",
            "UID_MISSING",
            "UID_MALFORMED",
            "NOT_REGULAR",
            "GROWING",
            "DICOMDIR_PATH",
        ),
        *("ARCHIVE_LIMIT", "ARCHIVE_INVALID"),
    ),
    "refused",
) | dict.fromkeys(
    (
        *(
            "PIXEL_LENGTH",
            "TRAILING_BYTES",
            "TAG_DUPLICATE",
            "VR_INVALID",
            "SYNTAX_MISMATCH",
            "SYNTAX_UNKNOWN",
            "DECODE",
        ),
        *("META_UID_MISMATCH", "PIXEL_FORMAT", "JPEG_12_BITS", "INTERNAL"),
    ),
    "quarantined",
)


@dataclass(frozen=True)
class Expect:
    """The declared outcome. Exactly `codes` are told, and for every study `outcome`: "read", "none" or "unreadable".

    `code` is that of a study or input that is not read. `changed` names the series (of the good study) that may differ from
    the good study's; all others must be read exactly alike. `studies` is how many studies are read. `same`: nothing at all
    may differ; `close`: pixels may differ, places and roles not. `without`: no stack plays one of these roles. `first`: the
    first choice for axial T2 is of this series (the last part of its UID).
    """

    outcome: str = "read"
    codes: frozenset[str] = frozenset()
    code: str = ""
    changed: tuple[str, ...] = ()
    same: bool = False
    close: bool = False
    studies: int = 1
    without: tuple[str, ...] = ()
    first: str = ""


@dataclass(frozen=True)
class Case:
    """One way of going wrong: class id, what it is in words, `make(seed)` and the declared outcome.

    `check(seed)` judges classes whose outcome is no reading of a folder: "" when as declared in `outcome`, else what differs.
    `needs`: a program without which the input cannot be made.
    """

    id: str
    name: str
    make: Callable[[int], Made] = good
    expect: Expect = Expect()
    costly: bool = False
    check: Callable[[int], str] | None = None
    outcome: str = ""
    needs: str = ""

    def declared(self) -> str:
        """The declared outcome in words."""
        if self.outcome:
            return self.outcome
        expect, codes = self.expect, " ".join(sorted(self.expect.codes))
        told = f" with {codes}" if codes else ""
        if expect.outcome != "read":
            return f"{'nothing is read' if expect.outcome == 'none' else 'refused'}: {expect.code}" + told
        if expect.studies > 1:
            return f"{expect.studies} studies{told}"
        if expect.same or expect.close:
            return f"read {'alike' if expect.same else 'alike but for pixel values'}{told}"
        return f"read{told}" + (f"; {' '.join(expect.changed)} may differ" if expect.changed else "")


def read(*codes: str, changed: Sequence[str] = (), without: Sequence[str] = ()) -> Expect:
    """The study is read and told with `codes`; only the `changed` series may differ; no stack plays a role of `without`."""
    return Expect(codes=frozenset(codes), changed=tuple(changed), without=tuple(without))


def same(*codes: str) -> Expect:
    """The study is read exactly like the good one, told with `codes`."""
    return Expect(codes=frozenset(codes), same=True)


def close(*codes: str) -> Expect:
    """Roles and places are those of the good study; pixel values may differ."""
    return Expect(codes=frozenset(codes), close=True, changed=("sagT1", "sagT2", "axT2"))


def abstained(code: str, *codes: str) -> Expect:
    """No study is read; the refusal has `code` and names `codes`."""
    return Expect("none", frozenset(codes), code)


def unreadable(code: str = "UNREADABLE", *codes: str) -> Expect:
    """The input as a whole is refused."""
    return Expect("unreadable", frozenset(codes), code)


@cache
def good_study(seed: int) -> Study:
    """The good study of a seed as it is read."""
    (study,) = outcomes_of(list(good(seed)), seed)
    assert isinstance(study, Study)
    return study


def judge(case: Case, seed: int) -> str:
    """Make, read and compare: "" when the outcome is the declared one, else what differs."""
    if case.check is not None:
        return case.check(seed)
    wrong: set[str] = set()
    try:
        with mock.patch.object(ingest, "examine_all", lambda *told: _watched(wrong, *told)):
            outcomes = outcomes_of(case.make(seed), seed)
    except InputError as error:
        return _compared_refusal(case.expect, "unreadable", error)
    if wrong:
        return f"objects {sorted(wrong)}"
    read_ones = [outcome for outcome in outcomes if isinstance(outcome, Study)]
    if not read_ones:
        refusal = outcomes[0]
        assert isinstance(refusal, NoUsableSeries)
        return _compared_refusal(case.expect, "none", refusal)
    return _compared_studies(case.expect, read_ones, seed)


def _watched(wrong: set[str], *told: Any) -> Iterator[Examined]:
    """Examine, and note objects whose state is not the declared one for their code."""
    for item in examine_all(*told):
        verdict = item.verdict
        if verdict.state != STATES.get(verdict.code, verdict.state) or (verdict.state == "accepted") != (
            not verdict.code
        ):
            wrong.add(f"{verdict.code} {verdict.state}")
        yield item


def codes_of(study: Study) -> set[str]:
    """All codes told about a study and its stacks."""
    told = {notice.code for notice in (*study.excluded, *study.warnings)}
    return told | {notice.code for stack in study.stacks for notice in stack.warnings}


def outcomes_of(made: Made, seed: int) -> list[Study | NoUsableSeries]:
    """What becomes of the files, written under names and in an order that say nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "study")
        folder.mkdir()
        return read_outcomes(made(folder) if callable(made) else written(made, folder, seed))


def written(files: Sequence[File], folder: Path, seed: int) -> Path:
    """Write files in an order and under names that say nothing."""
    shuffled = list(files)
    random.Random(seed).shuffle(shuffled)
    for number, (_, data) in enumerate(shuffled):
        (folder / f"IM{number:05d}").write_bytes(data)
    return folder


def _compared_refusal(expect: Expect, outcome: str, error: InputError) -> str:
    if (outcome, error.code) != (expect.outcome, expect.code):
        return f"{outcome}({error.code}) instead of {expect.outcome}({expect.code})"
    told = {notice.code for notice in error.notices}
    return "" if told == expect.codes else f"tells {sorted(told)} instead of {sorted(expect.codes)}"


def _compared_studies(expect: Expect, studies: Sequence[Study], seed: int) -> str:
    if expect.outcome != "read":
        return f"read instead of {expect.outcome}({expect.code})"
    if len(studies) != expect.studies:
        return f"{len(studies)} studies instead of {expect.studies}"
    told = set().union(*(codes_of(study) for study in studies))
    if told != expect.codes:
        return f"tells {sorted(told)} instead of {sorted(expect.codes)}"
    base = good_study(seed)
    study = studies[0]
    played = set(study.roles) & set(expect.without)
    if played:
        return f"{sorted(played)} is there"
    if expect.first and not study.with_role("axial_t2")[0].series_instance_uid.endswith(f".{expect.first}"):
        return "another axial series is the first choice"
    for series in ("sagT1", "sagT2", "axT2"):
        if series not in expect.changed and not _alike(_of(study, series), _of(base, series)):
            return f"{series} is not read like that of the good study"
    if expect.close and _roles(study) != _roles(base):
        return f"roles {_roles(study)} instead of {_roles(base)}"
    if expect.same and len(study.stacks) != len(base.stacks):
        return f"{len(study.stacks)} stacks instead of {len(base.stacks)}"
    for each in studies:
        for stack in each.stacks:
            error = 0.0 if stack.role in ("localizer", "other") else misplaced_mm(stack)
            if not error <= MOST_MISPLACED_MM:
                return f"{stack.role} of {stack.volume.grid.shape[0]} slices lies {error:.2f} mm off with codes {sorted(told)}"
    return ""


def _roles(study: Study) -> list[tuple[str, int]]:
    return [(role, len(stacks)) for role, stacks in sorted(study.roles.items()) if role not in ("other", "localizer")]


_ROLE = {"sagT1": "sagittal_t1", "sagT2": "sagittal_t2", "axT2": "axial_t2"}


def _of(study: Study, series: str) -> list[Stack]:
    """Stacks of one series of the good study, known by role, in an order of places."""
    stacks = study.with_role(_ROLE[series])
    return sorted(stacks, key=lambda stack: tuple(np.round(stack.volume.grid.affine[:3, 3], 2)))


def _alike(stacks: Sequence[Stack], others: Sequence[Stack]) -> bool:
    return len(stacks) == len(others) and all(
        one.volume.array.shape == other.volume.array.shape
        and np.array_equal(one.volume.array, other.volume.array)
        and np.allclose(one.volume.grid.affine, other.volume.grid.affine, atol=1e-3)
        for one, other in zip(stacks, others, strict=True)
    )
