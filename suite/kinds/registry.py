"""Every kind of job by its name, and how a spec is read back from its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from suite.errors import StoreError
from suite.jobs.identity import JobSpec
from suite.kinds.background import Background
from suite.kinds.base import JobKind, Protocol
from suite.kinds.finetune import Finetune, FinetuneSpec
from suite.kinds.imported import Import
from suite.kinds.linear_sgd import LinearSgd
from suite.kinds.localisation import Localisation
from suite.kinds.pretrain import Pretrain, PretrainSpec
from suite.kinds.probe import Probe

# In the order in which a cell's jobs are listed. A new kind is one more line.
KINDS: dict[str, JobKind[Any]] = {
    kind.name: kind for kind in (Import(), Pretrain(), Finetune(), Probe(), LinearSgd(), Localisation(), Background())
}

TrainingSpec = PretrainSpec | FinetuneSpec  # specs of jobs with epochs


def kind_of(spec: JobSpec) -> JobKind[Any]:
    """The kind of a job."""
    return KINDS[spec.kind]


def protocols() -> dict[str, Protocol[Any]]:
    """The kinds that measure a cell, by the name of their section in a recipe."""
    return {name: kind for name, kind in KINDS.items() if isinstance(kind, Protocol)}


def parse_spec(data: Mapping[str, Any]) -> JobSpec:
    """A spec from its JSON form.

    Raises:
        StoreError: a kind of job that is not registered, as of a plugin that was not loaded.
        pydantic.ValidationError: fields that do not fit the kind.
    """
    kind = KINDS.get(str(data.get("kind")))
    if kind is None:
        raise StoreError(
            f"unknown kind of job '{data.get('kind')}'; expected one of {', '.join(KINDS)}. If a plugin brings it, "
            "name the plugin: --plugin FILE"
        )
    spec: JobSpec = kind.spec.model_validate(dict(data))
    return spec
