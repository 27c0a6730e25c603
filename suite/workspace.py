"""The folders of a run: data root, result store and cache, from options, environment variables or defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from suite.errors import UsageError
from suite.filesystem import open_to_group
from suite.grid.profile import Profile
from suite.paths import path_from_environment, user_path
from suite.store.store import Store


@dataclass(frozen=True)
class Workspace:
    """The data root and the runs folder. Derived files (decoded images, saliency, synthetic data) go to the cache."""

    data: Path
    runs: Path

    @classmethod
    def of(cls, data: Path | None, runs: Path | None) -> Workspace:
        """Command line first, then $SUITE_DATA and $SUITE_RUNS, then ./data and ./runs.

        Raises:
            UsageError: a path cannot be expanded, or the runs folder is a file.
        """
        runs = runs or path_from_environment("SUITE_RUNS") or user_path("runs")
        if runs.is_file():
            raise UsageError(f"{runs} is a file; expected the runs folder, from --runs or SUITE_RUNS.")
        open_to_group(runs)
        return cls(data or path_from_environment("SUITE_DATA") or user_path("data"), runs)

    @property
    def cache(self) -> Path:
        """$SUITE_CACHE, else a folder inside `runs`; may be deleted, at the price of computing it again."""
        return path_from_environment("SUITE_CACHE") or self.runs / "cache"

    @property
    def store(self) -> Store:
        """The results."""
        return Store(self.runs)

    def data_root(self, profile: Profile, render: bool) -> Path:
        """Folder of a profile's datasets. `render`: write missing synthetic data into their folder in the cache."""
        if profile.synthetic is None:
            return self.data
        from suite.data.synthetic.render import render_synthetic, synthetic_root

        return (
            render_synthetic(profile.synthetic, self.cache) if render else synthetic_root(profile.synthetic, self.cache)
        )
