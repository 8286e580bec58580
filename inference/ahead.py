"""Loads the networks and the libraries that write results in a thread, while the study is still being read.

Importing torch and MONAI takes seconds in which the reading of a study mostly waits for its decoding process.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.analyze import Engine

_LIBRARIES = ("torch", "monai.networks.nets", "inference.analyze")
_WRITERS = {
    "html": ("inference.render.html",),
    "pdf": ("inference.render.pdf",),
    "seg": ("dicom_io.seg",),
    "sr": ("dicom_io.sr",),
    "sc": ("dicom_io.captures", "inference.render.pdf"),
}
"""What writes each format, for `inference.save`."""


@contextmanager
def engine_ahead(device: str, formats: Sequence[str] = ()) -> Iterator[Callable[[], Engine]]:
    """Begin to load the engine; the function that is yielded waits for it and raises what `Engine.load` raises.

    What writes `formats` is imported after it. On leaving, what has not begun is not begun any more.
    """
    given_up = Event()

    def begin(names: Sequence[str]) -> None:
        for name in names:
            if not given_up.is_set():
                import_module(name)

    def load() -> Engine:
        begin(_LIBRARIES)
        if given_up.is_set():
            raise RuntimeError("the engine was not waited for")
        from inference.analyze import Engine

        engine = Engine.load(device=device)
        gc.freeze()  # what was loaded stays: the collector need not look through it at every turn
        return engine

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        engine = thread.submit(load)
        thread.submit(begin, [module for name in formats for module in _WRITERS.get(name, ())])
        try:
            yield engine.result
        finally:
            given_up.set()
