"""Fused optimisers under a gradient scaler: the same updates, steps skipped without a wait, states of all devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from suite.jobs.sections import OptimizerArgs
from suite.training.optimizers import build_optimizer, restore_optimizer


def args(name: str) -> OptimizerArgs:
    return OptimizerArgs(
        name=name,
        base_lr=0.3,
        momentum=0.9,
        weight_decay=0.1,
        nesterov=False,
        **({"eta": 0.01} if name == "lars" else {}),
    )


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2))


def loss_of(module: nn.Module, step: int) -> Tensor:
    images = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(step))
    loss: Tensor = module(images).square().mean()
    return loss


@pytest.mark.parametrize("name", ["sgd", "lars"])
def test_a_scaler_skips_a_step_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step overflows, as it does at a scale of 65536; nothing of it may be left, in weights or momentum."""
    mine, theirs = network(), network()
    optimizer, reference = build_optimizer(args(name), mine, 0.3, fused=True), build_optimizer(args(name), theirs, 0.3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    start = [p.detach().clone() for p in mine.parameters()]

    def wait(*_: Any) -> None:
        raise AssertionError("the step waits for the device")

    for step in range(5):
        optimizer.zero_grad()
        scaler.scale(loss_of(mine, step)).backward()
        if step == 0:
            next(mine.parameters()).grad[0] = float("inf")  # type: ignore[index]
        with monkeypatch.context() as patched:
            patched.setattr(Tensor, "item", wait)
            patched.setattr(Tensor, "__bool__", wait)
            scaler.step(optimizer)
        scaler.update()
        if step == 0:
            assert all(torch.equal(p, before) for p, before in zip(mine.parameters(), start, strict=True))
            theirs.load_state_dict(mine.state_dict())  # batch normalisation has seen the batch
            continue
        reference.zero_grad()
        loss_of(theirs, step).backward()
        reference.step()
    assert scaler.get_scale() == 2.0**15
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "lars", "adam"])
@pytest.mark.parametrize("fused", [None, True])
def test_a_state_of_another_device_continues(name: str, fused: bool | None) -> None:
    """A checkpoint without fused optimisers is continued with them, and the other way round."""
    states = []
    for first, second in ((fused, fused), (None if fused else True, fused)):
        module = network()
        optimizer = build_optimizer(args(name), module, 0.3, first)
        for step in range(4):
            if step == 2:
                state = optimizer.state_dict()
                optimizer = build_optimizer(args(name), module, 0.3, second)
                restore_optimizer(optimizer, state)
                assert name == "adam" or all(group["fused"] is second for group in optimizer.param_groups)
            optimizer.zero_grad()
            loss_of(module, step).backward()
            optimizer.step()
        states.append([p.detach() for p in module.parameters()])
    for p, q in zip(*states, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
