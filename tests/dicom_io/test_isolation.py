"""Untrusted bytes stay in the child: whatever happens there is a declared outcome, and the rest is read."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import pytest

import dicom_io.isolation
from configs.loader import ChildLimits, Limits, limits
from dicom_io import read_study
from dicom_io.errors import InputError, UnreadableInput
from dicom_io.study import Study
from tests.corpus.small_study import datasets, encode, good
from tests.dicom_io.conftest import Writer


def _with_child(monkeypatch: pytest.MonkeyPatch, **changes: float) -> None:
    child = ChildLimits.model_validate(limits().child.model_dump() | changes)
    bounds: Limits = limits().model_copy(update={"child": child})
    monkeypatch.setattr(dicom_io.isolation, "limits", lambda: bounds)


def test_a_child_that_hands_over_loses_nothing(
    on_disk: Writer, good_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_child(monkeypatch, cpu_share=0.5)
    study = read_study(on_disk(good(0)))
    assert study.manifest_sha256 == good_study.manifest_sha256
    for one, other in zip(study.stacks, good_study.stacks, strict=True):
        assert np.array_equal(one.volume.array, other.volume.array)


def test_a_child_out_of_time_is_an_outcome_and_not_a_crash(on_disk: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_child(monkeypatch, wall_seconds=0, max_restarts=1)
    with pytest.raises(UnreadableInput) as caught:
        read_study(on_disk(good(0)[:3]))
    assert {notice.code for notice in caught.value.notices} == {"CHILD_TIME", "NOT_EXAMINED"}


def test_a_child_without_memory_is_an_outcome_and_not_a_crash(on_disk: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_child(monkeypatch, memory_bytes=1 << 20, max_restarts=1)
    _, dataset = datasets(0)[0]
    dataset.Rows = dataset.Columns = 4096
    dataset.PixelData = bytes(4096 * 4096 * 2)
    with pytest.raises(UnreadableInput) as caught:
        read_study(on_disk([("large", encode(dataset))]))
    assert {notice.code for notice in caught.value.notices} <= {"CHILD_DIED", "LIMIT"}


def test_a_deflated_bomb_is_refused_before_it_unfolds(on_disk: Writer) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflater.compress(bytes(256 << 20)) + deflater.flush()
    syntax = b"1.2.840.10008.1.2.1.99"
    element = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    group = b"\x02\x00\x00\x00UL\x04\x00" + len(element).to_bytes(4, "little")
    study = read_study(on_disk([*good(0), ("bomb", bytes(128) + b"DICM" + group + element + body)]))
    assert "DECOMPRESSION_LIMIT" in {notice.code for notice in study.excluded}
    assert study.objects == 45


@pytest.mark.parametrize("depth", [17, 300, 5000])
def test_deeply_nested_sequences_are_refused_without_recursion(on_disk: Writer, depth: int) -> None:
    open_item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    close_item = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    data = encode(datasets(0)[0][1])
    at = data.index(b"\x08\x00\x16\x00UI")  # SOP Class UID opens the data set's own group
    nested = data[:at] + open_item * depth + close_item * depth + data[at:]
    study = read_study(on_disk([*good(0)[1:], ("deep", nested)]))
    assert "DEPTH" in {notice.code for notice in study.excluded}


def test_rows_beyond_all_measure_are_refused_before_allocation(on_disk: Writer) -> None:
    name, dataset = datasets(0)[0]
    dataset.Rows = dataset.Columns = 65535
    study = read_study(on_disk([*good(0)[1:], (name, encode(dataset))]))
    assert "DIMENSION_LIMIT" in {notice.code for notice in study.excluded}


def test_random_changes_of_bytes_never_escape(on_disk: Writer) -> None:
    rng = np.random.default_rng(5)
    files = []
    for name, data in good(0):
        changed = bytearray(data)
        for at in rng.integers(132, 1600, 3):
            changed[at] = int(rng.integers(0, 256))
        files.append((name, bytes(changed)))
    outcome = _read_or_error(on_disk(files))
    if isinstance(outcome, Study):
        assert all(np.isfinite(stack.volume.array).all() for stack in outcome.stacks)
    else:
        assert outcome.code


def _read_or_error(folder: Path) -> Study | InputError:
    try:
        return read_study(folder)
    except InputError as error:
        return error


def test_a_file_that_grows_while_it_is_read_is_not_taken(
    on_disk: Writer, good_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = on_disk([*good(0), ("growing", good(0)[0][1] + b"\0")])
    growing = next(path for path in folder.iterdir() if path.stat().st_size == len(good(0)[0][1]) + 1)
    opened = os.fdopen

    def grown(descriptor: int, mode: str) -> IO[bytes]:
        if os.fstat(descriptor).st_ino == growing.stat().st_ino:
            with growing.open("ab") as stream:
                stream.write(b"more")
        return opened(descriptor, mode)

    monkeypatch.setattr("dicom_io.intake.os.fdopen", grown)
    study = read_study(folder)
    assert {notice.code for notice in study.excluded} == {"GROWING"}
    assert study.manifest_sha256 == good_study.manifest_sha256
