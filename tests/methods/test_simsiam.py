"""SimSiam against its paper's equations, written out again here without any code of the suite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from methods.args import ResNetArgs, SimsiamArgs
from methods.backbones.registry import build_backbone
from methods.objective import embedding_std
from methods.simsiam import Simsiam
from methods.views.batch import Views

from .compare import gradients

ARGS = SimsiamArgs(projection_dim=12, hidden_dim=5)


def build() -> Simsiam:
    torch.manual_seed(0)
    model = Simsiam(ARGS, build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))).double()
    torch.manual_seed(1)  # scales and shifts that are not the initial ones, as after some steps
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.affine:
            module.weight.data += 0.1 * torch.randn_like(module.weight)
            module.bias.data += 0.1 * torch.randn_like(module.bias)
    return model


def views(batch: int = 6, size: int = 24) -> Views:
    rng = torch.Generator().manual_seed(2)
    return Views([torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64) for _ in range(2)])


def standard(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()


def affine(norm: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(norm, nn.BatchNorm1d)
    return standard(x) * norm.weight + norm.bias


def embed(model: Simsiam, images: Tensor) -> tuple[Tensor, Tensor]:
    """z and p, from the weights alone: section 3, "MLP"."""
    one, norm1, _, two, norm2, _, three, last = model.projector
    x = model.backbone(images).mean((2, 3))
    x = affine(norm1, x @ one.weight.T).clamp(min=0)  # type: ignore[operator, union-attr]
    x = affine(norm2, x @ two.weight.T).clamp(min=0)  # type: ignore[operator, union-attr]
    z = standard(x @ three.weight.T)  # type: ignore[operator, union-attr]
    assert isinstance(last, nn.BatchNorm1d)
    assert last.weight is None
    down, norm, _, up = model.predictor
    hidden = affine(norm, z @ down.weight.T).clamp(min=0)  # type: ignore[operator, union-attr]
    return z, hidden @ up.weight.T + up.bias  # type: ignore[operator, union-attr]


def reference(model: Simsiam, v: Views) -> Tensor:
    """Algorithm 1: D(p1, z2) / 2 + D(p2, z1) / 2, one image at a time, no gradient through z."""
    (z1, p1), (z2, p2) = (embed(model, images) for images in v.images)
    total = torch.zeros((), dtype=torch.float64)
    for p, z in ((p1, z2.detach()), (p2, z1.detach())):
        for a, b in zip(p, z, strict=True):
            total = total - (a @ b) / (a.norm() * b.norm()) / len(p) / 2
    return total


def test_loss_and_gradients_equal_the_papers_algorithm() -> None:
    model, v = build(), views()
    ours, theirs = model.loss(v)["loss"], reference(model, v)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    got, expected = gradients(model, ours), gradients(model, theirs)
    assert got.keys() == expected.keys() == {name for name, _ in model.named_parameters()}
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < 1e-9


def test_views_may_change_places_and_the_loss_is_bounded() -> None:
    model, v = build(), views()
    loss = model.loss(v)["loss"].item()
    assert model.loss(Views(v.images[::-1]))["loss"].item() == pytest.approx(loss, abs=1e-12)
    assert -1 <= loss <= 1


def test_equal_predictions_and_projections_reach_the_minimum() -> None:
    model, v = build(), views()
    model.predictor = nn.Sequential(nn.Identity())
    same = Views([v.images[0], v.images[0].clone()])
    assert model.loss(same)["loss"].item() == pytest.approx(-1, abs=1e-12)


def test_embedding_std_is_that_of_the_projections() -> None:
    model, v = build(), views()
    z, _ = embed(model, v.images[0])
    spread = model.loss(v)["embedding_std"].item()
    assert spread == pytest.approx(embedding_std(z.detach()).item(), abs=1e-6)
    assert spread < math.sqrt(12)
