"""Checkpoints in the layouts of other projects give the features of the network they were saved from."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.args import BackboneArgs
from methods.backbone import Backbone
from suite.errors import DataError, TrainingError
from suite.training.foreign_checkpoints import backbone_tensors, read_checkpoint
from suite.weights import hand_over

RESNET18 = BackboneArgs(arch="resnet18", stem="imagenet")


@pytest.fixture(scope="module")
def resnet() -> torchvision.models.ResNet:
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    model.train()(torch.randn(4, 3, 64, 64))  # running statistics that are not those of a fresh network
    return model.eval()


class Moco(nn.Module):
    """The attributes of facebookresearch/moco's builder."""

    def __init__(self, base: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = base, other
        self.register_buffer("queue", torch.randn(16, 32))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))


class Branches(nn.Module):
    """A network under the names of a project, with a moving average and a head beside it."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, module in branches.items():
            setattr(self, name, module)


def with_head(resnet: torchvision.models.ResNet) -> torchvision.models.ResNet:
    head = torchvision.models.resnet18()
    head.load_state_dict(resnet.state_dict())
    head.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 32))  # type: ignore[assignment]
    return head


def content(layout: str, resnet: torchvision.models.ResNet) -> Any:  # noqa: PLR0911
    torch.manual_seed(1)
    other, bare = torchvision.models.resnet18(), torchvision.models.resnet18()
    bare.load_state_dict(resnet.state_dict())
    del bare.fc
    children = nn.Sequential(*list(resnet.children())[:-1])
    head = nn.Linear(512, 32)
    match layout:
        case "torchvision":
            return resnet.state_dict()
        case "wrapped":
            return {"model": {"state_dict": resnet.state_dict()}, "epoch": 3}
        case "half precision":
            return {key: t.half() if t.is_floating_point() else t for key, t in resnet.state_dict().items()}
        case "moco":
            state = nn.DataParallel(Moco(with_head(resnet), with_head(other))).state_dict()
            return {
                "epoch": 200,
                "arch": "resnet18",
                "state_dict": state,
                "optimizer": {"param_groups": [{"lr": 0.03}]},
            }
        case "moco with its command line":
            return {"state_dict": Moco(resnet, other).state_dict(), "args": argparse.Namespace(lr=0.03, mlp=True)}
        case "solo-learn":
            state = Branches(backbone=bare, momentum_backbone=other, projector=head, classifier=head).state_dict()
            return {"state_dict": state, "hyper_parameters": {"method": "byol"}, "pytorch-lightning_version": "1.6"}
        case "solo-learn 1.0":
            return {"state_dict": Branches(encoder=bare, momentum_encoder=other, projector=head).state_dict()}
        case "mmselfsup":
            online = nn.Sequential(bare, head)  # MoCo and BYOL there: backbone and neck, also under their own names
            state = Branches(online_net=online, target_net=nn.Sequential(other, head), backbone=bare).state_dict()
            return {"meta": {"epoch": 200, "mmselfsup_version": "0.9"}, "state_dict": state}
        case "extracted":
            return {"state_dict": bare.state_dict(), "author": "OpenSelfSup"}
        case "lightly":
            momentum = nn.Sequential(*list(other.children())[:-1])
            return {
                "state_dict": Branches(backbone=children, projection_head=head, backbone_momentum=momentum).state_dict()
            }
        case "a Sequential":
            return children.state_dict()
        case "before torch 0.4.1":
            return {key: t for key, t in resnet.state_dict().items() if "num_batches_tracked" not in key}
    raise AssertionError(layout)


LAYOUTS = [
    "torchvision", "wrapped", "half precision", "moco", "moco with its command line", "solo-learn", "solo-learn 1.0",
    "mmselfsup", "extracted", "lightly", "a Sequential", "before torch 0.4.1",
]  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_features_are_those_of_the_source(
    layout: str, legacy: bool, resnet: torchvision.models.ResNet, tmp_path: Path
) -> None:
    torch.save(content(layout, resnet), tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
    backbone = Backbone(RESNET18)
    hand_over(backbone, backbone_tensors(read_checkpoint(tmp_path / "c.pth"))[1], "c.pth")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = nn.Sequential(*list(resnet.children())[:-1])(images).flatten(1)
        found = backbone.eval().pooled(images)
    tolerance = 2e-2 if layout == "half precision" else 1e-5
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def test_safetensors_and_our_own(resnet: torchvision.models.ResNet, tmp_path: Path) -> None:
    save_file(Backbone(RESNET18).state_dict(), tmp_path / "backbone.safetensors")
    layout, tensors = backbone_tensors(read_checkpoint(tmp_path / "backbone.safetensors"))
    assert layout == "torchvision"
    assert hand_over(Backbone(RESNET18), tensors, "own").startswith("120/120")


def test_another_network_is_refused_by_its_keys(resnet: torchvision.models.ResNet) -> None:
    backbone = Backbone(BackboneArgs(arch="resnet50", stem="imagenet"))
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(TrainingError, match=r"missing layer1\.0\.bn3.*unexpected none.*layer1\.0\.conv1\.weight is"):
        hand_over(backbone, backbone_tensors(resnet.state_dict())[1], "resnet18.pth")
    deeper = Backbone(BackboneArgs(arch="resnet10", stem="imagenet"))
    with pytest.raises(TrainingError, match=r"missing none; unexpected layer1\.1\.bn1"):
        hand_over(deeper, backbone_tensors(resnet.state_dict())[1], "resnet18.pth")
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())


class Foreign:
    """A class of the project that saved the file."""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The file is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page"),
        (b"PK\x03\x04 cut off", "may have been cut off"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_files_that_are_no_checkpoint(data: bytes, message: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"c.{suffix}"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_checkpoint(path)


def test_what_is_saved_as_code_is_not_run(resnet: torchvision.models.ResNet, tmp_path: Path) -> None:
    torch.save({"state_dict": resnet.state_dict(), "config": Foreign()}, tmp_path / "c.pth")
    with pytest.raises(DataError, match=r"Foreign\) beside weights.*save its state_dict alone"):
        read_checkpoint(tmp_path / "c.pth")
    torch.save(resnet, tmp_path / "whole.pth")
    with pytest.raises(DataError, match=r"torchvision\.models\.resnet\.ResNet"):
        read_checkpoint(tmp_path / "whole.pth")


def test_files_without_a_resnet(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "c.pth")
    with pytest.raises(DataError, match="a mapping with the keys epoch, loss"):
        read_checkpoint(tmp_path / "c.pth")
    transformer: dict[str, Tensor] = OrderedDict({"patch_embed.proj.weight": torch.zeros(1)})
    with pytest.raises(DataError, match=r"begin with patch_embed\.proj\.weight.*Known prefixes: MoCo: encoder_q\."):
        backbone_tensors(transformer)
    with pytest.raises(DataError, match="does not exist"):
        read_checkpoint(tmp_path / "nothing.pth")
