"""The backbones: torchvision's ResNet, also narrower, shallower, and with a stem for small inputs.

Key names and shapes are torchvision's, so a state_dict moves to and from `torchvision.models` unchanged.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from methods.args import BackboneArgs

_LAYERS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], list[int]]] = {
    "resnet10": (BasicBlock, [1, 1, 1, 1]),
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


class Backbone(ResNet):
    """A ResNet without its classifier.

    ``forward``: images [B, 3, H, W] -> feature map [B, dim, H/s, W/s], with s = 32 for the imagenet stem, 16 for the
    half and 8 for the small one. ``pooled`` averages that map to [B, dim].
    """

    def __init__(self, args: BackboneArgs) -> None:
        block, layers = _LAYERS[args.arch]
        super().__init__(block, layers, num_classes=1)
        self.args = args
        if args.width != 64:
            # torchvision fixes the width of its basic blocks, so the stages are rebuilt from its own parts.
            self.inplanes = args.width
            self.conv1 = nn.Conv2d(3, args.width, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(args.width)
            for stage, depth in enumerate(layers):
                planes = args.width * 2**stage
                layer = self._make_layer(block, planes, depth, stride=1 if stage == 0 else 2)
                setattr(self, f"layer{stage + 1}", layer)
        if args.stem != "imagenet":
            stride = 2 if args.stem == "half" else 1
            self.conv1 = nn.Conv2d(3, args.width, kernel_size=3, stride=stride, padding=1, bias=False)
            self.maxpool = cast(nn.MaxPool2d, nn.Identity())
        del self.fc
        self.dim = args.width * 8 * block.expansion
        self._initialise()

    def _initialise(self) -> None:
        """Fan-out initialisation of convolutions, as torchvision's constructor does, for the parts rebuilt here."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, dim, H/s, W/s]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return cast(Tensor, x)

    def pooled(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, dim], global average pooling of the feature map."""
        return self.forward(images).mean(dim=(2, 3))


class Classifier(nn.Module):
    """Backbone and a fresh linear layer; what fine-tuning trains. [B, 3, H, W] -> logits [B, classes]."""

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
