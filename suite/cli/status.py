"""`suite status`: the recorded cells' jobs, from any shell."""

from __future__ import annotations

from collections import Counter

from suite.cli import options


def status(runs: options.Runs = None) -> None:
    """Show every job of every grid that was run here: state, epoch, and why a failed one failed."""
    from suite.store.ledger import read_cells
    from suite.workspace import Workspace

    store = Workspace.of(None, runs).store
    keys = list(dict.fromkeys(key for entry in read_cells(store.root) for key in entry["jobs"]))
    states: Counter[str] = Counter()
    for key in keys:
        state = store.status(key)
        states[state] += 1
        lines = store.metrics(key)
        epoch = f"epoch {lines[-1]['epoch']:.0f}" if lines else ""
        name = store.name(key) if state != "new" else ""
        print(f"{state:12}{key}  {name:40}{epoch:12}")
        if state == "failed" and (failure := store.failure(key)) is not None:
            print(f"            {failure.error}")
    print(", ".join(f"{count} {state}" for state, count in states.items()) or "nothing was run here yet.")
