"""SwAV against its paper's equations, written out again here without any code of the suite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import solo_learn
from methods.args import ResNetArgs
from methods.backbones.registry import build_backbone
from methods.multi_crop_args import SwavArgs
from methods.swav import Swav, assignments
from methods.views.batch import Views

from .compare import gradients

BATCH, K = 4, 7


def build(**changes: Any) -> Swav:
    """With scales that are not the initial ones, as after some steps."""
    args = SwavArgs(hidden_dim=10, projection_dim=6, prototypes=K, queue_size=10, queue_start=1)
    torch.manual_seed(0)
    network = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))
    model = Swav(args.model_copy(update=changes), network).double()
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.after_step(0.0)
    model.before_step(2)
    return model.train()


def views(sides: tuple[int, ...] = (24, 24, 12, 12, 12), seed: int = 2) -> Views:
    rng = torch.Generator().manual_seed(seed)
    return Views([torch.randn(BATCH, 3, side, side, generator=rng, dtype=torch.float64) for side in sides])


def filled(model: Swav) -> Swav:
    """With a queue that is full."""
    rows = torch.randn(model.queue.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    model.queue.copy_(rows / rows.norm(dim=2, keepdim=True))
    model.stored.fill_(10)
    return model


def embeddings(model: Swav, images: list[Tensor]) -> list[Tensor]:
    """From the weights alone: crops of one size are normalised together."""
    x = torch.cat(
        [
            model.backbone(torch.cat([image for image in images if image.shape[-1] == side])).mean((2, 3))
            for side in sorted({image.shape[-1] for image in images}, reverse=True)
        ]
    )
    first, norm, _, second = model.projector
    x = x @ first.weight.T + first.bias
    x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() * norm.weight + norm.bias
    x = x.clamp(min=0) @ second.weight.T + second.bias
    return list((x / x.norm(dim=1, keepdim=True)).chunk(len(images)))


def sinkhorn(scores: Tensor, epsilon: float = 0.05) -> Tensor:
    """Equation 5: alternate scaling of exp(scores / epsilon), [N, K], until rows sum to 1."""
    codes = (scores / epsilon).exp()
    for _ in range(3):
        for k in range(codes.shape[1]):
            codes[:, k] /= codes[:, k].sum() * codes.shape[1]
        for n in range(codes.shape[0]):
            codes[n] /= codes[n].sum() * codes.shape[0]
    return codes * codes.shape[0]


def reference(model: Swav, v: Views, queue: Tensor | None) -> Tensor:
    """Equations 1 and 2, image by image."""
    z = embeddings(model, v.images)
    prototypes = model.prototypes.weight
    total, terms = torch.zeros((), dtype=torch.float64), 0
    for i in range(2):
        with torch.no_grad():
            rows = z[i] if queue is None else torch.cat([queue[i], z[i]])
            codes = sinkhorn(rows @ prototypes.T)[-BATCH:]
        for j, other in enumerate(z):
            if i == j:
                continue
            for q, embedding in zip(codes, other, strict=True):
                p = (embedding @ prototypes.T / 0.1).exp()
                total = total - (q * (p / p.sum()).log()).sum()
                terms += 1
    return total / terms


@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize("sides", [(24, 24, 12, 12, 12), (24, 24)])
def test_loss_and_gradients_equal_the_papers_equations(sides: tuple[int, ...], queued: bool) -> None:
    model, v = build(), views(sides)
    if queued:
        filled(model)
    theirs = reference(model, v, model.queue.clone() if queued else None)
    ours = model.loss(v)["loss"]
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    got, expected = gradients(model, ours), gradients(model, theirs)
    assert got.keys() == expected.keys() == dict(model.named_parameters()).keys()
    assert expected["prototypes.weight"].abs().max() > 1e-3
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < 1e-12


def test_codes_and_loss_are_solo_learns() -> None:
    model, v = build(), views((24, 24))
    z = [rows.detach() for rows in embeddings(model, v.images)]
    scores = [rows @ model.prototypes.weight.detach().T for rows in z]
    theirs = solo_learn._module("utils.sinkhorn_knopp").SinkhornKnopp(3, 0.05, 1)
    codes = [theirs(rows.clone()) for rows in scores]
    for ours, expected in zip(model.eval().codes(tuple(z)), codes, strict=True):
        assert torch.allclose(ours, expected, atol=1e-12)
    loss = solo_learn._module("losses.swav").swav_loss_func(scores, codes, 0.1)
    assert build().loss(v)["loss"].item() == pytest.approx(loss.item(), abs=1e-12)


def test_codes_use_all_prototypes_equally() -> None:
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[:, 0] += 3  # all of them near one prototype
    scores = (rows / rows.norm(dim=1, keepdim=True))[:, :5]
    codes = assignments(scores, torch.ones(50, dtype=torch.float64), 0.05, 100)
    assert torch.allclose(codes.sum(1), torch.ones(50, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(codes.sum(0), torch.full((5,), 10.0, dtype=torch.float64), atol=1e-6)


def test_rows_that_do_not_count_change_nothing() -> None:
    scores = torch.rand(12, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counted = (torch.arange(12) >= 5).double()
    codes = assignments(scores, counted, 0.05, 3)
    assert torch.allclose(codes[5:], assignments(scores[5:], torch.ones(7, dtype=torch.float64), 0.05, 3), atol=1e-12)


def test_a_small_epsilon_is_no_problem_in_single_precision() -> None:
    scores = 2 * torch.rand(20, K, generator=torch.Generator().manual_seed(0)) - 1
    codes = assignments(scores, torch.ones(20), 0.001, 3)
    assert torch.allclose(codes.sum(1), torch.ones(20))
    expected = assignments(scores.double(), torch.ones(20, dtype=torch.float64), 0.001, 3)
    assert torch.allclose(codes.double(), expected, atol=1e-3)


def test_the_queue_is_filled_from_its_epoch_on_and_used_once_full() -> None:
    model, v = build(queue_start=2), views()
    model.before_step(1.9)
    model.loss(v)
    assert model.stored == 0
    assert model.queue.abs().max() == 0
    model.before_step(2.0)
    for step in range(3):  # 12 rows: the last two replace the first two of 10
        z = torch.stack(embeddings(model, v.images)[:2]).detach()
        expected = reference(model, v, None)
        assert model.loss(v)["loss"].item() == pytest.approx(expected.item(), abs=1e-12)
        assert model.stored == BATCH * (step + 1)
    assert torch.allclose(model.queue[:, :2], z[:, 2:], atol=1e-12)
    assert torch.allclose(model.queue[:, 8:], z[:, :2], atol=1e-12)
    queue = model.queue.clone()
    assert model.eval().loss(v)["loss"].isfinite()
    assert torch.equal(model.queue, queue)
    model.train()
    assert model.loss(v)["loss"].item() == pytest.approx(reference(model, v, queue).item(), abs=1e-12)


def test_a_batch_longer_than_the_queue_and_no_queue() -> None:
    model, v = build(queue_size=3), views()
    z = torch.stack(embeddings(model, v.images)[:2]).detach()
    model.loss(v)
    assert torch.allclose(model.queue[:, [1, 2, 0]], z[:, -3:], atol=1e-12)
    model = build(queue_size=0)
    assert model.loss(v)["loss"].item() == pytest.approx(reference(model, v, None).item(), abs=1e-12)


def test_frozen_prototypes_stay_and_change_no_other_gradient() -> None:
    model, v = build(freeze_epochs=3), views()
    got = gradients(model, model.loss(v)["loss"])
    assert got["prototypes.weight"].abs().max() == 0
    model = build(freeze_epochs=3)
    expected = gradients(model, reference(model, v, None))
    others = expected.keys() - {"prototypes.weight"}
    assert max((got[name] - expected[name]).abs().max().item() for name in others) < 1e-12
    model.before_step(3)
    assert model.thaw == 1


def test_prototypes_have_unit_length_after_every_step() -> None:
    model = build()
    model.prototypes.weight.data *= 3
    model.after_step(0.5)
    assert torch.allclose(model.prototypes.weight.norm(dim=1), torch.ones(K, dtype=torch.float64), atol=1e-12)


def test_queue_and_networks_are_the_whole_state() -> None:
    parts = {name.partition(".")[0] for name in build().state_dict()}
    assert parts == {"backbone", "projector", "prototypes", "queue", "stored"}
