"""Claims on jobs: at most one process works on a job, whether on one machine or on several that share a disk.

On one machine the system's file lock decides: it is free the moment its owner dies. Other machines may not see that
lock (some shared file systems keep locks to themselves, others have none), so an owner also writes its name into
`claim.json` and touches that file every few seconds. A claim of another machine that has not been touched for long is
stale, and taken over. If the original owner resumes, it sees another token in the file and stops without writing.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType

from filelock import Timeout

from suite.filesystem import has_file_locks
from suite.locks import BEAT, STALE, FileLock, OwnerFile, file_age, read_owner

CLAIM_POLL_SECONDS = 0.2  # between two looks at a claim that another process holds


class ClaimLost(Exception):
    """Another machine took the job over because this process had not touched its claim for too long."""


class Claim:
    """The right to work in a job's folder, as a context manager.

    Args:
        folder: the job's; must exist.
        beat: seconds between two touches of the claim's file.
        stale: seconds without one after which a claim of another machine is taken over.
    """

    def __init__(self, folder: Path, beat: float = BEAT, stale: float = STALE) -> None:
        self._folder, self._beat = folder, beat
        self._file = OwnerFile(folder / "claim.json", stale)
        self._lock: FileLock | None = None
        self._released = threading.Event()
        self._lost = False
        self._checked = 0.0
        self._thread: threading.Thread | None = None

    def acquire(self, timeout: float = 0.0) -> Claim:
        """Take the claim. Raises filelock.Timeout where another process holds it for longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if has_file_locks(self._folder):  # without locks the named file alone decides
            self._lock = FileLock(self._folder / ".claim").acquire(timeout)
        try:
            while not self._file.take(owner_is_dead=self._lock is not None):
                if time.monotonic() >= deadline:
                    raise Timeout(str(self._file.file))
                time.sleep(min(CLAIM_POLL_SECONDS, self._beat))
        except BaseException:
            self._release_lock()
            raise
        self._thread = threading.Thread(target=self._keep_alive, name="suite-claim", daemon=True)
        self._thread.start()
        return self

    def check(self) -> None:
        """Raise ClaimLost if the file names another process."""
        if self._lost or not self._file.is_owned():
            raise ClaimLost(f"{self._file.file} names another process")

    def check_now_and_then(self) -> None:
        """As `check`, but reads the file once a second at most: cheap enough for every training step."""
        if self._lost or time.monotonic() - self._checked > 1:
            self._checked = time.monotonic()
            self.check()

    def release(self) -> None:
        """Give the claim up."""
        self._released.set()
        if self._thread is not None:
            self._thread.join()
        self._file.remove()
        self._release_lock()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _keep_alive(self) -> None:
        while not self._released.wait(self._beat):
            if not self._file.keep():
                self._lost = True
                return


def is_claimed(folder: Path) -> bool:
    """Whether a process works on the job of this folder. Takes no claim; the answer may be outdated on arrival."""
    file = folder / "claim.json"
    owner = read_owner(file)
    if owner is None:
        return False
    if owner.is_local and os.access(folder / ".claim", os.W_OK) and has_file_locks(folder):
        try:
            FileLock(folder / ".claim").acquire(timeout=0).release()
        except Timeout:
            return True
        return False
    return file_age(file) < STALE
