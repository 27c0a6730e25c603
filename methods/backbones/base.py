"""The parts of a backbone family: its settings, its network, its cost and its equivalent in a public library.

A family is a group of architectures that one network class builds, such as the ResNets. Nothing here imports torch, so
that `suite plan` can check settings and count multiply-adds without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast

from pydantic import Field, ModelWrapValidatorHandler, SerializerFunctionWrapHandler, model_serializer, model_validator

from methods.base_args import Args

if TYPE_CHECKING:
    from methods.backbone import Backbone


class BackboneArgs(Args):
    """Settings of a backbone. Each family has a subclass; the field `arch` chooses it, also in a constructor call."""

    arch: str = Field(description="name of the architecture, such as resnet50")
    code: str | None = Field(None, description="SHA-256 of the plugin that brings the family; None for built-in ones")

    def __new__(cls, **values: Any) -> Self:
        """An empty instance of the family's subclass, which `__init__` then fills."""
        of_family = family_of(str(values["arch"])).args if cls is BackboneArgs and "arch" in values else cls
        return cast("Self", super().__new__(of_family))

    @model_validator(mode="wrap")
    @classmethod
    def _of_family(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Any:
        """Validate as the family's subclass, and record the plugin's code where the settings name none."""
        if not isinstance(value, Mapping) or "arch" not in value:
            return handler(value)
        family = family_of(str(value["arch"]))
        values = value if family.sha256 is None else {"code": family.sha256, **value}
        return family.args.model_validate(values) if cls is BackboneArgs else handler(values)

    @model_serializer(mode="wrap")
    def _without_empty_code(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `code` for built-in families, so that it does not enter the keys of their jobs."""
        values: dict[str, Any] = handler(self)
        return values if self.code else {name: value for name, value in values.items() if name != "code"}


class Cost(NamedTuple):
    """The cost of a backbone."""

    macs: int  # multiply-adds of one forward pass of one square image
    parameters: int  # trainable scalars


@dataclass(frozen=True)
class PublicModel:
    """The equivalent of a backbone in a public library. Exported weights have that library's key names.

    `backbone` and `classifier` are Python statements that define `model`; "{classes}" in the second one stands for the
    number of classes. Both are empty where no constructor of the library builds the network.
    """

    library: str  # as it is imported, such as "torchvision"
    constructor: str | None  # name of the library's model; None where there is none
    backbone: str = ""
    classifier: str = ""
    head: str = "fc"  # name of the linear classifier in that library
    differences: tuple[str, ...] = ()  # from the library's models, as parts of a sentence


class BackboneFamily(ABC):
    """A group of architectures that share settings and a network class.

    A family is added with a line in `methods.backbones.registry`, or by a plugin with `suite.plugin.register_backbone`.
    """

    archs: ClassVar[tuple[str, ...]]  # names for the field `arch`
    args: ClassVar[type[BackboneArgs]]
    # Whether the network is a `methods.backbone.RegionBackbone`, whose map can be cut into regions inside the network.
    regions: ClassVar[bool] = False
    sha256: str | None = None  # of the plugin's file; None for built-in families

    @abstractmethod
    def network(self, args: Any) -> Backbone:
        """The network with random weights of the current torch seed. Torch is imported here."""

    @abstractmethod
    def dim(self, args: Any) -> int:
        """Features per image, the channels of the feature map."""

    @abstractmethod
    def cost(self, args: Any, side: int) -> Cost:
        """The cost for square images of `side` pixels, as torch's FlopCounterMode counts it (two FLOPs a MAC)."""

    @abstractmethod
    def public_model(self, args: Any) -> PublicModel:
        """The equivalent in a public library."""


_BY_ARCH: dict[str, BackboneFamily] = {}


def add_family(family: BackboneFamily) -> None:
    """Make a family available by its architectures' names.

    Raises:
        ValueError: another family has one of the names.
    """
    for arch in family.archs:
        if arch in _BY_ARCH:
            raise ValueError(f"the backbone '{arch}' exists already")
    _BY_ARCH.update(dict.fromkeys(family.archs, family))


def family_of(arch: str) -> BackboneFamily:
    """The family of an architecture.

    Raises:
        ValueError: no such architecture; names the nearest one and all others.
    """
    if arch in _BY_ARCH:
        return _BY_ARCH[arch]
    near = get_close_matches(arch, _BY_ARCH, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ValueError(
        f"unknown backbone '{arch}'; {hint}Expected one of {', '.join(_BY_ARCH)}. If a plugin brings it, name the "
        "plugin: --plugin FILE"
    )


def architectures(regions: bool = False) -> list[str]:
    """Names of all architectures; with `regions`, only of those whose map can be cut inside the network."""
    return [arch for arch, family in _BY_ARCH.items() if family.regions or not regions]
