"""Damaged files, and studies with another patient's values beside them, in numbers: `python -m tests.corpus.hostile`.

Prints one line a promise and fails unless nothing unexpected happened. `make test` runs fewer of the same.
"""

from __future__ import annotations

import argparse
import copy
import resource
import sys
from collections import Counter
from collections.abc import Iterable

import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from configs.loader import limits
from dicom_io.codes import OBJECT
from dicom_io.decoding_process import close
from dicom_io.intake import Entry
from dicom_io.isolation import Examined, examine_all
from tests.corpus.encodings import huge
from tests.corpus.files import deflated_bomb
from tests.corpus.mutation import mutations
from tests.corpus.small_study import File, datasets, encode

_CHILD_FAULTS = frozenset({"CHILD_TIME", "CHILD_PROTOCOL", "NOT_EXAMINED"})
BOMB_MIB, BOMB_SECONDS = 512, 2.0
_REFUSED = frozenset({"DECOMPRESSION_LIMIT", "DIMENSION_LIMIT"})
_COMPRESSED = {"run lengths": RLELossless, "JPEG 2000": JPEG2000Lossless, "JPEG-LS": JPEGLSLossless}
_BATCH = 500
_ROOT_UID = "1.2.826.0.1.3680043.10.1777"


def entries(files: Iterable[File]) -> list[Entry]:
    """Files in memory as intake hands them on."""
    return [Entry(name, lambda data=data: data) for name, data in files]  # type: ignore[misc]


def survive(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Examine `count` damaged files: how many got which code, and what was not as declared."""
    found: Counter[str] = Counter()
    unexpected: list[str] = []
    files = list(mutations(count, seed))
    for begin in range(0, count, _BATCH):
        batch = files[begin : begin + _BATCH]
        examined = list(examine_all(entries(batch)))
        if [item.name for item in examined] != [name for name, _ in batch]:
            unexpected.append(f"{begin}: objects lost")
        unexpected += [f"{item.name}: {item.verdict.code}" for item in examined if not _declared(item)]
        found.update(item.verdict.code or "accepted" for item in examined)
    return found, unexpected


def _declared(item: Examined) -> bool:
    verdict = item.verdict
    accepted = verdict.state == "accepted"
    return (
        verdict.state in ("accepted", "quarantined", "refused")
        and accepted == (verdict.code == "")
        and verdict.code in {"", *OBJECT}
        and verdict.code not in _CHILD_FAULTS
        and (item.pixels is None or accepted)
    )


def foreign_values(count: int, seed: int) -> tuple[int, list[str]]:
    """Studies of odd values beside studies of even ones, many cut short: how many pictures were seen, and foreign values in them."""
    rng = np.random.default_rng(seed)
    made: list[File] = []
    whole = [dataset for _, dataset in datasets(0)]
    for number in range(count):
        dataset = copy.deepcopy(whole[int(rng.integers(len(whole)))])
        dataset.StudyInstanceUID = f"{_ROOT_UID}.{number}"
        dataset.SOPInstanceUID = f"{dataset.StudyInstanceUID}.1"
        values = np.frombuffer(dataset.PixelData, "<u2") // 2 * 2 + number % 2
        dataset.PixelData = values.astype("<u2").tobytes()
        data = encode(dataset)
        if rng.random() < 0.5:
            data = data[: len(data) - int(rng.integers(1, len(dataset.PixelData)))]
        made.append((f"{number}", data))
    seen, unexpected = 0, []
    for number in range(0, count, 2):
        pair = entries(made[number : number + 2])
        first, second = examine_all(pair)
        if second.verdict.other_study:
            if second.pixels is not None:
                unexpected.append(f"{number + 1}: decoded by the child of study {number}")
            (second,) = examine_all(pair[1:], f"{_ROOT_UID}.{number + 1}")
        for own, item in enumerate((first, second)):
            if item.pixels is not None:
                seen += 1
                if not (item.pixels % 2 == own).all():
                    unexpected.append(f"{number + own}: foreign values")
    return seen, unexpected


def bombs() -> list[tuple[str, str, int, float]]:
    """Small objects that unfold to much: name, code, largest memory of a child so far in MiB, CPU seconds with the server's start."""
    made = [("deflated 1 GiB", deflated_bomb(1024))]
    made += [(f"65535 x 65535, {name}", huge(0, syntax)) for name, syntax in _COMPRESSED.items()]
    found = []
    for name, data in made:
        close()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        (item,) = examine_all(entries([(name, data)]))
        close()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append((name, item.verdict.code, after.ru_maxrss >> 10, seconds))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--studies", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    say = sys.stdout.write
    unfolded = bombs()  # first, since the largest memory of all children so far is what can be asked for
    grown = [each for each in unfolded if each[1] not in _REFUSED or each[2] >= BOMB_MIB or each[3] >= BOMB_SECONDS]
    most = f"{max(each[2] for each in unfolded)}MiB, {max(each[3] for each in unfolded):.1f}s"
    say(
        f"bombs.memory: inputs={len(unfolded)} outcome=rss<{BOMB_MIB}MiB_t<{BOMB_SECONDS:.0f}s unexpected={len(grown)} ({most})\n"
    )
    found, wrong = survive(options.mutations, options.seed)
    told = " ".join(f"{code}={number}" for code, number in found.most_common())
    say(f"fuzz.mutations: inputs={options.mutations} outcome=declared_no_crash unexpected={len(wrong)} ({told})\n")
    seen, foreign = foreign_values(options.studies, options.seed)
    say(
        f"fuzz.cross_patient_pixels: inputs={options.studies} outcome=0_foreign_values unexpected={len(foreign)} ({seen} pictures)\n"
    )
    close()  # its children are counted once they have ended
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    cap = limits().child.memory_bytes >> 20
    over = int(largest > cap)
    say(
        f"child.memory: inputs={options.mutations + options.studies} largest={largest}MiB cap={cap}MiB unexpected={over}\n"
    )
    for line in (*map(str, grown), *wrong, *foreign):
        say(f"  {line}\n")
    return 1 if grown or wrong or foreign or over else 0


if __name__ == "__main__":
    sys.exit(main())
