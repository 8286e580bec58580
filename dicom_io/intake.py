"""Lists what was handed in (folder, zip, files) and reads it under limits, without interpreting a byte of it.

Archives are never unpacked to disk: each entry is inflated into memory and counted while it grows, so no name inside
an archive can reach a path. Limits: configs/limits.toml, [object] and [archive] (specified ratios and sizes).
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from configs.loader import Limits, limits
from dicom_io.errors import InputError, UnreadableInput

_CHUNK = 1 << 20
_LOCAL_HEADER_BYTES = 30  # before the name (PKWARE APPNOTE 4.3.7)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Entry:
    """One candidate object: a name for messages and a way to read its bytes (raises EntryError)."""

    name: str
    read: Callable[[], bytes]


class EntryError(Exception):
    """One file or archive entry that cannot be taken; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def opened(source: Path | str | Sequence[Path | str]) -> Iterator[list[Entry]]:
    """The candidate objects of a folder (searched through), a zip, a file or a list of these, sorted by name.

    Raises UnreadableInput when a path does not exist or an archive is refused as a whole.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(item) for item in source]
    archives: list[zipfile.ZipFile] = []
    try:
        entries: list[Entry] = []
        for path in paths:
            entries.extend(_entries(path, archives, limits()))
        if len(entries) > limits().archive.max_entries:
            raise InputError(
                f"{paths[0].name}: {len(entries)} files, more than {limits().archive.max_entries}; hand in one study",
                code="TOO_MANY_OBJECTS",
            )
        yield sorted(entries, key=lambda entry: entry.name)
    finally:
        for archive in archives:
            archive.close()


def _entries(path: Path, archives: list[zipfile.ZipFile], bounds: Limits) -> list[Entry]:
    if path.is_dir():
        found: list[Entry] = []
        for folder, folders, names in os.walk(path, followlinks=False):
            folders.sort()
            within = os.path.relpath(folder, path)
            prefix = "" if within == os.curdir else within + os.sep
            found.extend(_file_entry(Path(folder, name), prefix + name, bounds) for name in names)
        return found
    if not path.exists():
        raise UnreadableInput(f"{path}: no such file or folder; check the path", code="NOT_FOUND")
    if _is_zip(path):
        return _zip_entries(path, archives, bounds)
    return [_file_entry(path, path.name, bounds)]


def _file_entry(path: Path, name: str, bounds: Limits) -> Entry:
    return Entry(name, lambda: _read_file(path, bounds.object.max_bytes))


def _read_file(path: Path, most: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise EntryError("NOT_REGULAR" if path.is_symlink() else "IO") from error
    state = os.fstat(descriptor)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(state.st_mode):
            raise EntryError("NOT_REGULAR")
        if state.st_size > most:
            raise EntryError("TOO_LARGE")
        try:
            data = stream.read(most + 1)
        except OSError as error:
            raise EntryError("IO") from error
        after = os.fstat(descriptor)
    if len(data) > most:
        raise EntryError("TOO_LARGE")
    if len(data) != after.st_size or (state.st_size, state.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise EntryError("GROWING")
    return data


def _is_zip(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) in _ZIP_MAGIC


def _zip_entries(path: Path, archives: list[zipfile.ZipFile], bounds: Limits) -> list[Entry]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UnreadableInput(
            f"{path.name}: the archive is damaged or cut short; send it again", code="ARCHIVE_INVALID"
        ) from error
    archives.append(archive)
    infos = archive.infolist()
    if len(infos) > bounds.archive.max_entries:
        raise UnreadableInput(
            f"{path.name}: {len(infos)} entries, more than {bounds.archive.max_entries}; send one study an archive",
            code="ARCHIVE_LIMIT",
        )
    seen: set[str] = set()
    for info in infos:
        _check_entry(path, info, seen)
    _check_overlap(path, infos)
    budget = _Budget(path.name, path.stat().st_size, bounds)
    return [
        Entry(info.filename, lambda info=info: _read_entry(archive, info, budget, bounds))  # type: ignore[misc]
        for info in infos
        if not info.is_dir()
    ]


def _check_entry(path: Path, info: zipfile.ZipInfo, seen: set[str]) -> None:
    name = info.filename
    kind = info.external_attr >> 16
    unsafe = (
        not name
        or "\0" in name
        or "\\" in name
        or PurePosixPath(name).is_absolute()
        or bool(PureWindowsPath(name).drive)
        or ".." in PurePosixPath(name).parts
        or name in seen
        or (stat.S_IFMT(kind) not in (0, stat.S_IFREG, stat.S_IFDIR))
    )
    if unsafe:
        raise UnreadableInput(
            f"{path.name}: an entry has an unsafe or repeated name or is no plain file; pack the study again",
            code="ARCHIVE_UNSAFE",
        )
    if info.flag_bits & 0x1:
        raise UnreadableInput(f"{path.name}: the archive is encrypted; send it unencrypted", code="ARCHIVE_INVALID")
    seen.add(name)


def _check_overlap(path: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    """Entries that share packed bytes: no archiver writes such, and each byte could be given out many times."""
    end = -1
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise UnreadableInput(
                f"{path.name}: entries of the archive overlap; it was refused; send the files as a folder",
                code="ARCHIVE_LIMIT",
            )
        end = info.header_offset + _LOCAL_HEADER_BYTES + len(info.orig_filename) + info.compress_size


@dataclass
class _Budget:
    """What an archive may still give out. Entries may be read twice (once by each study's child): counted per name."""

    archive: str
    packed_bytes: int
    bounds: Limits

    def __post_init__(self) -> None:
        self.given: dict[str, int] = {}
        self.total = 0

    def take(self, name: str, size: int, packed: int) -> None:
        bounds = self.bounds.archive
        self.total += max(0, size - self.given.get(name, 0))
        self.given[name] = max(size, self.given.get(name, 0))
        if size > bounds.ratio_floor_bytes and size > bounds.max_ratio_entry * max(packed, 1):
            self.refuse()
        floor = max(bounds.ratio_floor_bytes, bounds.max_ratio_overall * self.packed_bytes)
        if self.total > min(bounds.max_bytes_out, floor):
            self.refuse()

    def refuse(self) -> None:
        raise UnreadableInput(
            f"{self.archive}: the archive inflates beyond its limits and was refused; send the files as a folder",
            code="ARCHIVE_LIMIT",
        )


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget, bounds: Limits) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        with archive.open(info) as stream:
            while part := stream.read(_CHUNK):
                size += len(part)
                if size > bounds.object.max_bytes:
                    raise EntryError("TOO_LARGE")
                budget.take(info.filename, size, info.compress_size)
                parts.append(part)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise EntryError("ARCHIVE_INVALID") from error
    data = b"".join(parts)
    if data.startswith(_ZIP_MAGIC):  # an archive in the archive is not opened
        raise EntryError("ARCHIVE_LIMIT")
    return data
