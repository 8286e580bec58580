"""How often pictures that belong elsewhere are noticed: `python -m tests.corpus.outliers`.

Simulated persons, every slice of every T2 stack in turn: a picture of another person, two pictures exchanged; and how many
untouched stacks are complained of. Intervals: Wilson, 95 %.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from dicom_io.geometry import Volume
from inference.continuity import Continuity, check_continuity
from tests.corpus.planes import person, with_slice_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=4)
    persons = parser.parse_args().persons
    pairs = [pair for number in range(persons) for pair in _pairs(number, (number + 1) % persons)]
    untouched = [check_continuity(volume) != Continuity() for volume, _ in pairs]
    foreign = [
        (check_continuity(with_slice_of(volume, other, at)), at)
        for volume, other in pairs
        for at in range(volume.grid.shape[0])
    ]
    exchanged = [
        check_continuity(_exchanged(volume, *two))
        for volume, _ in pairs
        for two in combinations(range(volume.grid.shape[0]), 2)
    ]
    sys.stdout.write(_line("untouched stacks complained of", untouched))
    sys.stdout.write(_line("a slice of another person: noticed", [found != Continuity() for found, _ in foreign]))
    sys.stdout.write(
        _line("a slice of another person: that slice named", [found.outliers == (at,) for found, at in foreign])
    )
    sys.stdout.write(_line("two pictures exchanged: noticed", [found != Continuity() for found in exchanged]))
    return 1 if any(untouched) else 0


def _pairs(one: int, other: int) -> Iterator[tuple[Volume, Volume]]:
    """T2 stacks of one person with those of another that have their matrix."""
    first, second = ([planes[0], *planes[1]] for planes in (person(one), person(other)))
    for mine, theirs in zip(first, second, strict=False):
        if mine.array.shape[1:] == theirs.array.shape[1:]:
            yield mine, theirs


def _exchanged(volume: Volume, first: int, second: int) -> Volume:
    array = volume.array.copy()
    array[[first, second]] = array[[second, first]]
    return replace(volume, array=array)


def _line(name: str, seen: list[bool]) -> str:
    count, hits, z = len(seen), sum(seen), 1.96
    middle = (hits + z * z / 2) / (count + z * z)
    half = z * math.sqrt(hits * (count - hits) / count + z * z / 4) / (count + z * z)
    return f"{name}: {hits}/{count} = {hits / count:.3f} ({max(middle - half, 0):.3f}-{min(middle + half, 1):.3f})\n"


if __name__ == "__main__":
    sys.exit(main())
