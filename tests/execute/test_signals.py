"""Signals that ask a run to stop, and the processes that a run starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FIRST_CHILD = """
import signal
from multiprocessing import get_context

from suite.execute.signals import STOPPING, block_signals

if __name__ == "__main__":
    with block_signals():
        child = get_context("spawn").Process(target=print)
        child.start()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child.join()
    assert set(STOPPING) <= blocked, blocked
    assert not set(STOPPING) & signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


def test_the_first_child_too_is_started_with_signals_blocked(tmp_path: Path) -> None:
    """Ctrl-C on a terminal reaches every process; a child that is still importing would end with a traceback."""
    script = tmp_path / "first_child.py"
    script.write_text(FIRST_CHILD, "utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
