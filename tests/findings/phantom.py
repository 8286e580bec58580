"""A simulated person as a study that the recipes of tests/corpus can be applied to: fifteen slices in each of three series.

The axial slices lie in three stacks of five through L3-L4, L4-L5 and L5-S1, as small as the reader accepts.
"""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.corpus import files, geometry, small_study
from training.phantom import draw_anatomy
from training.phantom.demo import SEED
from training.phantom.study import PROTOCOLS, TRUTH_LEVELS, Protocol, render_study

PEOPLE = (SEED, 9_500_204)
"""Seeds of the simulated persons; no seeds of training or evaluation."""
_STUDY_UIDS = tuple(f"1.2.826.0.1.3680043.10.1999.{number + 501}" for number in range(len(PEOPLE)))
_NAMES = {"sagittal_t1": "sagT1", "sagittal_t2": "sagT2", "axial_t2": "axT2"}
_PROTOCOL = Protocol(
    15, 256, (1.05, 1.10), (4.2, 4.8), "angled", (5, 5), 224, (0.70, 0.72), (4.0, 4.4), TRUTH_LEVELS[2:]
)


class NotDrawnError(Exception):
    """A recipe that draws pictures of its own cannot be applied to this person."""


def person_of(study_instance_uid: str) -> int:
    """Which of the simulated persons a study is of. ValueError for another study."""
    return _STUDY_UIDS.index(study_instance_uid)


def datasets(seed: int) -> list[tuple[str, Dataset]]:
    """Name ("axT2/003") and data set of every object of the study of person `seed`, free to be changed."""
    return [(name, copy.deepcopy(dataset)) for name, dataset in _datasets(seed)]


@cache
def _datasets(seed: int) -> list[tuple[str, Dataset]]:
    person = PEOPLE[seed]
    made = []
    with tempfile.TemporaryDirectory() as name, patch.dict(PROTOCOLS, {"catalogue": _PROTOCOL}):
        render_study(draw_anatomy(person), Path(name), seed=person, protocol="catalogue", with_truth=False)
        for folder, series in _NAMES.items():
            slices = [dcmread(io.BytesIO(path.read_bytes())) for path in Path(name, folder).iterdir()]
            slices.sort(key=lambda dataset: int(dataset.InstanceNumber))
            for number, dataset in enumerate(slices):
                made.append((f"{series}/{number:03d}", _plain(dataset, seed, len(made))))
    return made


def _plain(read: Dataset, seed: int, number: int) -> Dataset:
    """The data set without its file, with short UIDs: recipes lengthen them, and those of the simulation have full length."""
    dataset = Dataset()
    dataset.update({element.tag: element for element in read})
    study = _STUDY_UIDS[seed]
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, f"{study}.99"
    dataset.SeriesInstanceUID = f"{study}.{dataset.SeriesNumber}"
    dataset.SOPInstanceUID = f"{study}.{dataset.SeriesNumber}.{number + 1}"
    return dataset


@cache
def _encoded(seed: int) -> tuple[small_study.File, ...]:
    return tuple((name, small_study.encode(dataset)) for name, dataset in _datasets(seed))


@contextmanager
def recipes_on_phantom() -> Iterator[None]:
    """Within, the recipes of tests/corpus change the simulated person's study; those that draw raise NotDrawnError."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NotDrawnError

    with ExitStack() as stack:
        stack.enter_context(patch.object(small_study, "_datasets", _datasets))
        # what the drawn study left in the cache must not be taken for this person's, nor the other way about
        stack.enter_context(patch.object(small_study, "_good", _encoded))
        for module in (small_study, geometry, files):
            for drawing in ("dataset_of", "study_series"):
                if hasattr(module, drawing):
                    stack.enter_context(patch.object(module, drawing, refuse))
        yield
