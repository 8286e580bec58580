"""The originals of a store: files under the SHA-256 of their bytes, durable once they are kept.

A file is synced, renamed into its folder, and the folder synced. For many files at once the syncs of files run side by side and each
folder is synced once, after the last rename into it: a disk waits for a sync, and not for many.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_SYNCS_AT_A_TIME = 8
"""More in flight gain nothing on the disks tried, and each holds a file open."""


class Originals:
    """The folder of originals. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def path_of(self, digest: str) -> Path:
        """Where the original with this digest lies."""
        return self._root / digest[:2] / digest

    def keep(self, paths: Sequence[Path]) -> tuple[str, ...]:
        """Move files of the same file system into the originals; returns their digests, in order, once all of them are durable.

        A file that is there already is replaced by the same bytes: so nothing is said to be kept that another thread has
        renamed and not yet synced, and a damaged copy is healed. Raises OSError; then some may have been moved and none counts as kept.
        """
        if len(paths) == 1:
            digests = [_synced(paths[0])]
        else:
            with ThreadPoolExecutor(_SYNCS_AT_A_TIME) as pool:
                digests = list(pool.map(_synced, paths))
        folders = sorted({self.path_of(digest).parent for digest in digests})
        for folder in folders:
            folder.mkdir(exist_ok=True)
        for path, digest in zip(paths, digests, strict=True):
            path.replace(self.path_of(digest))
        if len(folders) == 1:
            sync(folders[0])
        else:
            with ThreadPoolExecutor(_SYNCS_AT_A_TIME) as pool:
                list(pool.map(sync, folders))
        sync(self._root)
        return tuple(digests)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _synced(path: Path) -> str:
    """Sync a file; returns the SHA-256 of its bytes."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        os.fsync(stream.fileno())
    return digest
