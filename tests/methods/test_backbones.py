"""The registry of backbone families: settings by architecture, what is written of them, and what it imports."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
import torchvision
from pydantic import BaseModel, SerializeAsAny, ValidationError

from methods.args import BackboneArgs, ResNetArgs
from methods.backbone import Backbone, RegionBackbone
from methods.backbones.base import add_family, architectures, family_of
from methods.backbones.registry import build_backbone
from methods.backbones.resnet import ResNetFamily


class Holder(BaseModel):
    backbone: SerializeAsAny[BackboneArgs]


def test_the_architecture_decides_the_class_of_the_settings() -> None:
    data: dict[str, Any] = {"backbone": {"arch": "resnet18", "width": 32, "stem": "half"}}
    parsed = Holder.model_validate(data)
    assert isinstance(parsed.backbone, ResNetArgs)
    assert parsed.model_dump(mode="json") == data  # no field more, so that keys stay as they were
    assert Holder.model_validate_json(parsed.model_dump_json()) == parsed
    assert Holder(backbone=parsed.backbone).backbone is parsed.backbone


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "resnet81"}, "did you mean 'resnet1"),
        ({"arch": "resnet18", "witdh": 8}, "witdh"),
        ({"arch": "resnet18", "width": 2}, "greater than or equal to 8"),
        ({"width": 16}, "Field required"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Holder.model_validate({"backbone": settings})


def test_the_base_classes_build_the_family_of_the_architecture() -> None:
    args = BackboneArgs(arch="resnet10", width=8, stem="half")
    assert args == ResNetArgs(arch="resnet10", width=8, stem="half")
    assert copy.deepcopy(args) == pickle.loads(pickle.dumps(args)) == args
    torch.manual_seed(3)
    network = Backbone(args)
    torch.manual_seed(3)
    expected = build_backbone(args)
    assert type(network) is type(expected)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))
    with pytest.raises(ValueError, match="did you mean 'resnet1"):
        BackboneArgs(arch="resnet81")


def test_two_families_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="resnet10' exists already"):
        add_family(ResNetFamily())
    assert family_of("resnet10") is family_of("resnet101")


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2"])
def test_keys_and_shapes_are_torchvisions(arch: str) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, arch)().state_dict()
        ours = build_backbone(BackboneArgs.model_validate({"arch": arch})).state_dict()
    assert {name: t.shape for name, t in ours.items()} == {
        name: t.shape for name, t in theirs.items() if not name.startswith("fc.")
    }


def test_a_narrow_wide_resnet_has_the_same_map_in_two_halves() -> None:
    torch.manual_seed(0)
    network = build_backbone(ResNetArgs(arch="wide_resnet50_2", width=8, stem="small")).eval()
    assert isinstance(network, RegionBackbone)
    assert "wide_resnet50_2" in architectures(regions=True)
    images = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        assert torch.equal(network.after_regions(network.before_regions(images)), network(images))


def test_pooling_calls_the_network_as_a_module() -> None:
    """Hooks and compiled calls see it: class activation maps depend on that."""
    network = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))
    seen: list[torch.Tensor] = []
    network.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    pooled = network.pooled(torch.randn(2, 3, 16, 16))
    assert torch.equal(seen[0].mean(dim=(2, 3)), pooled)


def test_settings_and_costs_need_no_torch() -> None:
    code = (
        "import sys\nfrom methods.args import BackboneArgs\nfrom methods.backbones.registry import cost_of, dim_of\n"
        "args = BackboneArgs.model_validate({'arch': 'resnet50'})\nprint(cost_of(args, 224), dim_of(args))\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    macs = 4_089_184_256 - 2048 * 1000  # torchvision states 4.09 G with the classifier
    assert done.stdout.split()[:2] == [f"Cost(macs={macs},", "parameters=23508032)"]
