"""Barlow Twins and VICReg against their papers' equations, written out again here without any code of the suite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import solo_learn
from methods.args import ResNetArgs
from methods.backbones.registry import build_backbone
from methods.barlow_twins import BarlowTwins
from methods.objective import Objective
from methods.redundancy_reduction_args import BarlowTwinsArgs, VicregArgs
from methods.vicreg import Vicreg
from methods.views.batch import Views

from .compare import gradients

BARLOW = BarlowTwinsArgs(width=9, off_diagonal=0.3, scale=0.5)
VICREG = VicregArgs(width=9, invariance=3.0, variance=2.0, covariance=0.7)


def build(kind: type[BarlowTwins] | type[Vicreg]) -> Any:
    torch.manual_seed(0)
    backbone = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))
    made: Objective = BarlowTwins(BARLOW, backbone) if kind is BarlowTwins else Vicreg(VICREG, backbone)
    made = made.double()
    torch.manual_seed(1)  # scales and shifts that are not the initial ones, as after some steps
    for module in made.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.data += 0.1 * torch.randn_like(module.weight)
            module.bias.data += 0.1 * torch.randn_like(module.bias)
    return made


def views(batch: int = 6, size: int = 24) -> Views:
    rng = torch.Generator().manual_seed(2)
    return Views([torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64) for _ in range(2)])


def standard(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()


def embed(model: Any, images: Tensor) -> Tensor:
    """Three linear layers without biases, BN and ReLU after the first two, from the weights alone."""
    one, norm1, _, two, norm2, _, three = model.projector if hasattr(model, "projector") else model.expander
    x = model.backbone(images).mean((2, 3))
    x = (standard(x @ one.weight.T) * norm1.weight + norm1.bias).clamp(min=0)
    x = (standard(x @ two.weight.T) * norm2.weight + norm2.bias).clamp(min=0)
    return x @ three.weight.T  # type: ignore[no-any-return]


def barlow(first: Tensor, second: Tensor) -> Tensor:
    """arXiv:2103.03230, equations 1 and 2, one pair of dimensions at a time; embeddings are centred and divided."""
    a, b = standard(first), standard(second)
    total = torch.zeros((), dtype=a.dtype)
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            correlation = sum(a[n, i] * b[n, j] for n in range(len(a))) / len(a)
            total = total + ((1 - correlation) ** 2 if i == j else BARLOW.off_diagonal * correlation**2)
    return BARLOW.scale * total


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """arXiv:2105.04906, equations 1 to 6, with the mean over dimensions of algorithm 1 in the invariance."""
    n, d = first.shape
    invariance = sum((first[i, j] - second[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    variance, covariance = torch.zeros((), dtype=first.dtype), torch.zeros((), dtype=first.dtype)
    for z in (first, second):
        mean = z.sum(0) / n
        for j in range(d):
            spread = (((z[:, j] - mean[j]) ** 2).sum() / (n - 1) + 1e-4).sqrt()
            variance = variance + (1 - spread).clamp(min=0) / d
            for k in range(d):
                if k != j:
                    covariance = covariance + (((z[:, j] - mean[j]) * (z[:, k] - mean[k])).sum() / (n - 1)) ** 2 / d
    return VICREG.invariance * invariance + VICREG.variance * variance + VICREG.covariance * covariance


CASES = pytest.mark.parametrize(("kind", "equation"), [(BarlowTwins, barlow), (Vicreg, vicreg)])


@CASES
def test_loss_and_gradients_equal_the_papers_equations(kind: Any, equation: Any) -> None:
    model, v = build(kind), views()
    ours, theirs = model.loss(v)["loss"], equation(*(embed(model, images) for images in v.images))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    got, expected = gradients(model, ours), gradients(model, theirs)
    assert got.keys() == expected.keys() == {name for name, _ in model.named_parameters()}
    assert max(gradient.abs().max().item() for gradient in expected.values()) > 1e-2
    largest = max((got[name] - expected[name]).abs().max().item() for name in got)
    print(f"largest differences: loss {ours.item() - theirs.item():.1e}, gradients {largest:.1e}")
    assert largest < 1e-9


@pytest.mark.parametrize(("rows", "width"), [(4, 3), (16, 40)])
def test_losses_and_gradients_are_solo_learns(rows: int, width: int) -> None:
    """In single precision, which its Barlow Twins loss needs."""
    rng = torch.Generator().manual_seed(rows)
    pair = [(3 * torch.randn(rows, width, generator=rng)).requires_grad_() for _ in range(2)]
    theirs = solo_learn._module("losses.barlow").barlow_loss_func(*pair, lamb=0.01, scale_loss=0.3)
    ours = solo_learn.barlow_loss(pair[0], pair[1], 0.01, 0.3)
    both = [(ours, theirs)]
    theirs = solo_learn._module("losses.vicreg").vicreg_loss_func(*pair, 25.0, 20.0, 2.0)
    both.append((solo_learn.vicreg_loss(pair[0], pair[1], 25.0, 20.0, 2.0), theirs))
    for mine, other in both:
        assert mine.item() == pytest.approx(other.item(), rel=1e-5)
        for got, expected in zip(torch.autograd.grad(mine, pair), torch.autograd.grad(other, pair), strict=True):
            assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@CASES
def test_views_may_change_places_and_rows_too(kind: Any, equation: Any) -> None:
    model, v = build(kind), views()
    loss = model.loss(v)["loss"].item()
    assert model.loss(Views(v.images[::-1]))["loss"].item() == pytest.approx(loss, rel=1e-12)
    assert model.loss(Views([images.flip(0) for images in v.images]))["loss"].item() == pytest.approx(loss, rel=1e-9)


def test_uncorrelated_dimensions_reach_the_minimum() -> None:
    """Orthogonal columns of mean 0: correlation is the identity, covariances are 0, deviations are above 1."""
    z = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert solo_learn.barlow_loss(z, 5 * z, 0.01, 1.0).item() == pytest.approx(0, abs=1e-8)  # scale does not matter
    assert solo_learn.vicreg_loss(z, z, 25.0, 25.0, 1.0).item() == 0
    assert solo_learn.vicreg_loss(z, z + 1, 25.0, 25.0, 1.0).item() == pytest.approx(25)  # only the distance
    assert solo_learn.vicreg_loss(0 * z, 0 * z, 25.0, 25.0, 1.0).item() == pytest.approx(2 * 25 * 0.99)  # collapse


def test_mixed_precision_computes_the_loss_in_single_precision() -> None:
    rng = torch.Generator().manual_seed(0)
    pair = [torch.randn(8, 5, generator=rng).to(torch.bfloat16) for _ in range(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for loss, terms in ((solo_learn.barlow_loss, (0.01, 1.0)), (solo_learn.vicreg_loss, (25.0, 25.0, 1.0))):
            mixed = loss(*pair, *terms)  # type: ignore[operator]
            assert mixed.dtype == torch.float32
            assert torch.equal(mixed, loss(*(z.float() for z in pair), *terms))  # type: ignore[operator]
