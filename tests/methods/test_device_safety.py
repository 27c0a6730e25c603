"""GPU hazards that show on a CPU: strides, types under mixed precision, waits for the device, graph breaks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, distributed, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import roi_align

from methods import distributed as ours
from methods import shuffle_bn, solo_learn, sync_batchnorm
from methods.args import ResNetArgs
from methods.backbones.registry import build_backbone
from methods.insloc import align_regions
from methods.objective import ema_update
from methods.views.base import slice_views
from methods.views.batch import Views

SCRIPT = Path(__file__).with_name("distributed_run.py")
NAMES = (
    "byol", "simclr", "simsiam", "moco_v2", "looc", "insloc", "rot_pred", "rel_loc", "cast", "lcr",
    "barlow_twins", "vicreg", "dino", "swav",
    "byol with alignment", "simclr with alignment", "moco_v2 with alignment",
    "simsiam with alignment",
)  # fmt: skip
# Operations whose result the host has to wait for.
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


class Counted(TorchDispatchMode):
    """Counts the operations that run inside, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> int:
        return sum(self.calls[name] for name in WAITS)


def test_all_objectives_are_looked_at(script: ModuleType) -> None:
    assert set(NAMES) == set(script.CASES)


@pytest.mark.parametrize("node", [ours._Gather, sync_batchnorm._Sum])
def test_gradients_are_contiguous_before_a_collective(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SimCLR's gradient is column-major, which NCCL refuses and gloo does not."""
    seen: list[Tensor] = []
    monkeypatch.setattr(distributed, "all_reduce", seen.append)
    gradient = torch.arange(12.0).view(3, 4).T
    result = node.backward(None, gradient)
    assert not gradient.is_contiguous()
    assert seen[0].is_contiguous()
    assert torch.equal(result, gradient)


def test_a_moving_average_is_one_call_with_the_bits_of_a_loop() -> None:
    target, online = nn.Linear(5, 3), nn.Linear(5, 3)
    expected = [
        old.detach().lerp(new.detach(), 1 - 0.97)
        for old, new in zip(target.parameters(), online.parameters(), strict=True)
    ]
    with Counted() as counted:
        ema_update(target, online, 0.97)
    assert counted.calls["_foreach_lerp_"] == 1
    assert all(torch.equal(p, q) for p, q in zip(target.parameters(), expected, strict=True))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_boxes_keep_single_precision_under_mixed_precision(precision: Any) -> None:
    boxes = [torch.tensor([[201.37, 3.3, 220.01, 57.7]]) for _ in range(2)]
    views = Views([torch.rand(1, 3, 8, 8)] * 2, boxes=boxes)
    plugin = MixedPrecision(precision, "cpu")
    cast, rows = (plugin.convert_input(part) for part in (views, slice_views(views, 0, 1)))
    assert cast.images[0].dtype == plugin._desired_input_dtype
    assert not torch.equal(boxes[0].to(cast.images[0].dtype).float(), boxes[0])  # they would be rounded
    for kept in (*cast.boxes, *rows.boxes):
        assert torch.equal(kept, boxes[0])
    assert views.images[0].dtype == torch.float32  # the batch itself is as it was


@pytest.mark.parametrize("side", [1, 5, 14, 20])
def test_regions_equal_torchvisions(side: int) -> None:
    """Values and gradients, for boxes of all sizes up to the whole map, and for hundreds of them."""
    rng = torch.Generator().manual_seed(side)
    maps = torch.randn(600, 3, 9, 13, generator=rng, dtype=torch.float64, requires_grad=True)
    corner = torch.rand(600, 2, generator=rng, dtype=torch.float64) * torch.tensor([12.0, 8.0])
    extent = torch.rand(600, 2, generator=rng, dtype=torch.float64) * (torch.tensor([13.0, 9.0]) - corner)
    boxes = torch.cat([corner, corner + extent], dim=1)
    boxes[0] = torch.tensor([0.0, 0.0, 13.0, 9.0])
    rows = torch.arange(600, dtype=torch.float64)[:, None]
    theirs = roi_align(maps, torch.cat([rows, boxes], dim=1), side, 1.0, aligned=True)
    mine = align_regions(maps, boxes, side)
    assert torch.allclose(mine, theirs, atol=1e-12)
    weights = torch.randn(theirs.shape, generator=rng, dtype=torch.float64)
    first, second = (torch.autograd.grad((cut * weights).sum(), maps)[0] for cut in (mine, theirs))
    assert torch.allclose(first, second, atol=1e-11)


def test_regions_stay_channels_last_and_precise() -> None:
    maps = torch.randn(2, 8, 6, 6).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    boxes = torch.tensor([[0.137, 1.3, 4.7, 5.9], [2.2, 0.3, 5.5, 3.1]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cut = align_regions(maps, boxes, 4)
    assert cut.dtype == torch.float32
    assert cut.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(cut, align_regions(maps.float(), boxes, 4), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_never_waits_for_the_device(name: str, script: ModuleType) -> None:
    objective, batch = script.build(name).train(), script.batch(name, 0)
    with Counted() as counted:
        objective.before_step(1)
        scalars = objective(batch)
        scalars["loss"].backward()
        objective.after_step(0.5)
    assert counted.calls["convolution"] > 0
    assert counted.waits == 0


def networks() -> tuple[nn.Module, nn.Module]:
    """Two equal networks, with a weight and another parameter's gradient of norm 0."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        network = nn.Sequential(
            build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small")), nn.Linear(64, 5), nn.Linear(5, 3)
        )
        nn.init.zeros_(network[1].weight)  # type: ignore[arg-type]
        made.append(network)
    return made[0], made[1]


class Reference:
    """solo-learn's wrapper around plain SGD."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        wrapper = solo_learn._module("utils.lars").LARSWrapper
        self.sgd = torch.optim.SGD(groups, lr=0.3, momentum=0.9)
        self.step = wrapper(self.sgd, eta=0.01, exclude_bias_n_norm=True).step


def groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def set_gradients(network: nn.Module, step: int) -> None:
    rng = torch.Generator().manual_seed(step)
    for name, parameter in network.named_parameters():
        parameter.grad = torch.randn(parameter.shape, generator=rng)
        if name == "2.weight":
            parameter.grad.zero_()
        if name == "0.layer1.0.conv1.weight" and step == 1:
            parameter.grad = None


@pytest.mark.parametrize("decay", [1e-2, 0.0])
def test_lars_equals_solo_learns_wrapper(decay: float) -> None:
    mine, theirs = networks()
    optimizer, reference = solo_learn.Lars(groups(mine, decay), 0.3, 0.9, 0.01), Reference(groups(theirs, decay))
    for step in range(4):
        set_gradients(mine, step)
        set_gradients(theirs, step)
        optimizer.step()
        reference.step()
        for (name, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-6, atol=1e-7), (step, name)
    assert optimizer.param_groups[0]["weight_decay"] == decay


def test_lars_never_waits_for_the_device_where_the_wrapper_does() -> None:
    mine, theirs = networks()
    optimizer, reference = solo_learn.Lars(groups(mine, 0.1), 0.3, 0.9, 0.01), Reference(groups(theirs, 0.1))
    waits = []
    for network, step in ((mine, optimizer.step), (theirs, reference.step)):
        set_gradients(network, 0)
        with Counted() as counted:
            step()
        waits.append(counted.waits)
    scaled = len(groups(theirs, 0.1)[0]["params"])
    assert waits[0] == 0
    assert waits[1] >= scaled  # otherwise the count sees nothing


def test_weights_of_a_frozen_network_are_cast_once() -> None:
    """Four groups under autocast: the same features, with a quarter of the casts."""
    torch.manual_seed(0)
    network = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small")).requires_grad_(False)
    layers = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    images, before = torch.randn(8, 3, 16, 16), dict(network.named_parameters())
    results, casts = [], []
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        with Counted() as counted:
            results.append(shuffle_bn.in_groups(network.pooled, 4, images))
        casts.append(counted.calls["_to_copy"])
        with Counted() as counted, shuffle_bn.cast_once(network):
            results.append(shuffle_bn.in_groups(network.pooled, 4, images))
        casts.append(counted.calls["_to_copy"])
    assert torch.equal(*results)
    assert casts[0] - casts[1] == 3 * layers
    assert all(parameter is before[name] for name, parameter in network.named_parameters())
    with shuffle_bn.cast_once(network):
        assert all(parameter is before[name] for name, parameter in network.named_parameters())


GROUPED = ("moco_v2", "looc", "insloc", "cast", "lcr", "moco_v2 with alignment")


@pytest.mark.parametrize("name", GROUPED)
def test_groups_in_one_pass_are_groups_one_by_one(
    name: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA: the same losses, gradients and running statistics, with one call of every convolution."""
    results, convolutions = [], []
    for at_once in (False, True):
        monkeypatch.setattr(shuffle_bn, "_at_once", lambda _images, at_once=at_once: at_once)
        torch.manual_seed(0)
        objective, batch = script.build(name).train(), script.batch(name, 0)
        torch.manual_seed(1)  # the order of the keys
        with Counted() as counted:
            scalars = objective(batch)
        convolutions.append(counted.calls["convolution"])
        scalars["loss"].backward()
        gradients = {f"gradient of {key}": p.grad for key, p in objective.named_parameters() if p.grad is not None}
        results.append({**scalars, **gradients, **dict(objective.named_buffers())})
        assert not any("forward" in vars(module) for module in objective.modules())
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        torch.testing.assert_close(
            value, results[1][key], rtol=1e-8, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}"
        )
    assert convolutions[0] > 3 * convolutions[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_loss_is_one_graph(name: str, script: ModuleType) -> None:
    torch._dynamo.reset()
    objective, batch = script.build(name).train(), script.batch(name, 0)
    explained = torch._dynamo.explain(objective.loss)(batch)  # type: ignore[no-untyped-call]
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons
