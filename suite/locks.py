"""Locks between processes. Where the file system has no locks, a named file takes their place: its owner touches it
every few seconds, and a file that has not been touched for two minutes is stale."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

import filelock
from filelock import Timeout

from suite.errors import StoreError
from suite.filesystem import has_file_locks, publish, touch

BEAT = 15.0  # seconds between two touches
STALE = 120.0  # seconds without a touch after which a named file counts for nothing
_LOCK_POLL_SECONDS = 0.05  # between two attempts to take a lock


@dataclass(frozen=True)
class ClaimOwner:
    """The process that a named file belongs to."""

    host: str
    boot: str  # differs between machines of the same name, and between two starts of one
    process: int
    token: str

    @classmethod
    def current(cls) -> ClaimOwner:
        """A new owner in this process."""
        return cls(socket.gethostname(), boot_id(), os.getpid(), uuid.uuid4().hex)

    @property
    def is_local(self) -> bool:
        """Whether the process is, or was, on this machine."""
        return self.boot == boot_id()


class OwnerFile:
    """A file that names the one process it belongs to.

    Args:
        file: its folder must exist.
        stale: seconds without a touch after which another process may take it over.
    """

    def __init__(self, file: Path, stale: float = STALE) -> None:
        self.file = file
        self.owner = ClaimOwner.current()
        self._stale = stale

    def take(self, owner_is_dead: bool = False) -> bool:
        """Put this owner's name into the file unless a living one is in it; whether that worked.

        `owner_is_dead`: a file of this machine, or a torn one, is of a dead process, because a lock says so.
        """
        draft = self.file.with_name(f"{_hidden(self.file)}.{self.owner.token}")
        draft.write_text(json.dumps(asdict(self.owner)), "utf-8")
        try:
            if self.file.exists():
                owner = read_owner(self.file)
                dead = owner_is_dead and (owner is None or owner.is_local)
                if not dead and file_age(self.file, draft) < self._stale:
                    return False
                self._remove_stale(owner)
            with suppress(FileExistsError):
                publish(draft, self.file)
            return self.is_owned()
        finally:
            draft.unlink(missing_ok=True)

    def is_owned(self) -> bool:
        """Whether the file names this owner."""
        owner = read_owner(self.file)
        return owner is not None and owner.token == self.owner.token

    def keep(self) -> bool:
        """Touch the file. False where it names another owner by now."""
        with suppress(OSError):  # a disk that is away for a moment; the next touch will do
            if not self.is_owned():
                return False
            touch(self.file)
        return True

    def remove(self) -> None:
        """Delete the file if it names this owner."""
        with suppress(OSError):  # a disk that has become read-only: the file goes stale by itself
            if self.is_owned():
                self.file.unlink(missing_ok=True)

    def _remove_stale(self, stale: ClaimOwner | None) -> None:
        """Remove a stale file. If a concurrent process has meanwhile written a live one, restore it."""
        tombstone = self.file.with_name(f"{_hidden(self.file)}.{self.owner.token}.dead")
        with suppress(FileNotFoundError):
            self.file.rename(tombstone)
            if read_owner(tombstone) != stale:
                with suppress(FileExistsError):
                    publish(tombstone, self.file)
            tombstone.unlink()


class FileLock:
    """A lock on a path, for processes of this machine and of others: filelock's where the mount has locks, else an
    owner file beside it. Not reentrant; a context manager. Raises filelock.Timeout, and StoreError where the lock
    file cannot be written."""

    def __init__(self, path: str | Path, beat: float = BEAT, stale: float = STALE) -> None:
        self._path, self._beat, self._stale = Path(path), beat, stale
        self._native: filelock.BaseFileLock | None = None
        self._named: OwnerFile | None = None
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, timeout: float = -1.0) -> FileLock:
        """Take the lock, waiting for at most `timeout` seconds; a negative number means for ever."""
        try:
            if has_file_locks(self._path.parent):
                native = filelock.FileLock(self._path, mode=0o666 & ~current_umask())
                native.acquire(timeout=timeout, poll_interval=_LOCK_POLL_SECONDS)
                self._native = native
            else:
                self._acquire_named(timeout)
        except PermissionError as error:
            raise StoreError(
                f"the lock file {error.filename or self._path} cannot be written by this user ({error.strerror}). If "
                "another user of your group made it: chmod g+w on it, by that user."
            ) from error
        return self

    def release(self) -> None:
        """Give the lock up."""
        if self._native is not None:
            self._native.release()
            self._native = None
        if self._named is not None:
            self._released.set()
            if self._thread is not None:
                self._thread.join()
            self._named.remove()
            self._named = None

    def __enter__(self) -> FileLock:
        return self.acquire()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()

    def _acquire_named(self, timeout: float) -> None:
        named = OwnerFile(self._path.with_name(f"{self._path.name}.held"), self._stale)
        deadline = time.monotonic() + timeout if timeout >= 0 else float("inf")
        while not named.take():
            if time.monotonic() >= deadline:
                raise Timeout(str(self._path))
            time.sleep(_LOCK_POLL_SECONDS)
        self._named = named
        self._released.clear()
        self._thread = threading.Thread(target=self._keep_alive, args=(named,), name="suite-lock", daemon=True)
        self._thread.start()

    def _keep_alive(self, named: OwnerFile) -> None:
        while not self._released.wait(self._beat) and named.keep():
            pass


def read_owner(path: Path) -> ClaimOwner | None:
    """The owner that a file names; None where there is no file or nothing to be read in it."""
    try:
        return ClaimOwner(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def file_age(file: Path, fresh: Path | None = None) -> float:
    """Seconds since `file` was touched, by the clock of its own disk where a `fresh` file, written just now, tells it.
    A file that does not exist is infinitely old."""
    try:
        now = time.time() if fresh is None else fresh.stat().st_mtime
        return now - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


@cache
def boot_id() -> str:
    """An identifier that differs between two machines, and between two starts of one machine."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{socket.gethostname()}-{uuid.getnode()}"


def current_umask() -> int:
    """The permission bits that this process withholds from new files."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _hidden(file: Path) -> str:
    """`claim.json` -> `.claim`: the start of the names of its drafts."""
    return f".{file.stem.lstrip('.')}"
