"""Jobs: one stage of training each, identified by its content. Two cells that share a stage share the job."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from methods.args import BackboneArgs
from suite.grid.recipe import BackgroundArgs, FinetuneArgs, LocalisationArgs, PretrainArgs, ProbeArgs, SaliencyArgs

KEY_LENGTH = 20  # hex digits of the SHA-256: 80 bits, short enough to read and type

# Raise a number when a change of the training code would change results; it enters every key of that kind.
PRETRAIN_VERSION = 1
FINETUNE_VERSION = 1
PROBE_VERSION = 1
IMPORT_VERSION = 1
LOCALISATION_VERSION = 1
BACKGROUND_VERSION = 1


class Spec(BaseModel):
    """What determines a job's result, and nothing else: no path, no device, no number of workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Block(Spec):
    """An objective, a view or an alignment: its name, the version of its code, its arguments."""

    name: str
    version: int
    code: str | None = None  # SHA-256 of the file, where a plugin brings it
    args: dict[str, Any]


class DataSpec(Spec):
    """A dataset by content, decoded at a size."""

    name: str
    fingerprint: str
    store_size: int


class SaliencySpec(SaliencyArgs):
    """Saliency maps by detector, its code's version and its weights."""

    version: str
    weights_sha256: str | None


class PretrainSpec(Spec):
    """Self-supervised pretraining on a training split."""

    kind: Literal["pretrain"] = "pretrain"
    version: int = PRETRAIN_VERSION
    data: DataSpec
    image_size: int
    backbone: BackboneArgs
    objective: Block
    views: Block
    alignment: Block | None
    saliency: SaliencySpec | None
    train: PretrainArgs
    seed: int
    init: str | None  # key of the job whose backbone this one starts from


class ImportSpec(Spec):
    """A backbone out of a checkpoint that others trained, in place of a first stage."""

    kind: Literal["import"] = "import"
    version: int = IMPORT_VERSION
    sha256: str  # of the file; neither its place nor its name matters
    backbone: BackboneArgs


class FinetuneSpec(Spec):
    """Supervised fine-tuning on the training split, measured on the test split.

    With `held_out`, a share of every class is left out of training and measured on instead: the test split is not
    read. `choose_from` holds the keys of such jobs; the learning rate of the best one is then used.
    """

    kind: Literal["finetune"] = "finetune"
    version: int = FINETUNE_VERSION
    data: DataSpec
    image_size: int
    backbone: BackboneArgs
    train: FinetuneArgs
    seed: int
    init: str | None  # None: random initialisation
    held_out: float = 0
    choose_from: tuple[str, ...] = ()


class ProbeSpec(Spec):
    """Nearest neighbours and a linear classifier on the frozen backbone, measured on the test split."""

    kind: Literal["probe"] = "probe"
    version: int = PROBE_VERSION
    data: DataSpec
    image_size: int
    backbone: BackboneArgs
    probe: ProbeArgs
    seed: int
    init: str | None  # None: the random initialisation that fine-tuning would start from


class LocalisationSpec(Spec):
    """Where the fine-tuned and the frozen network look in test images, against the official boxes."""

    kind: Literal["localisation"] = "localisation"
    version: int = LOCALISATION_VERSION
    data: DataSpec
    image_size: int
    backbone: BackboneArgs
    saliency: SaliencySpec  # of the detector that the networks are compared with
    masks: SaliencySpec | None  # the official masks, where the dataset has them
    localisation: LocalisationArgs
    seed: int
    init: str | None  # key of the job whose backbone is looked into; None: the random initialisation
    finetune: str  # key of the job whose classifier is


class BackgroundSpec(Spec):
    """Top-1 of a fine-tuned network on test images whose object or background has been exchanged."""

    kind: Literal["background"] = "background"
    version: int = BACKGROUND_VERSION
    data: DataSpec
    image_size: int
    eval_resize: float  # as fine-tuning tests
    backbone: BackboneArgs
    saliency: SaliencySpec  # says what is object and what is background
    background: BackgroundArgs
    seed: int  # of the exchange
    finetune: str  # key of the job whose network is tested


JobSpec = PretrainSpec | ImportSpec | FinetuneSpec | ProbeSpec | LocalisationSpec | BackgroundSpec
TrainingSpec = PretrainSpec | FinetuneSpec  # those with epochs
TunedReader = LocalisationSpec | BackgroundSpec  # those that read a fine-tuned network
DataReader = PretrainSpec | FinetuneSpec | ProbeSpec | TunedReader


_ANY: TypeAdapter[JobSpec] = TypeAdapter(Annotated[JobSpec, Field(discriminator="kind")])


def content_key(spec: BaseModel) -> str:
    """First 20 hex digits of the SHA-256 of the canonical form: sorted keys, no white space, 1.0 written as 1."""
    values = _canonical(spec.model_dump(mode="json"))
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
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


def parse_spec(data: dict[str, Any]) -> JobSpec:
    """A spec back from its JSON form."""
    return _ANY.validate_python(data)
