"""Profiles: the scale at which a grid is run (experiments/profiles/NAME.yaml)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from suite.data.synthetic.spec import SyntheticSpec
from suite.errors import UsageError, unknown
from suite.grid.spec import EXPERIMENTS
from suite.grid.validate import read_yaml, validated
from suite.jobs.sections import Section
from suite.paths import user_path


class Profile(Section):
    """A scale to run a grid at: experiments/profiles/NAME.yaml."""

    name: str
    note: str = Field(description="completes the sentence 'profile NAME: ...' in captions; empty for paper")
    seeds: tuple[int, ...] = Field(min_length=1)
    synthetic: SyntheticSpec | None = Field(None, description="render the data instead of reading photographs")
    extends: str | None = Field(
        None, description="a shipped profile whose recipe fields hold where this one, section by section, has none"
    )
    defaults: dict[str, Any] = Field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="per objective: recipe fields laid over the defaults; under `views`, per kind of view, what this "
        "objective lays over that kind's arguments",
    )
    views: dict[str, dict[str, Any]] = Field(default_factory=dict, description="per kind of view: its arguments")
    stage1: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="per first-stage dataset: recipe fields of that stage"
    )

    @property
    def chain(self) -> tuple[Profile, ...]:
        """The profile it extends, where there is one, and itself; of each section, later ones win.

        Raises:
            UsageError: no such profile is shipped, or that one extends another.
        """
        if self.extends is None:
            return (self,)
        if Path(self.extends).suffix:
            raise UsageError(f"profile '{self.name}': extends takes the name of a shipped profile, not a file.")
        base = _shipped(self.extends)
        if base.extends is not None:
            raise UsageError(
                f"profile '{self.name}' extends '{base.name}', which extends '{base.extends}': expected a profile that "
                f"stands on its own. Extend '{base.extends}' and repeat what '{base.name}' changes."
            )
        return base, self


def load_profile(name_or_file: str) -> Profile:
    """Read a profile by the name of a shipped one or from a YAML file."""
    path = profile_path(name_or_file)
    return validated(Profile, read_yaml(path), str(path))


@cache
def _shipped(name: str) -> Profile:
    """A shipped profile, read once."""
    return load_profile(name)


def profile_path(name_or_file: str) -> Path:
    """The file of a profile. Raises UsageError with the nearest match where there is none."""
    if Path(name_or_file).suffix in {".yaml", ".yml"}:
        path = user_path(name_or_file, "--profile")
    else:
        path = EXPERIMENTS / "profiles" / f"{name_or_file}.yaml"
        if not path.is_file():
            raise unknown("profile", name_or_file, [p.stem for p in path.parent.glob("*.yaml")])
    if not path.is_file():
        raise UsageError(f"profile file {path} does not exist.")
    return path
