"""Notes how long every job takes, and how long of that it loads its data and trains. For bench_overhead.py."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite.execute import worker
from suite.plugin import register_row

_inside = [0.0, 0.0]


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _training(dispatch: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        before = _clocks()
        outcome = dispatch(*arguments)
        _inside[:] = [after - start for after, start in zip(_clocks(), before, strict=True)]
        return outcome

    return timed


def _job(run: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        before = _clocks()
        outcome = run(*arguments)
        whole = [after - start for after, start in zip(_clocks(), before, strict=True)]
        line = {"job_s": whole[0], "job_cpu_s": whole[1], "training_s": _inside[0], "training_cpu_s": _inside[1]}
        with Path(os.environ["OVERHEAD_FILE"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return outcome

    return timed


worker._run_loop = _training(worker._run_loop)
worker._claim_and_run = _job(worker._claim_and_run)

register_row("overhead_benchmark", label="Overhead benchmark", objective="byol")  # a plugin has to register something
