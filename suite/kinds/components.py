"""The components of a pretraining job: its objective, its views and its alignment, each with typed settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, SerializeAsAny, ValidationError

from methods.args import Args
from methods.registry import ComponentEntry
from suite.errors import TrainingError
from suite.jobs.identity import Spec


class RecordedArgs(Args):
    """Settings as they were recorded, of a component that is not registered or has other fields now."""

    model_config = ConfigDict(extra="allow")


class Component(Spec):
    """An objective, a view or an alignment: its name, the version of its code, its settings."""

    name: str
    version: int
    code: str | None = None  # SHA-256 of the file, where a plugin brings it
    args: SerializeAsAny[Args]

    def build(self, entry: ComponentEntry, *inputs: Any, **parts: Any) -> Any:
        """The component itself: its class, called with the settings, `inputs` and `parts`.

        Raises:
            TrainingError: the recorded settings do not fit the class as it is now.
        """
        if isinstance(self.args, RecordedArgs):
            raise TrainingError(
                f"the recorded settings of '{self.name}' do not fit its present code. Give the same `suite run` "
                "command again: it plans the job with the present settings."
            )
        return entry.load()(self.args, *inputs, **parts)


def typed(registry: Mapping[str, ComponentEntry]) -> Callable[[Any], Any]:
    """A validator that reads a component's settings with the class that `registry` names.

    Settings that this class would write differently stay as they were recorded, so that the key of the job does not
    change.
    """

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping) or not isinstance(value.get("args"), Mapping):
            return value
        recorded, entry = dict(value["args"]), registry.get(str(value.get("name")))
        args: Args = RecordedArgs.model_validate(recorded)
        if entry is not None:
            try:
                parsed = entry.args.model_validate(recorded)
            except ValidationError:
                parsed = args
            if parsed.model_dump(mode="json") == args.model_dump(mode="json"):
                args = parsed
        return {**value, "args": args}

    return read
