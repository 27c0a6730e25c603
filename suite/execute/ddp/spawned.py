"""Non-zero DDP ranks on this machine: reused across jobs, terminated on the first failure."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from suite.errors import TrainingError
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.ddp.group import Rank, connected, open_store
from suite.execute.worker import follow_job
from suite.jobs.identity import Job
from suite.plugin import load_plugins
from suite.store.claim import ClaimLost
from suite.store.store import Failure, Store

_CONTEXT = multiprocessing.get_context("spawn")
_GRACE = 10.0  # seconds for rank 0 to notice that a rank has ended, or for the others to end the job
_SIGN = 2.0  # seconds until the end of a process, or its error, must have arrived

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _RankFailure:
    """Error of a rank with its timestamp; a killed process gets time 0."""

    time: float
    error: str
    traceback: str = ""


@dataclass(frozen=True)
class _SpawnedRank:
    rank: int
    process: BaseProcess
    connection: Connection

    @property
    def failure(self) -> _RankFailure | None:
        """None while it runs, or when it has done its job."""
        with suppress(EOFError, OSError):
            if self.connection.poll():
                failure: _RankFailure | None = self.connection.recv()
                return failure
        if not wait([self.process.sentinel], timeout=0):
            return None
        self.process.join()
        return _RankFailure(0.0, f"ended with exit code {self.process.exitcode} (out of memory, or killed)")


class SpawnedRanks:
    """`devices - 1` child processes, none for one device; a `suite.execute.ddp.group.ProcessGroup`. Close it after use.

    The children end when this process dies. A child that dies fails the job: on CPUs the next collective operation
    fails, and its error names the child. Where the operation never returns, as NCCL's may not, this process records the
    failure and ends itself.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._ranks: list[_SpawnedRank] = []

    @contextmanager
    def connect(self, job: Job, paths: RunPaths) -> Iterator[Rank]:
        """Have the other ranks run `job`.

        Raises:
            TrainingError: one of them failed or was killed; names it and the reason.
        """
        if self._device.devices == 1:
            yield Rank()
            return
        from suite.training.session import Interrupted

        self._start()
        rank = Rank(world_size=self._device.devices)
        store = open_store(rank)
        for other in self._ranks:
            place = Rank(other.rank, rank.world_size, other.rank, port=store.port)
            other.connection.send((job, paths, place))
        left = threading.Event()
        threading.Thread(target=self._watch, args=(job, paths, left), daemon=True).start()
        try:
            with connected(rank, self._device.kind, store):
                try:
                    yield rank
                except (TrainingError, ClaimLost, Interrupted):
                    raise
                except Exception as error:
                    # Asked while the connection stands: no rank complains yet that this process has left.
                    if (cause := self._cause()) is not None:
                        raise TrainingError(cause) from error
                    raise
        except Interrupted:
            self._dismiss()
            raise
        except BaseException:
            self.close()
            raise
        else:
            self._dismiss()
        finally:
            left.set()

    def close(self) -> None:
        """Kill them with SIGKILL."""
        for other in self._ranks:
            other.process.kill()
            other.process.join()
            other.connection.close()
        self._ranks = []

    def _start(self) -> None:
        if wait([other.process.sentinel for other in self._ranks], timeout=0):
            self.close()  # one was killed between two jobs
        for rank in range(1, self._device.devices) if not self._ranks else ():
            ours, theirs = _CONTEXT.Pipe()
            process = _CONTEXT.Process(
                target=_serve, args=(theirs, self._device), name=f"suite-rank-{rank}", daemon=True
            )
            process.start()
            theirs.close()
            self._ranks.append(_SpawnedRank(rank, process, ours))

    def _dismiss(self) -> None:
        """Wait for every rank to report that it has ended the job."""
        if any(not other.connection.poll(_GRACE) or other.failure is not None for other in self._ranks):
            self.close()

    def _watch(self, job: Job, paths: RunPaths, left: threading.Event) -> None:
        ranks = list(self._ranks)  # kept, so that their sentinels stay open
        while not left.is_set():
            if wait([other.process.sentinel for other in ranks], timeout=1.0) and not left.wait(_GRACE):
                error = self._cause() or "another rank ended"
                Store(paths.runs).fail(job.key, Failure(error=error, kind="killed", traceback=""))
                os._exit(1)

    def _cause(self) -> str | None:
        """The error of another rank, if there is one.

        When one rank fails, the others soon report that it does not answer; the earliest error is the cause.
        """
        signs = [sign for other in self._ranks for sign in (other.connection, other.process.sentinel)]
        if wait(signs, timeout=_SIGN):
            time.sleep(_SIGN / 10)  # for the errors of other ranks to arrive
        failures: list[tuple[float, str]] = []
        for other in self._ranks:
            if (failure := other.failure) is not None:
                error = f"process {other.rank} of {self._device.devices} {failure.error}"
                log.error("%s\n%s", error, failure.traceback)
                failures.append((failure.time, error))
        return min(failures)[1] if failures else None


def _serve(connection: Connection, device: Device) -> None:
    """Main loop of a non-zero rank: run each job rank 0 sends, until rank 0 exits or a job fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides what Ctrl-C means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # unlike the parent, which handles it
    threading.Thread(target=end_with_parent, daemon=True).start()
    logging.getLogger("suite").addHandler(logging.NullHandler())  # rank 0 logs the same
    with suppress(EOFError):
        while True:
            job, paths, rank = connection.recv()
            with connected(rank, device.kind):
                try:
                    load_plugins(paths.plugins)
                    follow_job(job, JobContext(paths, device), rank)
                except Exception as error:
                    log.exception("failed")
                    text = f"failed: {type(error).__name__}: {error}"
                    connection.send(_RankFailure(time.monotonic(), text, traceback.format_exc()))
                    raise SystemExit(1) from error  # only now do the other ranks notice
            connection.send(None)


def end_with_parent() -> None:
    """Leave at once when the parent dies, so that no orphan holds a claim the next run needs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
