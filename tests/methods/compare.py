"""What the tests of several objectives compare: gradients, and training that is interrupted by a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from methods.objective import Objective
from methods.views.batch import Views

M = TypeVar("M", bound=Objective)


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter that has one."""
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def resumed_state(build: Callable[[], M], views: Callable[[int], Views], steps: int) -> dict[str, Tensor]:
    """The state after `steps` steps, which training with a file in its middle reaches bit by bit.

    views: those of a step.
    """

    def train(model: M, part: range) -> M:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for step in part:
            optimizer.zero_grad()
            model.loss(views(step))["loss"].backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            model.after_step(step / steps)
        return model

    straight = build()
    torch.manual_seed(9)
    train(straight, range(steps))
    half = build()
    torch.manual_seed(9)
    train(half, range(steps // 2))
    file = io.BytesIO()
    torch.save({"model": half.state_dict(), "rng": torch.get_rng_state()}, file)
    torch.manual_seed(1234)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    resumed = build()
    resumed.load_state_dict(state["model"])
    torch.set_rng_state(state["rng"])
    train(resumed, range(steps // 2, steps))
    expected = straight.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())
    return expected
