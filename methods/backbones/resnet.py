"""ResNets (He et al. 2016, arXiv:1512.03385).

Settings, cost and the equivalent in torchvision. Imports no torch.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from pydantic import Field

from methods.backbones.base import BackboneArgs, BackboneFamily, Cost, PublicModel

if TYPE_CHECKING:
    from methods.backbone import Backbone


class Layout(NamedTuple):
    """The residual blocks of an architecture."""

    bottleneck: bool
    depths: tuple[int, int, int, int]  # blocks per stage
    inner_width: int = 64  # of a bottleneck's 3x3 convolution in the first stage, where the stage has 64 planes


LAYOUTS = {
    "resnet10": Layout(False, (1, 1, 1, 1)),
    "resnet18": Layout(False, (2, 2, 2, 2)),
    "resnet34": Layout(False, (3, 4, 6, 3)),
    "resnet50": Layout(True, (3, 4, 6, 3)),
    "resnet101": Layout(True, (3, 4, 23, 3)),
    "wide_resnet50_2": Layout(True, (3, 4, 6, 3), inner_width=128),
}
STEMS = {"imagenet": (7, 2), "half": (3, 2), "small": (3, 1)}  # kernel, stride
_STEM_TEXT = {
    "half": "`conv1` is 3x3 with stride 2 and there is no max-pooling",
    "small": "`conv1` is 3x3 with stride 1 and there is no max-pooling",
}


class ResNetArgs(BackboneArgs):
    """A residual network with torchvision's key names."""

    arch: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2"] = Field(
        description="resnet10 has one basic block per stage; the others are torchvision's "
        "(wide_resnet50_2: Zagoruyko and Komodakis 2016, arXiv:1605.07146)"
    )
    width: int = Field(64, ge=8, description="channels of the first stage; 64 is the published network")
    stem: Literal["imagenet", "half", "small"] = Field(
        "imagenet",
        description="imagenet: 7x7 stride 2 and max-pooling; half: 3x3 stride 2, no pooling; small: 3x3 stride 1, no "
        "pooling (He et al. 2016, section 4.2). The last two are for inputs below 128 and 64 px",
    )


class ResNetFamily(BackboneFamily):
    """torchvision's ResNets, also narrower, shallower, and with a stem for small inputs."""

    archs = tuple(LAYOUTS)
    args = ResNetArgs
    regions = True

    def network(self, args: ResNetArgs) -> Backbone:
        """`methods.backbones.resnet_network.ResNetBackbone`."""
        return cast("Backbone", import_module("methods.backbones.resnet_network").ResNetBackbone(args))

    def dim(self, args: ResNetArgs) -> int:
        """Channels of the last stage."""
        return args.width * 8 * (4 if LAYOUTS[args.arch].bottleneck else 1)

    def cost(self, args: ResNetArgs, side: int) -> Cost:
        """Convolutions, and the parameters of batch normalisation."""
        return _cost(args, side)

    def public_model(self, args: ResNetArgs) -> PublicModel:
        """The function of `torchvision.models`, where the width and the stem are the published ones."""
        arch = args.arch
        if arch != "resnet10" and (args.width, args.stem) == (64, "imagenet"):
            imports = f"from torch import nn\nfrom torchvision.models import {arch}\n\n"
            return PublicModel(
                "torchvision",
                arch,
                backbone=f"{imports}model = {arch}()\nmodel.fc = nn.Identity()  # features [B, dim]",
                classifier=f"{imports}model = {arch}(num_classes={{classes}})",
            )
        differences = ["it has one basic block per stage"] if arch == "resnet10" else []
        if args.width != 64:
            differences.append(f"its first stage has {args.width} channels instead of 64")
        differences += [text for stem, text in _STEM_TEXT.items() if stem == args.stem]
        return PublicModel("torchvision", None, differences=tuple(differences))


@cache
def _cost(args: ResNetArgs, side: int) -> Cost:
    macs = parameters = 0

    def convolution(inputs: int, outputs: int, kernel: int, stride: int, size: int) -> int:
        nonlocal macs, parameters
        size = (size + 2 * (kernel // 2) - kernel) // stride + 1
        weights = inputs * outputs * kernel**2
        macs += weights * size**2
        parameters += weights + 2 * outputs  # with the batch normalisation behind it
        return size

    kernel, stride = STEMS[args.stem]
    size = convolution(3, args.width, kernel, stride, side)
    if args.stem == "imagenet":
        size = (size - 1) // 2 + 1  # max-pooling
    layout = LAYOUTS[args.arch]
    channels = args.width
    for stage, depth in enumerate(layout.depths):
        planes = args.width * 2**stage
        outputs = 4 * planes if layout.bottleneck else planes
        for block in range(depth):
            stride = 2 if stage and not block else 1
            before = size
            if layout.bottleneck:
                inner = planes * layout.inner_width // 64
                convolution(channels, inner, 1, 1, size)
                size = convolution(inner, inner, 3, stride, size)
                convolution(inner, outputs, 1, 1, size)
            else:
                size = convolution(channels, planes, 3, stride, size)
                convolution(planes, outputs, 3, 1, size)
            if stride != 1 or channels != outputs:
                convolution(channels, outputs, 1, stride, before)
            channels = outputs
    return Cost(macs, parameters)
