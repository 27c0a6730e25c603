"""Who works on a job: a claim no two processes hold at once, whether on one machine or on several that share a disk.

On one machine the system's file lock decides: it is free the moment its holder dies, however it dies. Other machines
may not see that lock (some shared file systems keep locks to themselves), so a holder also leaves its name in
`claim.json` and touches that file every few seconds. A claim of another machine that has not been touched for long is
stale, and taken over. Should its holder wake up again, it finds a foreign name in the file and leaves without a word.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

BEAT = 15.0  # seconds between two touches
STALE = 120.0  # seconds without a touch after which another machine's claim counts for nothing


class ClaimLost(Exception):
    """Another machine took the job over because nothing had been heard of this process for too long."""


@dataclass(frozen=True)
class Holder:
    """Who holds a claim."""

    host: str
    boot: str  # differs between machines of the same name, and between two starts of one
    process: int
    token: str

    @classmethod
    def me(cls) -> Holder:
        """A new holder in this process."""
        return cls(socket.gethostname(), _boot(), os.getpid(), uuid.uuid4().hex)

    @property
    def here(self) -> bool:
        """Whether the holder is, or was, on this machine."""
        return self.boot == _boot()


class Claim:
    """The right to work in a job's folder, as a context manager.

    Args:
        folder: the job's; must exist.
        beat: seconds between two signs of life.
        stale: seconds without one after which a claim from elsewhere is taken over.
    """

    def __init__(self, folder: Path, beat: float = BEAT, stale: float = STALE) -> None:
        self._file, self._beat, self._stale = folder / "claim.json", beat, stale
        self._lock = FileLock(folder / ".claim")
        self._me = Holder.me()
        self._released = threading.Event()
        self._lost = False
        self._checked = 0.0
        self._thread: threading.Thread | None = None

    def acquire(self, timeout: float = 0.0) -> Claim:
        """Take the claim. Raises filelock.Timeout where another holds it for longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        locked = self._acquire_lock(timeout)
        try:
            while not self._write_name(locked):
                if time.monotonic() >= deadline:
                    raise Timeout(str(self._file))
                time.sleep(min(0.2, self._beat))
        except BaseException:
            self._lock.release()
            raise
        self._thread = threading.Thread(target=self._keep_alive, name="suite-claim", daemon=True)
        self._thread.start()
        return self

    def check(self) -> None:
        """Raise ClaimLost if the claim is another's by now."""
        if self._lost or not self._mine():
            raise ClaimLost(f"{self._file} names another process")

    def check_now_and_then(self) -> None:
        """As `check`, but looks at the file once a second at most: cheap enough for every training step."""
        if self._lost or time.monotonic() - self._checked > 1:
            self._checked = time.monotonic()
            self.check()

    def release(self) -> None:
        """Give the claim up."""
        self._released.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):  # a disk that has become read-only: the name goes stale by itself
            if self._mine():
                self._file.unlink(missing_ok=True)
        self._lock.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()

    def _acquire_lock(self, timeout: float) -> bool:
        try:
            self._lock.acquire(timeout=timeout, poll_interval=0.05)
        except NotImplementedError:  # a file system without locks: the named file alone decides
            return False
        return True

    def _write_name(self, locked: bool) -> bool:
        """Put this holder's name into the file unless a living one is in it. Linking a file is atomic, on NFS too."""
        mine = self._file.with_name(f".claim.{self._me.token}")
        mine.write_text(json.dumps(asdict(self._me)), "utf-8")
        try:
            if self._file.exists():
                holder = read_holder(self._file)
                # A holder of this machine had the lock, which is ours now: it is dead. So is one whose file is torn.
                dead = locked and (holder is None or holder.here)
                if not dead and _age(self._file, mine) < self._stale:
                    return False
                self._clear(holder)
            with suppress(FileExistsError):
                os.link(mine, self._file)
            return self._mine()
        finally:
            mine.unlink(missing_ok=True)

    def _clear(self, dead: Holder | None) -> None:
        """Remove the dead holder's file. Whoever comes second may catch a living one's by mistake: it is put back."""
        grave = self._file.with_name(f".claim.{self._me.token}.dead")
        with suppress(FileNotFoundError):
            self._file.rename(grave)
            caught = read_holder(grave)
            if caught != dead:
                with suppress(FileExistsError):
                    os.link(grave, self._file)
            grave.unlink()

    def _mine(self) -> bool:
        holder = read_holder(self._file)
        return holder is not None and holder.token == self._me.token

    def _keep_alive(self) -> None:
        while not self._released.wait(self._beat):
            with suppress(OSError):  # a disk that is away for a moment; the next touch will do
                if not self._mine():
                    self._lost = True
                    return
                os.utime(self._file)


def read_holder(path: Path) -> Holder | None:
    """Whom a claim's file names; None where there is no file or nothing to be read in it."""
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def held(folder: Path, stale: float = STALE) -> bool:
    """Whether somebody works on the job of this folder. Takes no claim; the answer may be old when it arrives."""
    file = folder / "claim.json"
    holder = read_holder(file)
    if holder is None:
        return False
    if holder.here and os.access(folder / ".claim", os.W_OK):
        lock = FileLock(folder / ".claim")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except NotImplementedError:
            return _age(file, None) < stale
        lock.release()
        return False
    return _age(file, None) < stale


def _age(file: Path, fresh: Path | None) -> float:
    """Seconds since `file` was touched, by the clock of its own disk where a file written just now tells it."""
    try:
        now = time.time() if fresh is None else fresh.stat().st_mtime
        return now - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{socket.gethostname()}-{uuid.getnode()}"
