"""Jobs: one stage of training each, identified by its content. Two cells that share a stage share the job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

KEY_LENGTH = 20  # hex digits of the SHA-256: 80 bits, short enough to read and type


class Spec(BaseModel):
    """Everything that determines a job's result, and nothing else: no path, no device, no number of workers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class JobSpec(Spec):
    """A spec of one kind of job; `suite.kinds` has the kinds. The version is that of the kind's training code."""

    kind: str
    version: int


class HeldOut(JobSpec):
    """A spec that can leave a share of every class out of the training split it reads: `suite tune` measures on it.

    Where nothing is left out the field does not enter the key, which is then that of a spec without such a field.
    """

    held_out: float = 0

    @model_serializer(mode="wrap")
    def _leave_out_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return values if self.held_out else {name: value for name, value in values.items() if name != "held_out"}


def content_key(spec: BaseModel) -> str:
    """First 20 hex digits of the SHA-256 of the canonical form: sorted keys, no white space, 1.0 written as 1."""
    return key_of(spec.model_dump(mode="json"))


def key_of(values: Mapping[str, Any]) -> str:
    """As `content_key`, of a spec in its JSON form, also one that another version of the suite wrote."""
    canonical = json.dumps(_canonical(values), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_LENGTH]


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Job:
    """A spec with a readable name and the jobs that have to be done before it."""

    spec: JobSpec
    name: str  # for people: "pretrain byol_cvsa cub s0"; not part of the key
    parents: tuple[Job, ...] = ()

    @cached_property
    def key(self) -> str:
        """Content key; the name of the job's folder in the store."""
        return content_key(self.spec)
