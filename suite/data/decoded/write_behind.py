"""Flush a growing file to the disk while it is being written."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from suite.filesystem import flush_to_disk


class WriteBehind:
    """Flushes a file in a background thread, so that only the last piece has to be waited for at the end.

    Args:
        descriptor: of the open file.
    """

    PIECE = 32 * 2**20  # bytes

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pool = ThreadPoolExecutor(1)
        self._waiting = 0
        self._last: Future[None] | None = None

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def wrote(self, count: int) -> None:
        """Note that `count` more bytes were written. Raises OSError where an earlier flush failed."""
        self._waiting += count
        if self._waiting >= self.PIECE and (self._last is None or self._last.done()):
            self._check()
            self._waiting = 0
            self._last = self._pool.submit(flush_to_disk, self._descriptor)

    def finish(self) -> None:
        """Flush the rest. Raises OSError where any flush failed: the system reports a failed write only once."""
        self._check()
        flush_to_disk(self._descriptor)

    def _check(self) -> None:
        if self._last is not None:
            self._last.result()
