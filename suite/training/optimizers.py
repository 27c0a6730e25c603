"""Optimisers: torch's SGD and Adam, and LARS from solo-learn."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Adam, Optimizer

from methods.solo_learn import Lars
from suite.jobs.sections import OptimizerArgs


def build_optimizer(args: OptimizerArgs, module: nn.Module, lr: float) -> Optimizer:
    """The optimiser for a module's trainable parameters, starting at the effective rate `lr`.

    With LARS, one-dimensional parameters (biases, batch normalisation) get neither weight decay nor a trust ratio
    (BYOL, arXiv:2006.07733, section 3.2); with SGD and Adam every parameter decays, as in He et al. 2016. Adam
    (arXiv:1412.6980) adds the decay to the gradient, as torch does.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if args.name == "sgd":
        return SGD(parameters, lr=lr, momentum=args.momentum, weight_decay=args.weight_decay, nesterov=args.nesterov)
    if args.name == "adam":
        return Adam(parameters, lr=lr, betas=(args.momentum, 0.999), weight_decay=args.weight_decay)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return Lars(groups, lr=lr, momentum=args.momentum, eta=args.eta)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Use `lr` in every parameter group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
