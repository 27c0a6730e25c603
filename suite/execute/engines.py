"""The engines by the name that --executor takes. Each is loaded only when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from suite.errors import UsageError, unknown
from suite.execute.engine import Engine, EngineOptions, Queue
from suite.store.store import Store


@dataclass(frozen=True)
class EngineEntry:
    """One engine.

    Attributes:
        create: "module:function" from `EngineOptions` to an `Engine`.
        takes: the fields of `EngineOptions` that it understands.
        queue: "module:class" of its `Queue`, if it has one that outlives the run.
    """

    create: str
    takes: frozenset[str]
    queue: str | None = None


ENGINES: dict[str, EngineEntry] = {
    "local": EngineEntry("suite.execute.local.executor:local_engine", frozenset({"workers", "devices", "loaders"})),
    "slurm": EngineEntry(
        "suite.execute.slurm.executor:slurm_engine",
        frozenset({"workers", "site", "detach", "loaders"}),
        "suite.execute.slurm.status:SlurmQueue",
    ),
    "ray": EngineEntry(
        "suite.execute.ray.executor:ray_engine", frozenset({"workers", "devices", "address", "gpus", "loaders"})
    ),
}

_FLAGS: Mapping[str, str] = {"gpus": "--gpus-per-job"}  # where the option is not named like the field


def create_engine(name: str, options: EngineOptions) -> Engine:
    """The engine that `--executor` names.

    Raises:
        UsageError: no such engine, or an option that it does not take.
    """
    if name not in ENGINES:
        raise unknown("executor", name, list(ENGINES))
    entry = ENGINES[name]
    for field in fields(options):
        if getattr(options, field.name) != field.default and field.name not in entry.takes:
            flag = _FLAGS.get(field.name, f"--{field.name}")
            takers = " or ".join(f"--executor {other}" for other, it in ENGINES.items() if field.name in it.takes)
            hint = "; the site file sets the devices of a job" if (name, field.name) == ("slurm", "devices") else ""
            raise UsageError(f"{flag} does not apply to --executor {name}: it is for {takers}{hint}.")
    create: Callable[[EngineOptions], Engine] = _load(entry.create)
    return create(options)


def queues(store: Store) -> Iterator[tuple[str, Queue]]:
    """Name and queue of every engine that has jobs of this store in a queue."""
    for name, entry in ENGINES.items():
        if entry.queue is not None:
            queue: Queue = _load(entry.queue)(store)
            if queue.submitted():
                yield name, queue


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
