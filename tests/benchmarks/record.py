"""Results of benchmarks with commit and date (docs/benchmarks.json), and the table made of them (docs/speed.md).

A benchmark calls `record`. `python tests/benchmarks/record.py` writes the table again: a row is stale if files that it
measures have changed since its commit.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks.json"
TABLE = ROOT / "docs" / "speed.md"

HEAD = """# Speed

`make benchmark` writes this page from [benchmarks.json](benchmarks.json); do not edit it. Speeds vary between
machines, and with other work on a machine; both sides of a ratio were measured in the same run. "Measured" has date,
commit, machine and load. A row is **stale** if files that it measures had changed when this page was written: its
numbers may no longer hold.

| what | result | measured | state |
|---|---|---|---|
"""


def record(name: str, what: str, result: str, paths: tuple[str, ...], results: Path = RESULTS) -> None:
    """Store one result and write the table again.

    Args:
        name: of the row; a later result replaces it.
        what: the first column.
        result: the second column, with units.
        paths: files and folders whose changes make the row stale.
        results: file of all results; the table is written beside it.
    """
    rows = json.loads(results.read_text("utf-8")) if results.is_file() else {}
    changed = _git("status", "--porcelain", "--", *paths) != ""
    rows[name] = {
        "what": what,
        "result": result,
        "paths": list(paths),
        "commit": _git("rev-parse", "--short=10", "HEAD"),
        "uncommitted": changed,  # these files differed from the commit
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}",
    }
    results.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "utf-8")
    results.with_name(TABLE.name).write_text(table(rows, staleness), "utf-8")


def table(rows: dict[str, dict[str, Any]], state: Callable[[dict[str, Any]], str]) -> str:
    """The page. `state` says of a row whether it is stale."""
    lines = []
    for row in rows.values():
        commit = f", {row['commit']}{' with changes' if row['uncommitted'] else ''}" if row["commit"] else ""
        machine = f"; {row['machine']}" if row["machine"] else ""
        lines.append(f"| {row['what']} | {row['result']} | {row['date']}{commit}{machine} | {state(row)} |")
    return HEAD + "\n".join(lines) + "\n"


def staleness(row: dict[str, Any]) -> str:
    """``current``, or why the row is stale."""
    if not row["commit"]:
        return "**stale**: measured before commits were recorded"
    try:
        commits = _git("log", "--oneline", f"{row['commit']}..HEAD", "--", *row["paths"]).splitlines()
    except subprocess.CalledProcessError:
        return "**stale**: its commit is not in this repository"
    if commits:
        return f"**stale**: {len(commits)} commit{'s' * (len(commits) > 1)} to {', '.join(row['paths'])} since"
    return "measured with uncommitted changes" if row["uncommitted"] else "current"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    TABLE.write_text(table(json.loads(RESULTS.read_text("utf-8")), staleness), "utf-8")
    print(TABLE.read_text("utf-8"))
