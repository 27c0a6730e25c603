"""From option strings to a plan: what `run` and `plan` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suite.data.datasets.names import composed
from suite.errors import UsageError
from suite.grid.cells import Selection, parse_overrides
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.planning.plan import Plan, make_plan
from suite.plugin import load_plugins, with_plugins
from suite.workspace import Workspace


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
    plugins: list[Path] | None = None
    stage1: list[str] | None = None

    @property
    def selection(self) -> Selection:
        """Parsed selectors."""
        return Selection(
            tuple(composed(name) for name in self.datasets or ()),
            tuple(self.methods or ()),
            None if self.only is None else composed(self.only),
            _seeds(self.seeds),
            parse_overrides(self.overrides or ()),
            _checkpoints(self.stage1 or ()),
        )

    def plan(self, draw: bool) -> Plan:
        """Load everything the selectors name."""
        plugins = load_plugins(self.plugins or ())
        grid = with_plugins(load_grid(self.grid))
        workspace = Workspace.of(self.data, self.runs)
        return make_plan(workspace, grid, load_profile(self.profile), self.selection, draw, plugins)


def _seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seeds expects whole numbers such as 0,1,2, got '{text}'.") from None


def _checkpoints(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        objective, equals, source = pair.partition("=")
        if not equals or not objective or not source:
            raise UsageError(
                f"--stage1 expects OBJECTIVE=FILE, such as byol=byol_r50.pth, or a URL#sha256=..., got '{pair}'."
            )
        found[objective.strip()] = source
    return found
