"""SIGINT and SIGTERM, which ask a run to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handle_signals(handler: Callable[..., None]) -> Iterator[None]:
    """Call `handler` on both signals. Does nothing outside the main thread, which alone may have handlers."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def block_signals() -> Iterator[None]:
    """Block both signals. Child processes inherit the mask; pending signals are delivered on exit."""
    resource_tracker.ensure_running()  # multiprocessing starts it with the first child, and then unblocks both signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals() -> None:
    """In a worker: ignore both signals; the parent handles them and kills the worker where needed."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
