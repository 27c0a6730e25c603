"""Unpacking an archive that may be hostile or cut off: its entry is there completely afterwards, or not at all.

No path leaves the folder, links and devices are refused, and an archive may not grow without bound. Nothing in here
trusts a header: what is written is counted.
"""

from __future__ import annotations

import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from suite.data.datasets.annotations import parse_path
from suite.errors import DataError
from suite.filesystem import rename_folder

_CHUNK = 1 << 20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)


@dataclass(frozen=True)
class Limits:
    """Limits of an unpacked archive. Photographs hardly shrink in an archive, lists of text tenfold."""

    growth: int = 4  # times the archive's size ...
    allowance: int = 256_000_000  # ... and bytes on top, for small archives of text
    files: int = 2_000_000  # ImageNet has 1.3 million

    def bytes(self, archive: Path) -> int:
        """The most bytes that `archive` may unpack to."""
        return self.growth * archive.stat().st_size + self.allowance


class _Entry(NamedTuple):
    name: str
    folder: bool
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, target: Path, progress: Callable[[int, int], None] | None = None, limits: Limits | None = None
) -> None:
    """Unpack the top-level entry of `archive` that is called like `target`, a folder that must not exist.

    Args:
        archive: tar (also compressed) or zip; other top-level entries are checked too but not kept.
        target: made in one step at the end, out of a temporary folder beside it.
        progress: called with (bytes of the archive read, its size).
        limits: at most this much is written.

    Raises:
        DataError: a path that leaves the folder, a link or device, too much content, a damaged archive, no such entry.
    """
    limits = limits or Limits()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        with archive.open("rb") as raw:
            _write(archive, raw, target.name, temporary, progress, limits)
        inside = temporary / target.name
        if not inside.is_dir():
            raise DataError(f"{archive} has no folder {target.name}/: it is not the archive that is expected here.")
        rename_folder(inside, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    archive: Path, raw: IO[bytes], member: str, out: Path, progress: Callable[[int, int], None] | None, limits: Limits
) -> None:
    size, allowed = archive.stat().st_size, limits.bytes(archive)
    written = 0
    try:
        for count, entry in enumerate(_entries(archive, raw), 1):
            path = _checked(archive, entry.name)
            if count > limits.files:
                raise DataError(
                    f"{archive} has more than {limits.files:,} entries, more than an archive of a dataset can have."
                )
            if written + entry.size > allowed:
                raise DataError(
                    f"{archive} unpacks to more than {allowed:,} bytes, more than an archive of {size:,} bytes with "
                    "photographs can. It was not unpacked."
                )
            if progress is not None:
                progress(raw.tell(), size)
            if path.partition("/")[0] != member:
                continue
            place = out / path
            if entry.folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with entry.open() as source, place.open("xb") as file:
                written += _copy(source, file, allowed - written, archive)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileExistsError):
            raise  # the disk, not the archive
        raise DataError(f"{archive} is damaged or cut off ({error}). Delete it and get it again.") from error
    if progress is not None:
        progress(size, size)


def _copy(source: IO[bytes], file: IO[bytes], allowed: int, archive: Path) -> int:
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if written > allowed:
            raise DataError(f"{archive} holds more than its headers say: it was not unpacked.")
        file.write(chunk)
    return written


def _checked(archive: Path, name: str) -> str:
    """The name without a leading `./` and a trailing `/`; DataError if it could leave the folder."""
    path = name.rstrip("/")
    while path.startswith("./"):
        path = path[2:]
    try:
        return path if path in {"", "."} else parse_path(path)
    except ValueError:
        raise DataError(f"{archive} has the entry '{name}', which leaves its folder: it was not unpacked.") from None


def _entries(archive: Path, raw: IO[bytes]) -> Iterator[_Entry]:
    if zipfile.is_zipfile(raw):
        raw.seek(0)
        yield from _zip_entries(archive, raw)
        return
    raw.seek(0)
    if not tarfile.is_tarfile(raw):
        raise DataError(f"{archive} is neither a tar nor a zip archive. Delete it and get it again.")
    raw.seek(0)
    with tarfile.open(fileobj=raw, mode="r:*") as tar:
        for info in tar:
            if not (info.isreg() or info.isdir()):
                raise DataError(f"{archive} has the link or device '{info.name}': it was not unpacked.")

            def read(info: tarfile.TarInfo = info) -> IO[bytes]:
                file = tar.extractfile(info)
                assert file is not None  # noqa: S101  (only for links and devices, refused above)
                return file

            yield _Entry(info.name, info.isdir(), info.size, read)


def _zip_entries(archive: Path, raw: IO[bytes]) -> Iterator[_Entry]:
    with zipfile.ZipFile(raw) as opened:
        for info in opened.infolist():
            kind = info.external_attr >> 28  # file type of a Unix mode: 0 where none is given, 4 folder, 8 file
            if kind not in {0, 4, 8}:
                raise DataError(f"{archive} has the link or device '{info.filename}': it was not unpacked.")

            def read(info: zipfile.ZipInfo = info) -> IO[bytes]:
                return opened.open(info)

            yield _Entry(info.filename, info.is_dir(), info.file_size, read)
