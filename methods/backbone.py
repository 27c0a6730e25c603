"""The interface of a backbone network, and the classifier that fine-tuning trains.

Networks are built by `methods.backbones.registry.build_backbone`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from methods.base_args import Args

T = TypeVar("T")


class _Factory(type):
    """Makes `Backbone(args)` the network of the family that `args.arch` names; subclasses are called as usual."""

    def __call__(cls: type[T], *args: Any, **kwargs: Any) -> T:
        if cls.__dict__.get("is_interface") and args:
            registry = import_module("methods.backbones.registry")  # by name: families import this file for their types
            return cast(T, registry.build_backbone(*args))
        return cast(T, type.__call__(cls, *args, **kwargs))


class Backbone(nn.Module, metaclass=_Factory):
    """A network from images to a feature map, without a classifier. `Backbone(args)` is `build_backbone(args)`.

    Class activation maps and the saliency alignment read the feature map, so its average must be the pooled feature.
    """

    is_interface = True  # not inherited: only this class itself builds other classes

    args: Args  # the settings of its family, a `methods.backbones.base.BackboneArgs`
    dim: int  # channels of the feature map

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> feature map [B, dim, h, w]."""

    def pooled(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, dim], global average pooling of the feature map.

        The network is called as a module, so that hooks and `Module.compile` apply.
        """
        return cast(Tensor, self(images)).mean(dim=(2, 3))


class RegionBackbone(Backbone):
    """A backbone whose feature map can be cut into regions inside the network, as InsLoc does.

    `after_regions(before_regions(images))` is the feature map.
    """

    @abstractmethod
    def before_regions(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, h, w], the map from which regions are cut."""

    @abstractmethod
    def after_regions(self, maps: Tensor) -> Tensor:
        """Regions [N, C, h', w'] -> their feature maps [N, dim, h'', w'']."""


class Classifier(nn.Module):
    """A backbone and a linear classifier, the network that fine-tuning trains. [B, 3, H, W] -> logits [B, classes]."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(backbone.dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, classes]."""
        return cast(Tensor, self.fc(self.backbone.pooled(images)))


@torch.no_grad()
def parameter_count(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every part is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
