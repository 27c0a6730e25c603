"""From option strings to a plan: what `run` and `plan` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from suite.errors import UsageError
from suite.grid.cells import Selection, parse_overrides
from suite.grid.recipe import load_profile
from suite.grid.spec import load_grid
from suite.workspace import Plan, Workspace, make_plan


@dataclass(frozen=True)
class Chosen:
    """The selectors as they were typed."""

    grid: str
    profile: str
    data: Path | None
    runs: Path | None
    datasets: list[str] | None
    methods: list[str] | None
    only: str | None
    seeds: str | None
    overrides: list[str] | None

    @property
    def selection(self) -> Selection:
        """Parsed selectors."""
        return Selection(
            tuple(self.datasets or ()),
            tuple(self.methods or ()),
            self.only,
            _seeds(self.seeds),
            parse_overrides(self.overrides or ()),
        )

    def plan(self, draw: bool) -> Plan:
        """Load everything the selectors name."""
        workspace = Workspace.of(self.data, self.runs)
        return make_plan(workspace, load_grid(self.grid), load_profile(self.profile), self.selection, draw)


def _seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seeds expects whole numbers such as 0,1,2, got '{text}'.") from None
