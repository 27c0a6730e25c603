"""MoCo v2 against the papers' equations and the order of a step, written out again here."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from methods.args import MocoV2Args, ResNetArgs
from methods.backbones.registry import build_backbone
from methods.moco_v2 import MocoV2
from methods.objective import embedding_std
from methods.solo_learn import moco_loss
from methods.views.batch import Views

from .compare import gradients, resumed_state

M, K, T = 0.9, 10, 0.2
ARGS = MocoV2Args(hidden_dim=16, projection_dim=8, temperature=T, momentum=M, queue_size=K, bn_splits=2)


def build(train_images: int = 100) -> MocoV2:
    torch.manual_seed(0)
    model = MocoV2(ARGS, build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small")), train_images).double()
    torch.manual_seed(1)  # a key encoder that differs from the query's, as after some steps
    for parameter in [*model.key_backbone.parameters(), *model.key_head.parameters()]:
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def views(batch: int = 6, size: int = 24, seed: int = 2) -> Views:
    rng = torch.Generator().manual_seed(seed)
    return Views([torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64) for _ in range(2)])


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """arXiv:1911.05722, equation 1: one query at a time; queue [K, D]."""
    total = torch.zeros((), dtype=query.dtype)
    for q, k in zip(query, key, strict=True):
        positive = ((q * k).sum() / temperature).exp()
        negatives = sum(((q * old).sum() / temperature).exp() for old in queue)
        total = total - (positive / (positive + negatives)).log()
    return total / len(query)


def embed(backbone: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    """Feature, FC - ReLU - FC, unit length."""
    first, _, second = head.children()
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    hidden: Tensor = (backbone(images).mean((2, 3)) @ first.weight.T + first.bias).relu()
    z = hidden @ second.weight.T + second.bias
    return z / z.pow(2).sum(1, keepdim=True).sqrt()


def reference(model: MocoV2, v: Views, order: Tensor, momentum: float = M) -> tuple[Tensor, Tensor]:
    """Loss and keys [B, D] of a step: momentum update, keys in two random groups, queries in two plain ones."""
    key_backbone, key_head = copy.deepcopy(model.key_backbone), copy.deepcopy(model.key_head)
    for keys, online in ((key_backbone, model.backbone), (key_head, model.head)):
        for old, new in zip(keys.parameters(), online.parameters(), strict=True):
            old.data = momentum * old.data + (1 - momentum) * new.data
    first, second = v.images
    query = torch.cat([embed(model.backbone, model.head, part) for part in (first[:3], first[3:])])
    key = torch.empty_like(query)
    with torch.no_grad():
        for group in (order[:3], order[3:]):
            key[group] = embed(key_backbone, key_head, second[group])
    return info_nce(query, key, model.queue.keys.T.clone(), T), key


def test_loss_gradients_and_keys_equal_the_papers() -> None:
    model, v = build(), views()
    torch.manual_seed(3)
    order = torch.randperm(6)
    theirs, keys = reference(model, v, order)
    expected = gradients(model, theirs)
    queue = model.queue.keys.T.clone()
    torch.manual_seed(3)
    ours = model.loss(v)["loss"]
    got = gradients(model, ours)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    assert got.keys() == expected.keys()
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < 1e-9
    # The loss saw the queue as it was; the keys, in the order of the queries, are in it now.
    assert torch.allclose(model.queue.keys.T[:6], keys, atol=1e-12)
    assert torch.equal(model.queue.keys.T[6:], queue[6:])


def test_keys_come_from_the_encoder_after_its_update() -> None:
    model, v = build(), views()
    torch.manual_seed(3)
    order = torch.randperm(6)
    before, _ = reference(model, v, order, momentum=1.0)
    torch.manual_seed(3)
    assert abs(model.loss(v)["loss"].item() - before.item()) > 1e-4


def test_momentum_is_constant_and_only_the_loss_moves_the_key_encoder() -> None:
    model = build()
    for progress in (0.0, 0.5, 1.0):
        before = {name: p.clone() for name, p in model.named_parameters()}
        model.loss(views())
        after = {name: p.clone() for name, p in model.named_parameters()}
        for target, online in (("key_backbone.", "backbone."), ("key_head.", "head.")):
            for name in [n for n in before if n.startswith(target)]:
                expected = M * before[name] + (1 - M) * before[online + name.removeprefix(target)]
                assert torch.allclose(after[name], expected, atol=1e-12), name
        model.after_step(progress)
        assert all(torch.equal(p, after[name]) for name, p in model.named_parameters())


def test_gradient_reaches_the_query_side_only() -> None:
    model, v = build(), views()
    for view in v.images:
        view.requires_grad_()
    got = gradients(model, model.loss(v)["loss"])
    assert v.images[0].grad is not None
    assert v.images[1].grad is None
    assert got.keys() == {name for name, _ in model.named_parameters() if not name.startswith("key_")}
    assert not model.queue.keys.requires_grad


def test_key_encoder_starts_as_a_copy() -> None:
    model = MocoV2(ARGS, build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small")), 100)
    for old, new in zip(model.key_backbone.parameters(), model.backbone.parameters(), strict=True):
        assert torch.equal(old, new)
        assert not old.requires_grad


def test_negatives_are_the_queue_and_nothing_of_the_batch() -> None:
    """All embeddings alike: the loss is the logarithm of the number compared with, one key and K negatives."""
    unit = torch.full((5, 4), 0.5, dtype=torch.float64)
    assert moco_loss(unit, unit, unit[0][:, None].expand(4, K), T).item() == pytest.approx(math.log(1 + K), abs=1e-12)


def test_solo_learns_loss_is_info_nce() -> None:
    rng = torch.Generator().manual_seed(0)
    q, k, queue = (
        nn.functional.normalize(torch.randn(n, 8, generator=rng, dtype=torch.float64), dim=1) for n in (5, 5, K)
    )
    assert moco_loss(q, k, queue.T, T).item() == pytest.approx(info_nce(q, k, queue, T).item(), abs=1e-12)


def test_nothing_moves_in_evaluation() -> None:
    model = build().eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model.loss(views())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_queue_is_at_most_half_of_the_training_set() -> None:
    assert build(train_images=13).queue.length == 6
    assert build(train_images=1000).queue.length == K


def test_embedding_std_is_that_of_the_queries() -> None:
    model, v = build(), views()
    query = torch.cat([embed(model.backbone, model.head, part) for part in (v.images[0][:3], v.images[0][3:])])
    scalars = model.loss(v)
    assert scalars["embedding_std"].item() == pytest.approx(embedding_std(query.detach()).item(), abs=1e-6)


def test_saved_state_continues_bit_by_bit() -> None:
    """Key encoder, queue, pointer and the permutations: 4 + 4 steps with a file between are 8 steps."""
    state = resumed_state(build, lambda step: views(seed=step), 8)
    assert int(state["queue.pointer"]) == 8 * 6 % K
