"""The other processes of a group on this machine. They stay warm from job to job and end at the first trouble."""

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
from suite.execute.ddp.group import Group, connected, open_store
from suite.execute.places import Device, Places
from suite.execute.worker import follow_job
from suite.jobs.identity import Job
from suite.plugin import load_plugins
from suite.store.claim import ClaimLost
from suite.store.store import Failure, Store

_CONTEXT = multiprocessing.get_context("spawn")
_GRACE = 10.0  # seconds for process 0 to notice by itself that another is gone, or for the others that it is through
_SIGN = 2.0  # seconds until the end of a process, or its last words, must have come through

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Words:
    """How a member failed, and when; a violent end counts as the earliest."""

    time: float
    error: str
    traceback: str = ""


@dataclass(frozen=True)
class _Member:
    rank: int
    process: BaseProcess
    connection: Connection

    @property
    def last_words(self) -> _Words | None:
        """None where it lives, or has done its job."""
        with suppress(EOFError, OSError):
            if self.connection.poll():
                words: _Words | None = self.connection.recv()
                return words
        if not wait([self.process.sentinel], timeout=0):
            return None
        self.process.join()
        return _Words(0.0, f"ended with exit code {self.process.exitcode} (out of memory, or killed)")


class Members:
    """`devices - 1` processes, none for one device; see `suite.execute.ddp.group.Crew`. Whoever makes it closes it.

    They are children of this process and leave when it dies. A member that dies takes the job with it: on CPUs the next
    exchange among the processes fails, and that error is reported as what it is. Where the exchange never returns, as
    NCCL's may not, this process records the failure and ends itself.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._members: list[_Member] = []

    @contextmanager
    def at_work(self, job: Job, places: Places) -> Iterator[Group]:
        """Have the others follow `job`.

        Raises:
            TrainingError: one of them failed or was killed; says which, and why.
        """
        if self._device.devices == 1:
            yield Group()
            return
        from suite.training.session import Interrupted

        self._start()
        group = Group(world=self._device.devices)
        store = open_store(group)
        for member in self._members:
            place = Group(member.rank, group.world, member.rank, port=store.port)
            member.connection.send((job, places, place))
        left = threading.Event()
        threading.Thread(target=self._watch, args=(job, places, left), daemon=True).start()
        try:
            with connected(group, self._device.kind, store):
                try:
                    yield group
                except (TrainingError, ClaimLost, Interrupted):
                    raise
                except Exception as error:
                    # Asked while the connection stands: nobody complains yet that this process has left.
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
        """End them, whatever they do."""
        for member in self._members:
            member.process.kill()
            member.process.join()
            member.connection.close()
        self._members = []

    def _start(self) -> None:
        if wait([member.process.sentinel for member in self._members], timeout=0):
            self.close()  # one was killed between two jobs
        for rank in range(1, self._device.devices) if not self._members else ():
            ours, theirs = _CONTEXT.Pipe()
            process = _CONTEXT.Process(
                target=_serve, args=(theirs, self._device), name=f"suite-member-{rank}", daemon=True
            )
            process.start()
            theirs.close()
            self._members.append(_Member(rank, process, ours))

    def _dismiss(self) -> None:
        """Hear from everyone that the job is over for them too."""
        if any(not member.connection.poll(_GRACE) or member.last_words is not None for member in self._members):
            self.close()

    def _watch(self, job: Job, places: Places, left: threading.Event) -> None:
        members = list(self._members)  # kept, for their sentinels to stay open
        while not left.is_set():
            if wait([member.process.sentinel for member in members], timeout=1.0) and not left.wait(_GRACE):
                error = self._cause() or "a process of the group ended"
                Store(places.runs).fail(job.key, Failure(error=error, kind="killed", traceback=""))
                os._exit(1)

    def _cause(self) -> str | None:
        """What went wrong in the others, if it was there that something did.

        When one fails, the rest soon complain that it does not answer; so the earliest is believed.
        """
        signs = [sign for member in self._members for sign in (member.connection, member.process.sentinel)]
        if wait(signs, timeout=_SIGN):
            time.sleep(_SIGN / 10)  # for the others to have their say
        found: list[tuple[float, str]] = []
        for member in self._members:
            if (words := member.last_words) is not None:
                error = f"process {member.rank} of {self._device.devices} {words.error}"
                log.error("%s\n%s", error, words.traceback)
                found.append((words.time, error))
        return min(found)[1] if found else None


def _serve(connection: Connection, device: Device) -> None:
    """A member's life: follow one job after another, until process 0 is gone or something fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what Ctrl-C means is not decided here
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever the parent does about it
    threading.Thread(target=end_with_parent, daemon=True).start()
    logging.getLogger("suite").addHandler(logging.NullHandler())  # process 0 says the same
    with suppress(EOFError):
        while True:
            job, places, place = connection.recv()
            with connected(place, device.kind):
                try:
                    load_plugins(places.plugins)
                    follow_job(job, places, device, place)
                except Exception as error:
                    log.exception("failed")
                    text = f"failed: {type(error).__name__}: {error}"
                    connection.send(_Words(time.monotonic(), text, traceback.format_exc()))
                    raise SystemExit(1) from error  # only now do the others notice
            connection.send(None)


def end_with_parent() -> None:
    """Leave at once when the parent dies, so that no orphan holds a claim the next run needs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
