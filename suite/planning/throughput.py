"""Throughput of finished jobs, and by `suite bench`: `<runs>/throughput.jsonl`, for the estimates of `suite plan`.

Derived data: without a line that is lost or incomplete an estimate is only less accurate.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from suite.planning.costs import Speed

_BYTES_READ = 1_000_000  # the latest few thousand lines


def record_speed(root: Path, speed: Speed) -> None:
    """Append a line."""
    with (root / "throughput.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(speed)) + "\n")


def read_speeds(root: Path) -> list[Speed]:
    """The latest lines; what cannot be read is left out."""
    path = root / "throughput.jsonl"
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _BYTES_READ))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    speeds = []
    for line in lines:
        try:
            speeds.append(Speed(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return speeds
