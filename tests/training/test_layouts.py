"""The backbone is found in checkpoints of other projects, bit for bit, by its own keys."""

from __future__ import annotations

import argparse
import gzip
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.args import BackboneArgs, ResNetArgs
from methods.backbones.registry import build_backbone
from suite.errors import DataError
from suite.training.foreign_checkpoints import read_checkpoint
from suite.training.layouts import backbone_tensors, import_backbone
from suite.weights import load_backbone_state

RESNET18 = ResNetArgs(arch="resnet18", stem="imagenet")
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def resnet() -> torchvision.models.ResNet:
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    model.train()(torch.randn(4, 3, 64, 64))  # running statistics that are not those of a fresh network
    return model.eval()


@pytest.fixture(scope="module")
def other() -> torchvision.models.ResNet:
    torch.manual_seed(1)
    return torchvision.models.resnet18()


def under(prefix: str, model: nn.Module, classifier: bool = False) -> State:
    return {prefix + key: t for key, t in model.state_dict().items() if classifier or not key.startswith("fc.")}


def sequential(prefix: str, model: nn.Module) -> State:
    return under(prefix, nn.Sequential(*list(model.children())[:-1]))


def numbered_without_gaps(prefix: str, model: nn.Module) -> State:
    """A Sequential without ReLU and pooling between the children, as lightly's own generator writes."""
    return under(
        prefix, nn.Sequential(*[c for name, c in model.named_children() if name[:4] in {"conv", "bn1", "laye"}])
    )


def transformers(prefix: str, model: nn.Module) -> State:
    """The names of transformers' ResNetModel, written down independently of the code under test."""
    renamed = {}
    for key, tensor in under("", model).items():
        parts = key.split(".")
        kind = {"conv": "convolution", "bn": "normalization"}
        if len(parts) == 2:
            place = f"embedder.embedder.{kind[parts[0][:-1]]}"
        else:
            block = f"encoder.stages.{int(parts[0][5:]) - 1}.layers.{parts[1]}"
            if parts[2] == "downsample":
                place = f"{block}.shortcut.{['convolution', 'normalization'][int(parts[3])]}"
            else:
                place = f"{block}.layer.{int(parts[2][-1]) - 1}.{kind[parts[2][:-1]]}"
        renamed[f"{prefix}{place}.{parts[-1]}"] = tensor
    return renamed


def foreign(module: str, name: str, base: type = object, **attributes: Any) -> Any:
    """An object of a class that can be saved here, and is gone when the file is read."""
    made = type(name, (base,), {"__module__": module})
    for end in range(1, module.count(".") + 2):
        part = ".".join(module.split(".")[:end])
        sys.modules.setdefault(part, types.ModuleType(part))
    setattr(sys.modules[module], name, made)
    value = made()
    if attributes:
        value.__dict__.update(attributes)
    return value


HEAD = {"projector.0.weight": torch.zeros(3, 3), "fc.weight": torch.zeros(4, 512)}
FOREIGN = ("mmengine", "omegaconf", "lightly_of_a_test", "vissl_of_a_test")


def projects(resnet: nn.Module, other: nn.Module) -> dict[str, Any]:
    """What each project saves."""
    history = foreign("mmengine.logging.history_buffer", "HistoryBuffer", _log_history=np.arange(3.0), _max_length=10)
    config = foreign("mmengine.config.config", "ConfigDict", dict)
    config.update(type="BYOL", lr=0.1)
    omega = foreign("omegaconf.dictconfig", "DictConfig", _content={"lr": 0.1}, _metadata=None)
    return {
        "torchvision": resnet.state_dict(),
        "nested": {"epoch": 3, "model": {"state_dict": resnet.state_dict()}},
        "half": {k: t.half() if t.is_floating_point() else t for k, t in resnet.state_dict().items()},
        "double": {k: t.double() if t.is_floating_point() else t for k, t in resnet.state_dict().items()},
        "moco": {
            "epoch": 200, "arch": "resnet18", "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}},
            "state_dict": {
                **under("module.encoder_k.", other, classifier=True),
                **under("module.encoder_q.", resnet, classifier=True),
                "module.queue": torch.zeros(4, 4), "module.queue_ptr": torch.zeros(1, dtype=torch.long),
            },
            "args": argparse.Namespace(lr=0.03, gpu=None),
        },
        "mmselfsup 1": {
            "meta": {"epoch": 200, "cfg": config, "dataset_meta": {"CLASSES": None}},
            "state_dict": {**under("backbone.", resnet), "neck.fc0.weight": torch.zeros(3, 3)},
            "message_hub": {"log_scalars": OrderedDict({"train/loss": history}), "runtime_info": {"iter": np.int64(9)}},
            "optimizer": {"state": {}, "param_groups": []}, "param_schedulers": [],
        },
        "mmselfsup 1, byol": {
            "state_dict": {
                **under("target_net.module.0.", other), **under("backbone.", resnet),
                "target_net.steps": torch.tensor(3),
            },
            "message_hub": history,
        },
        "mmselfsup 0": {
            "meta": {"mmselfsup_version": "0.9"},
            "state_dict": {**under("target_net.0.", other), **under("online_net.0.", resnet)},
        },
        "extracted": {"state_dict": under("", resnet), "author": "OpenSelfSup"},
        "solo-learn": {
            "state_dict": {**under("backbone.", resnet), **under("momentum_backbone.", other), **HEAD},
            "hyper_parameters": omega, "callbacks": {"EarlyStopping": {"best_score": np.float64(1)}},
        },
        "lightly": {
            "state_dict": {**sequential("backbone_momentum.", other), **sequential("backbone.", resnet), **HEAD}
        },
        "lightly's command line": {"state_dict": sequential("model.backbone.", resnet)},
        "lightly's generator": {"state_dict": numbered_without_gaps("model.backbone.", resnet)},
        "PyTorch-BYOL": {
            "online_network_state_dict": sequential("encoder.", resnet),
            "target_network_state_dict": sequential("encoder.", other),
        },
        "byol-pytorch": {**under("online_encoder.net.", resnet), **under("target_encoder.net.", other)},
        "vissl": {
            "classy_state_dict": {
                "base_model": {"model": {"trunk": under("_feature_blocks.", resnet), "heads": {"0.a": torch.ones(2)}}}
            },
            "config": foreign("vissl_of_a_test.config", "AttrDict", dict),
        },
        "dino": {"student": under("module.backbone.", resnet), "teacher": under("backbone.", other), "epoch": 1},
        "barlow": {"model": {**under("module.backbone.", resnet), "module.bn.running_mean": torch.zeros(3)}},
        "moco v3": {
            "state_dict": {**under("module.base_encoder.", resnet), **under("module.momentum_encoder.", other)},
        },
        "timm with an average": {"state_dict": resnet.state_dict(), "state_dict_ema": other.state_dict()},
        "compiled": {"model": under("_orig_mod.", resnet)},
        "compiled inside": {
            "model": {k.replace("layer3.", "layer3._orig_mod."): t for k, t in under("module.", resnet).items()}
        },
        "fsdp": under("_fsdp_wrapped_module.module._fsdp_wrapped_module.", resnet),
        "averaged": {"n_averaged": torch.tensor(9), **under("module.backbone.", resnet)},
        "transformers": transformers("resnet.", resnet),
        "unheard of": {"stuff": [{"deep": (under("net.of.mine.", resnet),)}]},
        "parameters": {k: nn.Parameter(t) if t.is_floating_point() else t for k, t in resnet.state_dict().items()},
        "before torch 0.4.1": {k: t for k, t in resnet.state_dict().items() if "num_batches" not in k},
        "a whole module": {"model": resnet},
        "a whole parallel module": nn.DataParallel(resnet),
        "a mapping of its own class": {"state_dict": _filled(config, under("backbone.", resnet))},
    }  # fmt: skip


def _filled(mapping: Any, content: State) -> Any:
    made = type(mapping)()
    made.update(content)
    return made


NAMES = [
    "torchvision", "nested", "half", "double", "moco", "mmselfsup 1", "mmselfsup 1, byol", "mmselfsup 0", "extracted",
    "solo-learn", "lightly", "lightly's command line", "lightly's generator", "PyTorch-BYOL", "byol-pytorch", "vissl",
    "dino", "barlow", "moco v3", "timm with an average", "compiled", "compiled inside", "fsdp", "averaged",
    "transformers", "unheard of", "parameters", "before torch 0.4.1", "a whole module", "a whole parallel module",
    "a mapping of its own class",
]  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("project", NAMES)
def test_the_tensors_are_those_of_the_source(
    project: str, legacy: bool, resnet: nn.Module, other: nn.Module, tmp_path: Path
) -> None:
    content = projects(resnet, other)
    assert list(content) == NAMES
    torch.save(content[project], tmp_path / "file", _use_new_zipfile_serialization=not legacy)
    for name in [name for name in sys.modules if name.partition(".")[0] in FOREIGN]:
        del sys.modules[name]
    backbone = build_backbone(RESNET18)
    description, tensors = import_backbone(tmp_path / "file", backbone.state_dict())
    load_backbone_state(backbone, tensors, "file")
    assert description.startswith(f"{120 if project != 'before torch 0.4.1' else 100} tensors at ")
    for key, tensor in under("", resnet).items():
        if project == "before torch 0.4.1" and key.endswith("num_batches_tracked"):
            continue
        expected = tensor.half() if project == "half" and tensor.is_floating_point() else tensor
        assert torch.equal(backbone.state_dict()[key], expected.to(tensor.dtype)), key
    assert not [name for name in sys.modules if name.partition(".")[0] in FOREIGN]


def test_the_features_are_those_of_the_source(resnet: torchvision.models.ResNet, tmp_path: Path) -> None:
    torch.save({"state_dict": sequential("backbone.", resnet)}, tmp_path / "c.pth")
    backbone = build_backbone(RESNET18)
    load_backbone_state(backbone, import_backbone(tmp_path / "c.pth", backbone.state_dict()).tensors, "c.pth")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = nn.Sequential(*list(resnet.children())[:-1])(images).flatten(1)
        torch.testing.assert_close(backbone.eval().pooled(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("trained", "average"),
    [("encoder_q.", "encoder_k."), ("online.", "target."), ("student.net.", "teacher."), ("model.", "model_ema."),
     ("a.b.c.net.", "swa.")],
)  # fmt: skip
def test_the_trained_network_is_taken_before_its_average(
    trained: str, average: str, order: int, resnet: nn.Module, other: nn.Module
) -> None:
    branches = [under(trained, resnet), under(average, other)][::order]
    description, tensors = backbone_tensors(branches[0] | branches[1], build_backbone(RESNET18).state_dict())
    assert torch.equal(tensors["conv1.weight"], resnet.state_dict()["conv1.weight"])
    assert f"'{trained}', the trained network's, taken; the backbone was also at '{average}'" in description


def test_two_equal_branches_are_named(resnet: nn.Module, other: nn.Module) -> None:
    stored = under("net1.", resnet) | under("net2.", other) | HEAD
    description, tensors = backbone_tensors(stored, build_backbone(RESNET18).state_dict())
    assert torch.equal(tensors["conv1.weight"], resnet.state_dict()["conv1.weight"])
    assert description == "120 tensors at 'net1.' taken; the backbone was also at 'net2.'; 2 other tensors left out"


def test_a_complete_average_beats_an_incomplete_network(resnet: nn.Module, other: nn.Module) -> None:
    stored = under("online.", other) | under("target.", resnet)
    del stored["online.layer4.1.conv2.weight"]
    _, tensors = backbone_tensors(stored, build_backbone(RESNET18).state_dict())
    assert torch.equal(tensors["conv1.weight"], resnet.state_dict()["conv1.weight"])


def test_any_backbone_is_found_by_its_own_keys() -> None:
    """Nothing of a ResNet in it: parameters at the top, no normalisation, numbers inside names."""
    reference = {
        "cls_token": torch.zeros(1, 1, 8),
        "blocks.0.attn.qkv.weight": torch.zeros(24, 8),
        "norm.bias": torch.ones(8),
    }
    stored = {f"teacher.backbone.{key}": t + 1 for key, t in reference.items()} | {"teacher.head.bias": torch.zeros(2)}
    description, tensors = backbone_tensors(stored, reference)
    assert torch.equal(tensors["cls_token"], torch.ones(1, 1, 8))
    assert description == "3 tensors at 'teacher.backbone.'; 1 other tensors left out"
    stored["teacher.backbone.blocks.1.attn.qkv.weight"] = torch.zeros(24, 8)
    with pytest.raises(DataError, match=r"missing none; unexpected blocks\.1\.attn\.qkv\.weight"):
        backbone_tensors(stored, reference)


def test_another_network_is_refused_by_its_keys(resnet: nn.Module) -> None:
    stored = under("backbone.", resnet)
    with pytest.raises(
        DataError, match=r"at 'backbone\.': missing layer1\.0\.bn3.*unexpected none; other shape: .* is \("
    ):
        backbone_tensors(stored, build_backbone(ResNetArgs(arch="resnet50", stem="imagenet")).state_dict())
    with pytest.raises(DataError, match=r"missing none; unexpected layer1\.1\.bn1"):
        backbone_tensors(stored, build_backbone(ResNetArgs(arch="resnet10", stem="imagenet")).state_dict())
    narrow = build_backbone(ResNetArgs(arch="resnet18", width=32, stem="imagenet")).state_dict()
    with pytest.raises(DataError, match=r"unexpected none; other shape: bn1\.bias is \(64,\), expected \(32,\)"):
        backbone_tensors(stored, narrow)


def test_the_weights_of_another_depth_are_compared_from_the_beginning() -> None:
    """Not with one of their blocks, which has nothing but names in common with the backbone's first layers."""
    backbone = torchvision.models.resnet18().state_dict()
    with pytest.raises(DataError) as error:
        backbone_tensors(torchvision.models.resnet50().state_dict(), backbone)
    assert "nearest are at the beginning of the names: missing none; unexpected layer1.0.bn3.bias" in str(error.value)
    assert "layer1.0.conv1.weight is (64, 64, 1, 1), expected (64, 64, 3, 3)" in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float, resnet: nn.Module, tmp_path: Path) -> None:
    stored = {key: t.clone() for key, t in under("backbone.", resnet).items()} | {"neck.weight": torch.tensor([value])}
    backbone_tensors(stored, build_backbone(RESNET18).state_dict())  # what is not taken does not matter
    stored["backbone.layer2.0.bn1.running_var"][3] = value
    torch.save({"state_dict": stored}, tmp_path / "c.pth")
    with pytest.raises(DataError, match=r"not finite.*in state_dict\.backbone\.layer2\.0\.bn1\.running_var: 1 of 120"):
        import_backbone(tmp_path / "c.pth", build_backbone(RESNET18).state_dict())


def numpy_state(resnet: nn.Module) -> dict[str, Any]:
    return {key: tensor.numpy() for key, tensor in under("", resnet).items()}


@pytest.mark.parametrize("form", ["safetensors", "npz", "npz compressed", "pickle 2", "pickle 5", "fortran"])
def test_other_formats(form: str, resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "blob"  # no suffix, as in the Hugging Face cache
    if form == "safetensors":
        save_file(under("", resnet), path)
    elif form.startswith("npz"):
        save = np.savez_compressed if "compressed" in form else np.savez
        with path.open("wb") as file:
            save(file, **numpy_state(resnet))
    elif form == "fortran":
        state = {k: np.array(a, order="F") for k, a in numpy_state(resnet).items()}
        path.write_bytes(pickle.dumps({"model": state}, protocol=4))
    else:
        path.write_bytes(pickle.dumps({"model": numpy_state(resnet), "author": "x"}, protocol=int(form[-1])))
    link = tmp_path / "snapshots" / "MODEL.SAFETENSORS"
    link.parent.mkdir()
    link.symlink_to(path)
    _, tensors = import_backbone(link, build_backbone(RESNET18).state_dict())
    assert all(torch.equal(tensors[key], tensor) for key, tensor in under("", resnet).items())


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_tensors_of_every_kind(legacy: bool, tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "view": whole[1:, 2:], "transposed": whole.t(), "step": whole[:, ::2], "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3), "bool": torch.tensor([True, False]), "int8": torch.tensor([-3], dtype=torch.int8),
        "bfloat16": torch.tensor([1.5], dtype=torch.bfloat16), "complex": torch.tensor([1 + 2j]),
        "uint16": torch.tensor([65535], dtype=torch.uint16), "float8": torch.tensor([1.5]).to(torch.float8_e4m3fn),
        "parameter": nn.Parameter(torch.ones(2)),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }  # fmt: skip
    if legacy:
        tensors = {k: t for k, t in tensors.items() if k not in {"uint16", "float8"}}  # torch cannot save them so
    torch.save(tensors, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(tmp_path / "c.pth")
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        value = found[name].read()
        assert value.dtype == tensor.dtype
        assert found[name].shape == tuple(tensor.shape)
        assert torch.equal(value.view(torch.uint8) if name == "float8" else value,
                           tensor.view(torch.uint8) if name == "float8" else tensor.detach())  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The file is empty"),
        (b"\n<!DOCTYPE html><html>Not found</html>", "a web page"),
        (b"<html>log in</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a git-lfs pointer.*git lfs pull"),
        (b'{"error": "not found"}', "a JSON file"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML message"),
        (gzip.compress(b"weights", mtime=0), "compressed by gzip"),
        (b"PK\x03\x04 cut off", "may have been cut off"),
        (b"\x80\x02}q\x00(X\x05", "may have been cut off"),
        (b"no format", "no known format"),
    ],
)
def test_files_that_are_no_checkpoint(data: bytes, message: str, tmp_path: Path) -> None:
    for suffix in ("pth", "safetensors"):
        path = tmp_path / f"c.{suffix}"
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            read_checkpoint(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_download_that_was_cut_off(form: str, resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    if form == "safetensors":
        save_file(under("", resnet), path)
    else:
        torch.save(under("", resnet), path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for share in (0.0001, 0.01, 0.5, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=r"cut off|empty"):
            read_checkpoint(path)


def test_files_without_a_backbone(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "c.pth")
    with pytest.raises(DataError, match="a mapping with the keys epoch, loss"):
        read_checkpoint(tmp_path / "c.pth")
    transformer: State = OrderedDict({"patch_embed.proj.weight": torch.zeros(1)})
    with pytest.raises(
        DataError, match=r"keys that end in conv1\.weight.*the file's begin with patch_embed\.proj\.weight"
    ):
        backbone_tensors(transformer, build_backbone(RESNET18).state_dict())
    with pytest.raises(DataError, match="does not exist"):
        read_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(DataError, match="is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("args", [RESNET18, ResNetArgs(arch="resnet10", width=16, stem="small")])
def test_without_a_reference_any_resnet_is_found(args: BackboneArgs) -> None:
    state = build_backbone(args).state_dict()
    _, tensors = backbone_tensors({f"encoder.{key}": t for key, t in state.items()})
    assert tensors.keys() == state.keys()
