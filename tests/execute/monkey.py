"""Runs a grid while something kills its processes, until it is through; compares with a run that was left alone.

    python tests/execute/monkey.py --kills 50 --out FOLDER -- --grid paper_table1 --profile demo ...

The run that is left alone goes first. The pauses between kills are a share of its time: with fixed pauses the run would
end before most kills on a fast machine. Prints JSON: kills of workers and of parents, starts, seconds, and what differs
(nothing, if all is well).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SUITE = [sys.executable, "-c", "from suite.cli import main; main()"]


def start(arguments: list[str], runs: Path) -> subprocess.Popen[bytes]:
    log = (runs.parent / f"{runs.name}.log").open("ab")
    # Checkpoints every half second, so that kills meet every phase of writing and resuming one.
    environment = {**os.environ, "SUITE_CHECKPOINT_MINUTES": "0.008"}
    return subprocess.Popen([*SUITE, "run", *arguments, "--runs", str(runs)], stdout=log, stderr=log, env=environment)


def workers(parent: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(parent), "-f", "spawn_main"], capture_output=True, text=True, check=False
    )
    return [int(text) for text in found.stdout.split()]


def disturb(arguments: list[str], runs: Path, kills: int, pause: float, seed: int) -> dict[str, int]:
    """Kill a worker or the parent about every `pause` seconds; start again what has ended; then let it finish."""
    rng = random.Random(seed)
    counts = {"workers": 0, "parents": 0, "starts": 1}
    process, began = start(arguments, runs), time.time()
    while counts["workers"] + counts["parents"] < kills:
        if rng.random() < 0.7:  # mostly in the middle of training, however long it takes to get there
            while process.poll() is None and not saved_since(began, runs):
                time.sleep(0.02)
        end = time.monotonic() + rng.uniform(0.2, 2 * pause)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        if process.poll() is None:
            children = workers(process.pid)
            if children and rng.random() < 0.5:
                kind, victim = "workers", rng.choice(children)
            else:
                kind, victim = "parents", process.pid
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            counts[kind] += 1
            if kind == "parents":
                process.wait()
        if process.poll() is not None:
            if process.returncode == 0:
                break  # through before the kills were
            process, began = start(arguments, runs), time.time()
            counts["starts"] += 1
    process.wait()
    while process.returncode != 0:
        process = start(arguments, runs)
        counts["starts"] += 1
        if counts["starts"] > 2 * kills + 10:
            raise SystemExit(f"{runs} does not finish; see {runs}.log")
        process.wait()
    return counts


def saved_since(moment: float, runs: Path) -> bool:
    """Whether a job has saved its state after `moment`, in seconds since the epoch."""
    with suppress(FileNotFoundError):  # a job that has ended meanwhile
        return any(path.stat().st_mtime > moment for path in runs.glob("*/checkpoint/state.pt"))
    return False


def differences(calm: Path, disturbed: Path) -> list[str]:
    """Whatever a reader of either store could tell apart, but for times."""
    found = []
    if (calm / "results.csv").read_bytes() != (disturbed / "results.csv").read_bytes():
        found.append("results.csv")
    keys = [sorted(path.parent.name for path in runs.glob("*/result.json")) for runs in (calm, disturbed)]
    if keys[0] != keys[1]:
        found.append("the set of finished jobs")
    for key in keys[0]:
        left, right = (outcome(runs / key) for runs in (calm, disturbed))
        found += [f"{key} {name}" for name in left if left[name] != right[name]]
    for path in [*disturbed.glob("*/checkpoint/*"), *disturbed.glob("*/claim.json")]:
        if path.suffix != ".safetensors":
            found.append(f"left over: {path.relative_to(disturbed)}")
    return found


def outcome(folder: Path) -> dict[str, Any]:
    """A job's metrics, hashes of its weights, and its curve, without times."""
    result = json.loads((folder / "result.json").read_text("utf-8"))
    lines = [json.loads(line) for line in read(folder / "metrics.jsonl").splitlines()]
    curve = [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]
    return {"curve": curve, **{name: result[name] for name in ("metrics", "counts", "files", "suspicious")}}


def read(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("arguments", nargs="+")
    given = parser.parse_args()
    calm, disturbed = given.out / "calm", given.out / "disturbed"
    given.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    start(given.arguments, calm).wait()
    between = time.monotonic()
    alone = between - began
    counts = disturb(given.arguments, disturbed, given.kills, alone / (2 * given.kills), given.seed)
    seconds = {"calm": alone, "disturbed": time.monotonic() - between}
    resumed = sum("resuming at step" in read(path) for path in disturbed.glob("*/log.txt"))
    report = {**counts, "resumed_jobs": resumed, "seconds": seconds, "different": differences(calm, disturbed)}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
