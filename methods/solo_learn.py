"""The one place that touches solo-learn (da Costa et al. 2022, JMLR 23): losses and LARS.

solo-learn 1.0.2 pins a torch of 2021, and its package initialiser imports Lightning code that no longer exists.
The modules used here need neither: empty parent packages are registered, so that the initialisers are skipped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import batch_norm

VERSION = "1.0.2"
INSTALL = f"pip install --no-deps solo-learn=={VERSION}"


class SoloLearnMissing(ImportError):
    """solo-learn is not installed, or in a version whose losses were not compared with the papers' equations."""


@cache
def _module(name: str) -> ModuleType:
    """The module ``solo.<name>``, imported without running any ``solo`` package's ``__init__``."""
    try:
        installed = metadata.version("solo-learn")
    except metadata.PackageNotFoundError:
        raise SoloLearnMissing(f"solo-learn {VERSION} is not installed. Install it with: {INSTALL}") from None
    if installed != VERSION:
        raise SoloLearnMissing(f"expected solo-learn {VERSION}, found {installed}. Install it with: {INSTALL}")
    root = Path(str(metadata.distribution("solo-learn").locate_file("solo")))
    for package, folder in (("solo", root), ("solo.losses", root / "losses"), ("solo.utils", root / "utils")):
        if package not in sys.modules:
            shell = ModuleType(package)
            shell.__path__ = [str(folder)]
            sys.modules[package] = shell
    return import_module(f"solo.{name}")


_LOSSES = {
    "byol_loss_func": "losses.byol",
    "moco_loss_func": "losses.moco",
    "simclr_loss_func": "losses.simclr",
    "simsiam_loss_func": "losses.simsiam",
    "invariance_loss": "losses.vicreg",
    "variance_loss": "losses.vicreg",
}
_FUNCTIONS: dict[str, Any] = {}  # the losses, once they are imported


def load_losses() -> None:
    """Import the losses. Objectives call it when they are built: torch.compile breaks its graph at an import.

    Raises:
        SoloLearnMissing: names the command that installs solo-learn.
    """
    for name, module in _LOSSES.items():
        _FUNCTIONS[name] = getattr(_module(module), name)


def _function(name: str) -> Any:
    if name not in _FUNCTIONS:
        load_losses()
    return _FUNCTIONS[name]


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """solo-learn's BYOL loss of one direction: mean over the batch of 2 - 2 cos(prediction, target).

    Both [B, D]; no gradient reaches `target` (arXiv:2006.07733, equation 2).
    """
    function = cast("Callable[[Tensor, Tensor], Tensor]", _function("byol_loss_func"))
    return function(prediction, target)


def simclr_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """solo-learn's NT-Xent: mean over the 2N anchors of two views' projections [N, D] (arXiv:2002.05709, equation 1).

    It normalises them, in single precision at least, since logits reach 1 / temperature. The negatives are those of
    the batch handed in; what other processes have must be gathered before.
    """
    function = cast("Callable[[Tensor, Tensor, float], Tensor]", _function("simclr_loss_func"))
    precise = torch.promote_types(first.dtype, torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        return function(first.to(precise), second.to(precise), temperature)


def simsiam_loss(prediction: Tensor, projection: Tensor) -> Tensor:
    """solo-learn's SimSiam loss of one direction: mean over the batch of -cos(prediction, projection).

    Both [B, D]; no gradient reaches `projection` (arXiv:2011.10566, equation 1).
    """
    function = cast("Callable[[Tensor, Tensor], Tensor]", _function("simsiam_loss_func"))
    return function(prediction, projection)


def moco_loss(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """solo-learn's InfoNCE of one direction: mean over the batch (arXiv:1911.05722, equation 1).

    query and key are [B, D], queue is [D, K], all of unit length and at least single precision: nothing is normalised,
    nor detached. The key of another query in the batch is no negative.
    """
    function = cast("Callable[[Tensor, Tensor, Tensor, float], Tensor]", _function("moco_loss_func"))
    with torch.autocast(query.device.type, enabled=False):
        return function(query, key, queue, temperature)


def barlow_loss(first: Tensor, second: Tensor, off_diagonal: float, scale: float) -> Tensor:
    """Barlow Twins' loss of two views' embeddings [N, D] (arXiv:2103.03230, equation 1), times `scale`.

    What solo-learn's barlow_loss_func computes in one process, in single precision at least, and without a boolean mask
    of D x D entries, for which the device is waited for. solo-learn normalises the rows of each process by themselves;
    here rows of other processes must be gathered before.
    """
    precise = torch.promote_types(first.dtype, torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        a, b = (batch_norm(rows.to(precise), None, None, training=True) for rows in (first, second))
        correlation = a.T @ b / len(a)  # [D, D]
        diagonal = correlation.diagonal()
        return scale * ((diagonal - 1).square().sum() + off_diagonal * _off_diagonal_squares(correlation))


def vicreg_loss(first: Tensor, second: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """VICReg's loss of two views' embeddings [N, D] (arXiv:2105.04906, algorithm 1), each term with its weight.

    Invariance and variance are solo-learn's. The covariances are computed as there, but without a boolean mask of D x D
    entries, for which the device is waited for. Single precision at least; rows of other processes must be gathered
    before.
    """
    precise = torch.promote_types(first.dtype, torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        a, b = first.to(precise), second.to(precise)
        loss = invariance * _function("invariance_loss")(a, b) + variance * _function("variance_loss")(a, b)
        for rows in (a, b):
            centred = rows - rows.mean(dim=0)
            squares = _off_diagonal_squares(centred.T @ centred / (len(rows) - 1))
            loss = loss + covariance * squares / rows.shape[1]
        return cast(Tensor, loss)


def _off_diagonal_squares(matrix: Tensor) -> Tensor:
    """Sum of the squares of all entries of [D, D] but the diagonal's."""
    return matrix.square().sum() - matrix.diagonal().square().sum()


_EPSILON = 1e-8  # of solo-learn's LARSWrapper


class Lars(torch.optim.SGD):
    """SGD with momentum and solo-learn's LARS (You et al. 2017, arXiv:1708.03888).

    It computes what solo-learn's wrapper computes, for all parameters at once and without waiting for the device.

    One-dimensional parameters (biases and all of batch normalisation) must come in a parameter group of their own
    with weight decay 0; they are also left out of the trust ratio, as BYOL and SimCLR do.
    A parameter whose weight or gradient norm is 0 keeps its plain gradient.

    fused: torch's fused SGD makes the update. A gradient scaler then skips a step on the device (`found_inf`).
    """

    def __init__(self, params: Any, lr: float, momentum: float, eta: float, fused: bool | None = None) -> None:
        super().__init__(params, lr=lr, momentum=momentum, fused=fused)
        self._eta = eta

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; the gradients are scaled in place by the trust ratios."""
        self._unscale()
        decays = [group["weight_decay"] for group in self.param_groups]
        try:
            for group, decay in zip(self.param_groups, decays, strict=True):
                trained = [p for p in group["params"] if p.grad is not None and p.ndim != 1]
                if trained:
                    _scale_gradients(trained, decay, self._eta)
                group["weight_decay"] = 0  # it is part of the gradients now
            return super().step(closure)
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay

    def _unscale(self) -> None:
        """Undo the scale of a gradient scaler that leaves it to the optimiser: norms need the true gradients."""
        scale = getattr(self, "grad_scale", None)
        if scale is None:
            return
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, scale.double().reciprocal().to(scale.dtype))
        self.grad_scale = None


def _scale_gradients(parameters: list[Tensor], decay: float, eta: float) -> None:
    """In place: gradient <- ratio (gradient + decay weight).

    ratio = eta |weight| / (|gradient| + decay |weight| + eps).

    The arithmetic of solo-learn's LARSWrapper, without its two reads of the device per parameter: where a norm is 0 the
    ratio is chosen on the device so that the gradient stays as it is.
    """
    weights, gradients = [p.detach() for p in parameters], [cast(Tensor, p.grad) for p in parameters]
    weight_norms, gradient_norms = (torch.stack(torch._foreach_norm(tensors)) for tensors in (weights, gradients))
    ratios = (eta * weight_norms) / (gradient_norms + weight_norms * decay + _EPSILON)
    # A weight of norm 0 adds no decay, so 1 keeps the gradient; a gradient of norm 0 is 0, and so is 0 times the decay.
    ratios = torch.where(weight_norms == 0, 1.0, torch.where(gradient_norms == 0, 0.0, ratios))
    if decay:
        torch._foreach_add_(gradients, torch._foreach_mul(weights, decay))
    torch._foreach_mul_(gradients, list(ratios.unbind()))
