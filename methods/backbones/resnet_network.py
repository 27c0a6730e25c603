"""The ResNet network: torchvision's, also narrower, shallower, and with a stem for small inputs.

Key names and shapes are torchvision's, so a state_dict moves to and from `torchvision.models` unchanged.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from methods.backbone import RegionBackbone
from methods.backbones.resnet import LAYOUTS, STEMS, ResNetArgs


class ResNetBackbone(ResNet, RegionBackbone):
    """A ResNet without its classifier.

    The feature map is [B, dim, H/s, W/s] with s = 32 for the imagenet stem, 16 for the half and 8 for the small one.
    Regions are cut between layer3 and layer4, as in a C4 detector.
    """

    conv1: nn.Module
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, args: ResNetArgs) -> None:
        layout = LAYOUTS[args.arch]
        block = Bottleneck if layout.bottleneck else BasicBlock
        super().__init__(block, list(layout.depths), num_classes=1, width_per_group=layout.inner_width)
        self.args = args
        if args.width != 64:
            # torchvision fixes the width of its basic blocks, so the stages are rebuilt from its own parts.
            self.inplanes = args.width
            self.conv1 = nn.Conv2d(3, args.width, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(args.width)
            for stage, depth in enumerate(layout.depths):
                planes = args.width * 2**stage
                layer = cast(Any, self)._make_layer(block, planes, depth, stride=1 if stage == 0 else 2)
                setattr(self, f"layer{stage + 1}", layer)
        if args.stem != "imagenet":
            kernel, stride = STEMS[args.stem]
            self.conv1 = nn.Conv2d(3, args.width, kernel, stride=stride, padding=kernel // 2, bias=False)
            self.maxpool = nn.Identity()
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
        return self.after_regions(self.before_regions(images))

    def before_regions(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, 2H/s, 2W/s], the map of layer3."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return cast(Tensor, self.layer3(self.layer2(self.layer1(x))))

    def after_regions(self, maps: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, dim, h/2, w/2], layer4."""
        return cast(Tensor, self.layer4(maps))
