"""Damaged and hostile files at random: every one has a declared outcome, the child stays under its caps, nobody's values mix."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from dicom_io import read_outcomes
from dicom_io.errors import InputError
from dicom_io.isolation import examine_all
from dicom_io.study import Study
from tests.corpus.hostile import BOMB_MIB, BOMB_SECONDS, entries, foreign_values, survive
from tests.corpus.mutation import canaries, with_canaries
from tests.corpus.small_study import File, datasets, encode, good


def test_a_thousand_damaged_files_all_have_a_declared_outcome() -> None:
    found, unexpected = survive(1000, seed=1)
    assert unexpected == []
    assert found["accepted"] > 50
    assert len(found) > 8
    assert found["CHILD_DIED"] == 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
def test_ten_thousand_damaged_files_all_have_a_declared_outcome(seed: int) -> None:
    found, unexpected = survive(1000, seed)
    assert unexpected == []
    assert found["CHILD_DIED"] <= 2  # a decoder that crashes is an outcome too, and rare


def test_one_bit_in_a_slice_never_moves_it_in_silence() -> None:
    """A flip in position, direction or spacing of one slice: the slice is left out with a code, or nothing changed."""
    rng = np.random.default_rng(3)
    files = [file for file in good(0) if file[0].startswith("sagT2")]
    base = {item.name: item for item in examine_all(entries(files))}
    for _ in range(6):
        at = int(rng.integers(len(files)))
        name, data = files[at]
        damaged = bytearray(data)
        position = data.index(b"\x20\x00\x32\x00DS") + 8 + int(rng.integers(0, 16))
        damaged[position] ^= 1 << int(rng.integers(8))
        outcome = _read([*files[:at], (name, bytes(damaged)), *files[at + 1 :]])
        if isinstance(outcome, Study):
            codes = {n.code for n in outcome.excluded} | {n.code for s in outcome.stacks for n in s.warnings}
            for stack in outcome.stacks:
                for number, instance in enumerate(stack.volume.instances):
                    header = next(i.verdict.header for i in base.values() if i.verdict.header is not None
                                  and i.verdict.header.sop_instance_uid == instance.sop_instance_uid)  # fmt: skip
                    told = stack.volume.grid.to_lps(np.array([number, 0.0, 0.0]))
                    assert np.linalg.norm(told - np.array(header.frames[0].position)) < 0.3 or codes


def _read(files: list[File]) -> Study | InputError:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for number, (_, data) in enumerate(files):
            Path(folder, f"{number:04d}").write_bytes(data)
        try:
            (outcome,) = read_outcomes(folder)
        except InputError as error:
            return error
        return outcome


_PROBE = "from tests.corpus.hostile import bombs; import json; print(json.dumps(bombs()))"


def test_bombs_are_refused_with_little_memory_and_time() -> None:
    """In a process of its own, so that no other child's memory counts."""
    result = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True)
    for name, code, mebibytes, seconds in json.loads(result.stdout):
        assert code in ("DECOMPRESSION_LIMIT", "DIMENSION_LIMIT"), name
        assert mebibytes < BOMB_MIB, name
        assert seconds < BOMB_SECONDS, name


def test_no_value_of_another_patient_in_forty_studies() -> None:
    seen, unexpected = foreign_values(40, 0)
    assert unexpected == []
    assert seen >= 8


@pytest.mark.soak
def test_no_value_of_another_patient_in_two_thousand_studies() -> None:
    seen, unexpected = foreign_values(2000, 1)
    assert unexpected == []
    assert seen >= 400


def test_planted_texts_appear_in_no_message_log_or_file_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Forty tokens: what a refusal, a notice, a log line or a printed line says is about codes, never about the person."""
    tokens = canaries()
    assert len(tokens) >= 40
    caplog.set_level(logging.DEBUG)
    heard = io.StringIO()
    rng = np.random.default_rng(0)
    files = []
    for number, (name, dataset) in enumerate(datasets(0)):
        data = encode(with_canaries(dataset, tokens))
        if number % 3 == 0:
            data = data[: int(rng.integers(200, len(data)))]
        elif number % 3 == 1:
            damaged = bytearray(data)
            damaged[int(rng.integers(140, 1500))] ^= 0x55
            data = bytes(damaged)
        files.append((name, data))
    with redirect_stdout(heard), redirect_stderr(heard):
        outcomes = [_read(files), _read([(n, encode(with_canaries(d, tokens))) for n, d in datasets(0)])]
    texts = [heard.getvalue(), caplog.text]
    for outcome in outcomes:
        if isinstance(outcome, Study):
            told = (*outcome.excluded, *outcome.warnings, *(n for stack in outcome.stacks for n in stack.warnings))
            texts += [str(notice) for notice in told] + [outcome.patient.pseudonym, outcome.manifest_sha256]
            texts += [stack.reason for stack in outcome.stacks]
        else:
            texts += [str(outcome), repr(outcome), *(str(notice) for notice in outcome.notices)]
    everything = "\n".join(texts)
    assert not [token for token in tokens.values() if any(form in everything for form in _forms(token))]
    sys.stderr.write(f"phi.canaries: inputs={len(tokens)} outcome=0_hits unexpected=0\n")


def _forms(token: str) -> list[str]:
    """A text as it might slip through: plain, in UTF-16, and both in hexadecimal and base64."""
    written = [token.encode(), token.encode("utf-16-le")]
    coded = [base64.b64encode(each).decode().rstrip("=")[:-1] for each in written]
    return [token, "\0".join(token), *(each.hex() for each in written), *coded]
