"""Backbones keep torchvision's key names, shapes and arithmetic."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import resnet18, resnet50

from methods.args import BackboneArgs, ResNetArgs
from methods.backbone import Classifier
from methods.backbones.registry import build_backbone


@pytest.mark.parametrize(("arch", "reference"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_full_width_is_torchvisions_network(arch: str, reference: object) -> None:
    torch.manual_seed(0)
    theirs = reference().eval()  # type: ignore[operator]
    ours = build_backbone(ResNetArgs(arch=arch)).eval()  # type: ignore[arg-type]
    weights = {name: t for name, t in theirs.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(weights, strict=True)
    image = torch.randn(1, 3, 64, 64)
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        assert torch.allclose(ours.pooled(image), theirs(image), atol=1e-5)


@pytest.mark.parametrize(
    ("args", "dim", "side"),
    [
        (ResNetArgs(arch="resnet10", width=16, stem="small"), 128, 6),
        (ResNetArgs(arch="resnet18", width=32, stem="imagenet"), 256, 2),
        (ResNetArgs(arch="resnet50", width=16, stem="small"), 512, 6),
    ],
)
def test_width_and_stem_set_the_maps_shape(args: BackboneArgs, dim: int, side: int) -> None:
    backbone = build_backbone(args)
    assert backbone.dim == dim
    assert backbone(torch.zeros(2, 3, 48, 48)).shape == (2, dim, side, side)
    assert Classifier(backbone, 7)(torch.zeros(2, 3, 48, 48)).shape == (2, 7)
    assert not [name for name in backbone.state_dict() if name.startswith("fc")]
