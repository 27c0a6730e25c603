"""From option strings to a plan: what `run` and `plan` have in common."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from suite.api import PlanRequest, plan_request
from suite.errors import UsageError
from suite.grid.cells import ALL_OBJECTIVES, Selection, parse_overrides
from suite.planning.batches import large_batches
from suite.planning.forecast import Forecast
from suite.planning.plan import Plan
from suite.plugin import load_plugins
from suite.store.plugins import remembered_plugins
from suite.text import duration

_MOST_SEEDS = 1000  # of a range; more are a typing error


@dataclass(frozen=True)
class SelectorOptions:
    """The selectors as typed. Names may be repeated or joined by commas, in any case; methods also by their labels."""

    grid: str
    profile: str
    data: Path | None
    runs: Path | None
    datasets: list[str] | None
    methods: list[str] | None
    only: str | None
    seeds: str | None
    overrides: list[str] | None
    plugins: list[Path] | None = None
    stage1: list[str] | None = None

    @cached_property
    def request(self) -> PlanRequest:
        """Parsed, with every name resolved."""
        return plan_request(
            self.grid, profile=self.profile, data=self.data, runs=self.runs, datasets=self.datasets or (),
            methods=self.methods or (), only=self.only, seeds=parse_seeds(self.seeds),
            overrides=parse_overrides(self.overrides or ()), stage1=_checkpoints(self.stage1 or ()),
            plugins=self.plugins or (),
        )  # fmt: skip

    @property
    def selection(self) -> Selection:
        """Parsed selectors."""
        return self.request.selection

    def plan(self, obtain_inputs: bool) -> Plan:
        """The plan. `obtain_inputs`: render missing synthetic datasets and download missing checkpoints."""
        plan = self.request.plan(obtain_inputs)
        for row, why in plan.left_out.items():
            print(f"note: reference row {row} left out: {why}", file=sys.stderr)
        if ALL_OBJECTIVES in self.selection.checkpoints:
            rows = {cell.row.name for cell in plan.cells if cell.row.stage1 != "none" and cell.checkpoint is None}
            if rows:
                named = ", ".join(sorted(rows))
                print(
                    f"note: {named}: no public checkpoint is known; the first stage is trained here.", file=sys.stderr
                )
        return plan


def warn_before_training(forecast: Forecast) -> None:
    """Warn on standard error of batches that are too large, and where a profile made for GPUs would train on CPUs."""
    for sentence in large_batches(forecast):
        print(f"warning: {sentence}", file=sys.stderr)
    _warn_without_gpu(forecast)


def _warn_without_gpu(forecast: Forecast) -> None:
    """Where the profile `paper`, or one that extends it, would train on CPUs."""
    profile = forecast.plan.profile
    if forecast.machine.device != "cpu" or profile.chain[0].name != "paper" or not forecast.remaining:
        return
    print(
        f"warning: profile {profile.name} is made for GPUs and no GPU is visible: about "
        f"{duration(forecast.wall_seconds)} on this machine. --profile small is made for one CPU or GPU.",
        file=sys.stderr,
    )


def load_store_plugins(store: Path, named: Sequence[Path]) -> None:
    """Load the named plugins and those of the store's earlier runs; prints those that it skips to standard error."""
    paths, remarks = remembered_plugins(store)
    given = {path.expanduser().resolve() for path in named}
    load_plugins([*named, *(path for path in paths if path not in given)])
    for remark in remarks:
        if not any(str(path) in remark for path in given):
            print(f"note: {remark}", file=sys.stderr)


def parse_seeds(text: str | None) -> tuple[int, ...]:
    """``0,1,2``, ``0-4`` or both: the seeds, each once."""
    if text is None:
        return ()
    seeds: list[int] = []
    for part in text.split(","):
        numbers = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if numbers is None or (numbers[2] is not None and int(numbers[2]) < int(numbers[1])):
            raise UsageError(f"--seeds expects whole numbers such as 0,1,2 or a range such as 0-4, got '{text}'.")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if last - first >= _MOST_SEEDS:
            raise UsageError(f"--seeds {text}: more than {_MOST_SEEDS} seeds in a range. Check the two numbers.")
        seeds += range(first, last + 1)
    return tuple(dict.fromkeys(seeds))


def _checkpoints(pairs: Sequence[str]) -> dict[str, str]:
    checkpoints: dict[str, str] = {}
    for pair in pairs:
        if pair.strip() == "public":
            checkpoints[ALL_OBJECTIVES] = "public"
            continue
        objective, equals, source = pair.partition("=")
        if not equals or not objective or not source:
            raise UsageError(
                f"--stage1 expects OBJECTIVE=FILE, such as byol=byol_r50.pth, a URL#sha256=..., the name of a public "
                f"checkpoint (`suite data list`), or 'public' for all rows that have one; got '{pair}'."
            )
        objective = objective.strip()
        if checkpoints.get(objective, source) != source:
            raise UsageError(f"--stage1 names two checkpoints for {objective}: {checkpoints[objective]} and {source}.")
        checkpoints[objective] = source
    return checkpoints
