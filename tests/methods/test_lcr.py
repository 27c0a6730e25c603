"""LCR on MoCo v2 against its equations, with the Grad-CAM left to autograd."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.args import ResNetArgs
from methods.attention_guided_args import LcrArgs
from methods.backbones.registry import build_backbone
from methods.lcr import Lcr, info_nce_gradient, stretched
from methods.views.batch import Views

from .compare import gradients

M, K, T = 0.9, 10, 0.2
BASE = {
    "hidden_dim": 16, "projection_dim": 8, "temperature": T, "momentum": M, "queue_size": K, "bn_splits": 2,
    "detectors": 5, "weight": 0.7, "softness": 0.3,
}  # fmt: skip


def build(**changes: Any) -> Lcr:
    torch.manual_seed(0)
    backbone = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))
    model = Lcr(LcrArgs(**{**BASE, **changes}), backbone, 100).double()
    torch.manual_seed(1)  # a key encoder that differs from the query's, as after some steps
    for parameter in [*model.key_backbone.parameters(), *model.key_head.parameters()]:
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def views(batch: int = 6, size: int = 24) -> Views:
    rng = torch.Generator().manual_seed(2)
    return Views([torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64) for _ in range(2)])


def embed(head: nn.Module, features: Tensor) -> Tensor:
    first, _, second = head.children()
    hidden = (features @ first.weight.T + first.bias).relu()  # type: ignore[operator]
    z = hidden @ second.weight.T + second.bias  # type: ignore[operator]
    return z / z.pow(2).sum(1, keepdim=True).sqrt()


def detected(model: Lcr, maps: Tensor) -> Tensor:
    """The largest of the detectors' answers at each place: [B, h, w]."""
    conv, norm, _ = model.detectors
    answers = torch.einsum("bchw,kc->bkhw", maps, conv.weight[:, :, 0, 0])  # type: ignore[index]
    mean, var = answers.mean((0, 2, 3), keepdim=True), answers.var((0, 2, 3), correction=0, keepdim=True)
    scale, shift = (getattr(norm, name)[None, :, None, None] for name in ("weight", "bias"))
    result: Tensor = ((answers - mean) / (var + 1e-5).sqrt() * scale + shift).relu().max(dim=1).values
    return result


def to_unit(one: Tensor) -> Tensor:
    return (one - one.min()) / (one.max() - one.min())


def reference(model: Lcr, v: Views, order: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE and the divergence, image by image."""
    key_backbone, key_head = copy.deepcopy(model.key_backbone), copy.deepcopy(model.key_head)
    for keys, online in ((key_backbone, model.backbone), (key_head, model.head)):
        for old, new in zip(keys.parameters(), online.parameters(), strict=True):
            old.data = M * old.data + (1 - M) * new.data
    key = torch.zeros(6, 8, dtype=torch.float64)
    with torch.no_grad():
        for group in (order[:3], order[3:]):
            key[group] = embed(key_head, key_backbone(v.images[1][group]).mean((2, 3)))
    maps = torch.cat([model.backbone(part) for part in (v.images[0][:3], v.images[0][3:])])
    query = embed(model.head, maps.mean((2, 3)))
    losses = []
    for q, k in zip(query, key, strict=True):
        logits = torch.stack([q @ k, *(q @ old for old in model.queue.keys.T.clone())]) / T
        losses.append(-logits.log_softmax(0)[0])
    contrastive = torch.stack(losses).mean()
    args = model.args
    score = torch.stack(losses).sum() if args.score == "loss" else (query * key).sum()
    (gradient,) = torch.autograd.grad(score, maps, retain_graph=True)
    answers, total = detected(model, maps), torch.zeros((), dtype=torch.float64)
    for image in range(6):
        cam = (gradient[image] * maps[image]).sum(0).clamp(min=0)
        cam = to_unit(cam) if args.stretch else cam / 6
        pair = [cam / args.softness, to_unit(answers[image]) / args.softness]
        groups = [each.flatten()[None] for each in pair] if args.softmax == "places" else pair
        for expected, found in zip(*groups, strict=True):
            p, q = expected.softmax(0), found.softmax(0)
            total = total + (p * (p.log() - q.log())).sum() / 6
    return contrastive, total


CHANGES = [{}, {"softmax": "rows"}, {"score": "similarity"}, {"stretch": False}]


@pytest.mark.parametrize("changes", CHANGES, ids=["default", "rows", "similarity", "raw"])
def test_loss_and_gradients_equal_the_equations(changes: dict[str, Any]) -> None:
    model, v = build(**changes), views()
    torch.manual_seed(3)
    contrastive, divergence = reference(model, v, torch.randperm(6))
    expected = gradients(model, contrastive + 0.7 * divergence)
    torch.manual_seed(3)
    scalars = model.loss(v)
    got = gradients(model, scalars["loss"])
    assert scalars["contrastive"].item() == pytest.approx(contrastive.item(), abs=1e-9)
    assert scalars["divergence"].item() == pytest.approx(divergence.item(), abs=1e-9)
    assert got.keys() == expected.keys() == {n for n, _ in model.named_parameters() if not n.startswith("key_")}
    largest = max((got[name] - expected[name]).abs().max().item() for name in got)
    print(f"largest differences: loss {scalars['loss'].item() - (contrastive + 0.7 * divergence).item():.1e}, "
          f"gradients {largest:.1e}")  # fmt: skip
    assert largest < 1e-9


def test_written_out_gradient_of_info_nce_is_autograds() -> None:
    rng = torch.Generator().manual_seed(0)
    query, key, queue = (
        nn.functional.normalize(torch.randn(n, 8, generator=rng, dtype=torch.float64), dim=1) for n in (5, 5, K)
    )
    query.requires_grad_()
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], dim=1) / T
    (expected,) = torch.autograd.grad(
        nn.functional.cross_entropy(logits, torch.zeros(5).long(), reduction="sum"), query
    )
    assert torch.allclose(info_nce_gradient(query.detach(), key, queue.T, T), expected, atol=1e-12)


def test_the_branch_learns_the_grad_cam() -> None:
    """With the rest of the network at rest the divergence falls by fitting the detectors alone."""
    model, v = build(momentum=1.0, detectors=16), views()
    model.queue.enqueue = lambda keys: None  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(model.detectors.parameters(), lr=0.02)
    course = []
    for _ in range(40):
        torch.manual_seed(3)
        scalars = model.loss(v)
        course.append(scalars["divergence"].item())
        optimizer.zero_grad()
        scalars["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert course[-1] < 0.6 * course[0]
    assert min(course) >= 0


def test_flat_maps_are_no_division_by_zero() -> None:
    maps = torch.full((2, 3, 3), 4.0, requires_grad=True)
    result = stretched(maps)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert not result.any()
    assert maps.grad is not None
    assert bool(maps.grad.isfinite().all())


def test_detectors_normalise_over_the_whole_batch() -> None:
    model = build()
    assert model.synchronised_parts() == (model.detectors,)
