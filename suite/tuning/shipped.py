"""The studies that the suite ships: experiments/tuning/NAME.yaml, for `suite tune --space NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from suite.errors import UsageError, unknown
from suite.grid.spec import EXPERIMENTS
from suite.grid.validate import read_yaml, validated
from suite.paths import user_path
from suite.tuning.space import Value
from suite.tuning.study import Pruner, Sampler
from suite.tuning.trial import Objective, PretrainOn


class Space(BaseModel):
    """A study: its rows, its parameters and how they are searched. Options of the command line have priority."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    note: str = Field(description="one sentence: the question that the study answers")
    grid: str
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    params: tuple[str, ...] = Field((), description="each as behind --param")
    recipes: dict[str, dict[str, dict[str, Value]]] = Field(
        default_factory=dict, description="choices of several fields: parameter -> choice -> field -> value"
    )
    trials: int = Field(ge=1)
    objective: Objective = "finetune"
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    pretrain_on: PretrainOn = "all"

    @property
    def request(self) -> dict[str, Any]:
        """The fields of a `suite.tuning.request.TuningRequest` that the study gives."""
        names = ("params", "recipes", "objective", "sampler", "pruner", "pretrain_on")
        return {name: getattr(self, name) for name in names}


def shipped_spaces() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in (EXPERIMENTS / "tuning").glob("*.yaml"))


def load_space(name_or_file: str) -> Space:
    """Read a study by the name of a shipped one or from a YAML file.

    Raises:
        UsageError: no such study, with the nearest name, or a file that does not fit.
    """
    if Path(name_or_file).suffix in {".yaml", ".yml"}:
        path = user_path(name_or_file, "--space")
        if not path.is_file():
            raise UsageError(f"the file {path} of --space does not exist.")
    else:
        path = EXPERIMENTS / "tuning" / f"{name_or_file}.yaml"
        if not path.is_file():
            raise unknown("study in --space:", name_or_file, shipped_spaces(), "A path must end in .yaml.")
    return validated(Space, read_yaml(path), str(path))
