"""Optimisers: torch's SGD and Adam, and LARS from solo-learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from methods.solo_learn import Lars
from suite.jobs.sections import OptimizerArgs

_BETA_2 = 0.999  # Adam's: arXiv:1412.6980, algorithm 1


def build_optimizer(args: OptimizerArgs, module: nn.Module, lr: float, fused: bool | None = None) -> Optimizer:
    """The optimiser for a module's trainable parameters, starting at the effective rate `lr`.

    fused: use torch's fused SGD, also within LARS; None: if all parameters are on a CUDA device. Under 16-mixed
    precision a gradient scaler then skips steps on the device; otherwise every step would wait for it.

    With LARS, one-dimensional parameters (biases, batch normalisation) get neither weight decay nor a trust ratio
    (BYOL, arXiv:2006.07733, section 3.2); with SGD and Adam every parameter decays, as in He et al. 2016. Adam
    (arXiv:1412.6980) adds the decay to the gradient, as torch does.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if fused is None:
        fused = True if all(p.device.type == "cuda" for p in parameters) else None  # None: torch's choice
    if args.name == "sgd":
        return _with_buffers(
            SGD(
                parameters,
                lr=lr,
                momentum=args.momentum,
                weight_decay=args.weight_decay,
                nesterov=args.nesterov,
                fused=fused,
            )
        )
    if args.name == "adam":
        return Adam(parameters, lr=lr, betas=(args.momentum, _BETA_2), weight_decay=args.weight_decay)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return _with_buffers(Lars(groups, lr=lr, momentum=args.momentum, eta=args.eta, fused=fused))


def restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state of a checkpoint, which may come from a device without fused optimisers, or with them."""
    fused = [group["fused"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, before in zip(optimizer.param_groups, fused, strict=True):
        group["fused"] = before
    _with_buffers(optimizer)


def _with_buffers(optimizer: Optimizer) -> Optimizer:
    """Give fused SGD its momentum buffers, all 0, which the first step would leave undefined if a scaler skips it."""
    for group in optimizer.param_groups:
        if group["fused"] and group.get("momentum"):
            for parameter in group["params"]:
                if optimizer.state[parameter].get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Use `lr` in every parameter group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
