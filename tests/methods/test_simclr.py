"""SimCLR against its paper's equation, written out again here without any code of the suite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from methods.args import ResNetArgs, SimclrArgs
from methods.backbones.registry import build_backbone
from methods.objective import embedding_std
from methods.simclr import Simclr
from methods.solo_learn import simclr_loss
from methods.views.batch import Views

from .compare import gradients, resumed_state

ARGS = SimclrArgs(hidden_dim=16, projection_dim=8, temperature=0.1)


def build() -> Simclr:
    torch.manual_seed(0)
    model = Simclr(ARGS, build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))).double()
    torch.manual_seed(1)  # scales that are not all one, as after some steps
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.data += 0.1 * torch.randn_like(module.weight)
    return model


def views(batch: int = 6, size: int = 24, seed: int = 2) -> Views:
    rng = torch.Generator().manual_seed(seed)
    return Views([torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64) for _ in range(2)])


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """arXiv:2002.05709, equation 1 and algorithm 1: one pair at a time, k != i spelled out."""
    z = [row / row.pow(2).sum().sqrt() for row in (*first, *second)]
    n = len(first)
    total = torch.zeros((), dtype=first.dtype)
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        denominator = sum(((z[i] * z[k]).sum() / temperature).exp() for k in range(2 * n) if k != i)
        total = total - (((z[i] * z[j]).sum() / temperature).exp() / denominator).log()
    return total / (2 * n)


def project(model: Simclr, images: Tensor) -> Tensor:
    """FC - BN - ReLU - FC - BN without biases but the first BN's, from the weights alone."""
    first, norm, _, second, last = model.projector
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(second, nn.Linear)
    assert isinstance(last, nn.BatchNorm1d)

    def standard(x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()

    hidden = standard(model.backbone(images).mean((2, 3)) @ first.weight.T) * norm.weight + norm.bias
    return standard(hidden.relu() @ second.weight.T) * last.weight


def test_loss_and_gradients_equal_the_papers_equation() -> None:
    model, v = build(), views()
    ours = model.loss(v)["loss"]
    theirs = nt_xent(project(model, v.images[0]), project(model, v.images[1]), 0.1)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    got, expected = gradients(model, ours), gradients(model, theirs)
    assert got.keys() == expected.keys()
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < 1e-9


@pytest.mark.parametrize(("batch", "temperature"), [(2, 0.1), (5, 0.1), (5, 1.0)])
def test_solo_learns_loss_is_nt_xent(batch: int, temperature: float) -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(batch, 7, generator=rng, dtype=torch.float64) for _ in range(2))
    assert simclr_loss(a, b, temperature).item() == pytest.approx(nt_xent(a, b, temperature).item(), abs=1e-12)


def test_an_anchor_is_compared_with_all_others_and_never_with_itself() -> None:
    """All embeddings alike: the loss is the logarithm of the number compared with, 2N - 1."""
    same = torch.ones(5, 8, dtype=torch.float64)
    assert simclr_loss(same, same, 0.1).item() == pytest.approx(math.log(9), abs=1e-12)


def test_loss_is_precise_under_mixed_precision() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(6, 32, generator=rng).bfloat16() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = simclr_loss(a, b, 0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(nt_xent(a.double(), b.double(), 0.1).item(), abs=1e-5)


def test_both_views_and_all_but_the_last_shift_are_trained() -> None:
    model, v = build(), views()
    for view in v.images:
        view.requires_grad_()
    got = gradients(model, model.loss(v)["loss"])
    assert all(view.grad is not None for view in v.images)
    last = model.projector[4]
    assert isinstance(last, nn.BatchNorm1d)
    assert last.bias.abs().max() == 0
    assert {name for name, _ in model.named_parameters()} - got.keys() == {"projector.4.bias"}


def test_embedding_std_is_that_of_the_projections() -> None:
    model, v = build(), views()
    expected = embedding_std(project(model, v.images[0])).item()
    scalars = model.loss(v)
    assert scalars["embedding_std"].item() == pytest.approx(expected, abs=1e-6)
    assert not scalars["embedding_std"].requires_grad


def test_saved_state_continues_bit_by_bit() -> None:
    resumed_state(build, lambda step: views(seed=step), 6)
