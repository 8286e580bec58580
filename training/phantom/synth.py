"""Makes many simulated studies, one folder per seed, over several processes.

Each seed is its own person; a folder that already holds truth.json is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from training.phantom.anatomy import draw_anatomy
from training.phantom.settings import phantom_settings
from training.phantom.study import PROTOCOLS, render_study


def synthesise(
    out_dir: Path,
    count: int,
    first_seed: int = 0,
    *,
    workers: int = 1,
    protocol: str | None = None,
    with_labels: bool = False,
) -> Iterator[Path]:
    """Write studies of seeds first_seed .. first_seed + count - 1 and yield each folder when it is complete.

    `protocol` None alternates "block" and "angled" by seed; "beyond" draws persons and scanners outside the ranges of training.
    ValueError for a count below 1 or an unknown protocol.
    """
    if count < 1 or workers < 1:
        raise ValueError("count and workers start at 1")
    if protocol is not None and protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    seeds = range(first_seed, first_seed + count)
    if workers == 1:
        for seed in seeds:
            yield make_study(out_dir, seed, protocol, with_labels)
        return
    # spawned, because a forked child of a process that has used torch may hang
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(make_study, out_dir, seed, protocol, with_labels) for seed in seeds]
        for job in as_completed(jobs):
            yield job.result()


def make_study(out_dir: Path, seed: int, protocol: str | None, with_labels: bool) -> Path:
    """Write the study of one seed, unless it is there with all that is asked for; returns its folder."""
    folder = out_dir / f"phantom-{seed:05d}"
    if not (folder / "truth.json").is_file() or (with_labels and not (folder / "labels.npz").is_file()):
        chosen = protocol or ("block", "angled")[seed % 2]
        person = draw_anatomy(seed, settings=phantom_settings(beyond=chosen == "beyond"))
        render_study(person, folder, seed=seed, protocol=chosen, with_labels=with_labels)
    return folder
