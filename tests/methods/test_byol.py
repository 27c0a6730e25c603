"""BYOL and L_Align against the papers' equations, written out again here without any code of the suite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from methods.alignment import SaliencyAlignment, mask_on_grid, match
from methods.args import AlignmentArgs, ByolArgs, ResNetArgs
from methods.backbones.registry import build_backbone
from methods.byol import Byol
from methods.objective import cosine_tau, embedding_std
from methods.views.batch import Views

from .compare import gradients

BACKBONE = ResNetArgs(arch="resnet10", width=8, stem="small")
ARGS = ByolArgs(hidden_dim=16, projection_dim=8, tau_base=0.9)


def align_args(**changes: object) -> AlignmentArgs:
    base = {"hidden_dim": 16, "dim": 8, "similarity": "cosine", "scale": 8.0, "mask": "soft", "symmetric": True}
    return AlignmentArgs(**{**base, **changes})  # type: ignore[arg-type]


def build(alignment: AlignmentArgs | None = None) -> Byol:
    torch.manual_seed(0)
    backbone = build_backbone(BACKBONE)
    aligned = None if alignment is None else SaliencyAlignment(alignment, backbone.dim)
    model = Byol(ARGS, backbone, aligned).double()
    torch.manual_seed(1)  # a target that differs from the online network, as after some steps
    for parameter in [*model.target_backbone.parameters(), *model.target_projector.parameters()]:
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def views(batch: int = 6, size: int = 24) -> Views:
    rng = torch.Generator().manual_seed(2)
    images = [torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64) for _ in range(2)]
    masks = [torch.rand(batch, 1, size, size, generator=rng, dtype=torch.float64) for _ in range(2)]
    return Views(images, masks)


def reference_byol(model: Byol, v: Views) -> Tensor:
    """arXiv:2006.07733, equation 2: squared distance of unit vectors, mean over the batch, both directions summed."""
    total = torch.zeros((), dtype=torch.float64)
    for online, target in ((0, 1), (1, 0)):
        q = model.predictor(model.projector(model.backbone(v.images[online]).mean((2, 3))))
        with torch.no_grad():
            z = model.target_projector(model.target_backbone(v.images[target]).mean((2, 3)))
        q = q / q.pow(2).sum(1, keepdim=True).sqrt()
        z = z / z.pow(2).sum(1, keepdim=True).sqrt()
        total = total + (q - z).pow(2).sum(1).mean()
    return total


def test_loss_and_gradients_equal_the_papers_equation() -> None:
    model, v = build(), views()
    ours = model.loss(v)["loss"]
    theirs = reference_byol(model, v)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    got, expected = gradients(model, ours), gradients(model, theirs)
    assert got.keys() == expected.keys()
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < 1e-9


def test_no_gradient_reaches_the_target() -> None:
    model = build(align_args())
    got = gradients(model, model.loss(views())["loss"])
    assert not [name for name in got if "target" in name]
    trained = {name for name, p in model.named_parameters() if "target" not in name}
    assert got.keys() == trained  # and everything else gets one


def test_target_is_not_trained_and_starts_as_a_copy() -> None:
    torch.manual_seed(0)
    model = Byol(ARGS, build_backbone(BACKBONE))
    for old, new in zip(model.target_backbone.parameters(), model.backbone.parameters(), strict=True):
        assert torch.equal(old, new)
        assert not old.requires_grad


def test_momentum_at_the_first_and_last_step() -> None:
    assert cosine_tau(0.97, 0.0) == pytest.approx(0.97)
    assert cosine_tau(0.97, 1.0) == pytest.approx(1.0)
    assert cosine_tau(0.97, 0.5) == pytest.approx(1 - 0.03 / 2)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_target_moves_by_one_minus_tau(progress: float) -> None:
    model = build(align_args())
    before = {name: p.clone() for name, p in model.named_parameters()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    model.after_step(progress)
    tau = 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2
    for target, online in (
        ("target_backbone.", "backbone."),
        ("target_projector.", "projector."),
        ("alignment.target_projector.", "alignment.projector."),
    ):
        for name in [n for n in before if n.startswith(target)]:
            expected = tau * before[name] + (1 - tau) * before[online + name.removeprefix(target)]
            assert torch.allclose(dict(model.named_parameters())[name], expected, atol=1e-12), name
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())  # statistics stay the target's own


def reference_attention(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """A_i = max_j sigmoid(scale * cos(q_i, k_j)), one position at a time."""
    batch, _, n = query.shape
    result = torch.zeros(batch, n, dtype=torch.float64)
    for b in range(batch):
        for i in range(n):
            best = -1.0
            for j in range(key.shape[2]):
                q, k = query[b, :, i], key[b, :, j]
                cosine = (q * k).sum() / (q.norm() * k.norm())
                best = max(best, float(1 / (1 + math.exp(-scale * cosine.item()))))
            result[b, i] = best
    return result


def test_attention_is_the_maximum_over_key_positions() -> None:
    rng = torch.Generator().manual_seed(3)
    query = torch.randn(2, 5, 6, generator=rng, dtype=torch.float64)
    key = torch.randn(2, 5, 4, generator=rng, dtype=torch.float64)
    ours = match(query, key, align_args())
    assert ours.shape == (2, 6)  # the query's grid, which M_q belongs to
    assert torch.allclose(ours.double(), reference_attention(query, key, 8.0), atol=1e-6)


@pytest.mark.parametrize(("similarity", "expected"), [("raw", 4.0), ("sqrt", 4.0 / math.sqrt(4)), ("cosine", 8.0)])
def test_similarities(similarity: str, expected: float) -> None:
    ones = torch.ones(1, 4, 1)
    a = match(ones, ones, align_args(similarity=similarity))
    assert a.item() == pytest.approx(1 / (1 + math.exp(-expected)), abs=1e-6)


def test_alignment_loss_equals_its_equation_and_adds_to_byol_one_to_one() -> None:
    """Value and gradient of L_Cont + L_Align, the latter written out from the published figure."""
    model, v = build(align_args()), views()
    assert model.alignment is not None
    assert v.masks is not None

    def direction(query_view: int, key_view: int) -> Tensor:
        assert model.alignment is not None
        assert v.masks is not None
        q = model.alignment.predictor(model.alignment.projector(model.backbone(v.images[query_view]))).float()
        with torch.no_grad():
            k = model.alignment.target_projector(model.target_backbone(v.images[key_view])).float()
        q, k = q.flatten(2), k.flatten(2)
        cosine = torch.einsum("bci,bcj->bij", q, k) / (q.norm(dim=1)[:, :, None] * k.norm(dim=1)[:, None, :])
        a = torch.sigmoid(8 * cosine).max(dim=2).values
        side = int(math.sqrt(a.shape[1]))
        cell = v.masks[query_view].shape[-1] // side
        m = v.masks[query_view].unfold(2, cell, cell).unfold(3, cell, cell).mean(dim=(-1, -2)).flatten(1)
        return (a - m.float()).pow(2).mean()

    expected = reference_byol(model, v) + direction(0, 1) + direction(1, 0)
    scalars = model.loss(v)
    assert scalars["loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    ours, theirs = gradients(model, scalars["loss"]), gradients(model, expected)
    scale = max(g.abs().max().item() for g in theirs.values())
    assert max((ours[name] - theirs[name]).abs().max().item() for name in theirs) < 1e-5 * scale
    assert scalars["contrastive"] + scalars["align"] == pytest.approx(scalars["loss"].item(), abs=1e-6)


def test_one_direction_only_when_not_symmetric() -> None:
    both, one = build(align_args()), build(align_args(symmetric=False))
    v = views()
    assert one.loss(v)["align"] < both.loss(v)["align"]


def test_mask_on_grid_averages_areas_so_small_objects_survive() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[0, 0, 1, 1] = 1.0
    soft = mask_on_grid(mask, (2, 2), align_args())
    assert soft[0].tolist() == [[1 / 16, 0], [0, 0]]
    assert mask_on_grid(mask * 0.4, (2, 2), align_args(mask="binary")).sum() == 0


def test_alignment_without_masks_is_refused() -> None:
    model = build(align_args())
    with pytest.raises(ValueError, match="masks"):
        model.loss(Views(views().images))


def test_embedding_std_shows_collapse() -> None:
    rng = torch.Generator().manual_seed(0)
    assert embedding_std(torch.randn(4096, 64, generator=rng)).item() == pytest.approx(1.0, abs=0.02)
    assert embedding_std(torch.ones(32, 64)).item() == pytest.approx(0.0, abs=1e-6)


def test_a_constant_tau_moves_the_target_by_the_same_share_at_any_progress() -> None:
    constant = ByolArgs(**{**ARGS.model_dump(), "tau_schedule": "constant"})
    for progress in (0.0, 0.7, 1.0):
        model = Byol(constant, build_backbone(BACKBONE))
        old = [p.detach().clone() for p in model.target_projector.parameters()]
        for p in model.projector.parameters():
            p.data += 1
        model.after_step(progress)
        for before, online, after in zip(
            old, model.projector.parameters(), model.target_projector.parameters(), strict=True
        ):
            torch.testing.assert_close(after.detach(), 0.9 * before + 0.1 * online.detach())
    assert "tau_schedule" not in ARGS.model_dump()  # so that keys from before the choice stay valid
    assert constant.model_dump()["tau_schedule"] == "constant"
