"""L_Align beside MoCo v2 and SimCLR: value and gradients against the published figure's equation, written out here."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from methods.alignment import SaliencyAlignment, mask_on_grid
from methods.args import AlignmentArgs, Args, MocoV2Args, ResNetArgs, SimclrArgs, SimsiamArgs
from methods.backbones.registry import build_backbone
from methods.objective import Objective
from methods.registry import OBJECTIVES
from methods.shuffle_bn import in_groups
from methods.views.batch import Views

from .compare import gradients

BACKBONE = ResNetArgs(arch="resnet10", width=8, stem="small")
ARGS: dict[str, Args] = {
    "simclr": SimclrArgs(hidden_dim=16, projection_dim=8, temperature=0.1),
    "simsiam": SimsiamArgs(projection_dim=16, hidden_dim=8),
    "moco_v2": MocoV2Args(
        hidden_dim=16, projection_dim=8, temperature=0.2, momentum=0.9, queue_size=10, bn_splits=2
    ),
}  # fmt: skip


def settings(symmetric: bool = True, weight: float = 0.7) -> AlignmentArgs:
    return AlignmentArgs(
        hidden_dim=16, dim=8, similarity="cosine", scale=8.0, mask="soft", symmetric=symmetric, weight=weight
    )


def build(name: str, alignment: AlignmentArgs | None) -> Objective:
    torch.manual_seed(0)
    entry = OBJECTIVES[name]
    backbone = build_backbone(BACKBONE)
    module = None if alignment is None else SaliencyAlignment(alignment, backbone.dim)
    parts = {"train_images": 100} if entry.needs_train_size else {}
    torch.manual_seed(5)
    objective: Objective = entry.load()(ARGS[name], backbone, alignment=module, **parts).double()
    if module is not None:
        torch.manual_seed(1)  # key projections that differ from the queries', as after some steps
        for parameter in module.target_projector.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return objective


def views() -> Views:
    rng = torch.Generator().manual_seed(2)
    images = [torch.randn(6, 3, 24, 24, generator=rng, dtype=torch.float64) for _ in range(2)]
    return Views(images, [torch.rand(6, 1, 24, 24, generator=rng, dtype=torch.float64) for _ in range(2)])


def direction(module: SaliencyAlignment, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """mean_i (max_j sigmoid(8 cos(q_i, k_j)) - m_i)^2, one image at a time."""
    q = module.predictor(module.projector(query)).float().flatten(2)
    with torch.no_grad():
        k = module.target_projector(key.detach()).float().flatten(2)
    rows = []
    for one, other in zip(q, k, strict=True):
        cosine = (one.T @ other) / (one.norm(dim=0)[:, None] * other.norm(dim=0)[None])
        rows.append(torch.sigmoid(8 * cosine).max(dim=1).values)
    return (torch.stack(rows) - mask_on_grid(mask, query.shape[2:], module.args).flatten(1)).square().mean()


def compared(name: str, maps: list[tuple[Tensor, Tensor, int]], model: Objective, v: Views) -> None:
    """Loss and gradients of the model equal those of the plain objective plus the weighted directions."""
    assert v.masks is not None
    module = model.get_submodule("alignment")
    assert isinstance(module, SaliencyAlignment)
    plain = copy.deepcopy(model)
    plain.alignment = None  # type: ignore[assignment]
    torch.manual_seed(3)
    contrastive = plain.loss(v)["loss"]
    align = sum((direction(module, q, k, v.masks[i]) for q, k, i in maps), torch.zeros(()))
    expected = gradients(plain, contrastive)
    extra = gradients(model, 0.7 * align)
    total = {key: expected.get(key, 0) + extra.get(key, 0) for key in expected.keys() | extra.keys()}
    torch.manual_seed(3)
    scalars = model.loss(v)
    assert scalars["loss"].item() == pytest.approx(contrastive.item() + 0.7 * align.item(), abs=1e-6)
    assert scalars["contrastive"].item() == pytest.approx(contrastive.item(), abs=1e-12)
    assert scalars["align"].item() == pytest.approx(align.item(), abs=1e-6)
    got = gradients(model, scalars["loss"])
    assert got.keys() == total.keys()
    scale = max(float(gradient.abs().max()) for gradient in got.values())
    assert max(float((got[key] - total[key]).abs().max()) for key in got) < 1e-5 * scale
    assert not [key for key in got if "target" in key or key.startswith("key_")]
    assert {key for key in got if key.startswith("alignment.")} == {
        key for key, p in model.named_parameters() if key.startswith("alignment.") and "target" not in key
    }, name


@pytest.mark.parametrize("name", ["simclr", "simsiam"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_one_network_is_its_own_key_network(name: str, symmetric: bool) -> None:
    model, v = build(name, settings(symmetric)), views()
    maps = [model.backbone(images) for images in v.images]
    pairs = [(maps[0], maps[1], 0), (maps[1], maps[0], 1)]
    compared(name, pairs if symmetric else pairs[:1], model, v)


@pytest.mark.parametrize("symmetric", [True, False])
def test_mocos_query_is_compared_with_its_key(symmetric: bool) -> None:
    """One direction, as in MoCo's loss. Momentum 0.9 moves encoder and g'_conv before the keys are computed."""
    model, v = build("moco_v2", settings(symmetric)), views()
    module, keys = model.get_submodule("alignment"), copy.deepcopy(model.get_submodule("key_backbone"))
    assert isinstance(module, SaliencyAlignment)
    for old, new in zip(keys.parameters(), model.backbone.parameters(), strict=True):
        old.data = 0.9 * old.data + 0.1 * new.data
    torch.manual_seed(3)
    order = torch.randperm(6)
    with torch.no_grad():
        key = torch.empty_like(model.backbone(v.images[1]))
        for group in (order[:3], order[3:]):
            key[group] = keys(v.images[1][group])
    moved = copy.deepcopy(module.target_projector)
    for old, new in zip(moved.parameters(), module.projector.parameters(), strict=True):
        old.data = 0.9 * old.data + 0.1 * new.data
    before = module.target_projector
    module.target_projector = moved
    query = in_groups(model.backbone, 2, v.images[0])
    assert v.masks is not None
    expected = direction(module, query, key, v.masks[0])
    module.target_projector = before
    torch.manual_seed(3)
    scalars = model.loss(v)
    assert scalars["align"].item() == pytest.approx(expected.item(), abs=1e-6)
    # The gradient: the module has moved once; with momentum 1 another call keeps it, and the keys, where they are.
    model.args = model.args.model_copy(update={"momentum": 1.0})  # type: ignore[operator, assignment, union-attr]
    query = in_groups(model.backbone, 2, v.images[0])
    compared("moco_v2", [(query, key, 0)], model, v)


@pytest.mark.parametrize("name", ARGS)
def test_without_a_module_nothing_changes_and_without_masks_it_is_refused(name: str) -> None:
    scalars = build(name, None).loss(views())
    assert set(scalars) == {"loss", "embedding_std"}
    with pytest.raises(ValueError, match="masks"):
        build(name, settings()).loss(Views(views().images))


@pytest.mark.parametrize("name", ["simclr", "simsiam"])
def test_the_key_projector_of_one_network_follows_at_once(name: str) -> None:
    model = build(name, settings())
    module = model.get_submodule("alignment")
    assert isinstance(module, SaliencyAlignment)
    model.after_step(0.3)
    for key, query in zip(module.target_projector.parameters(), module.projector.parameters(), strict=True):
        assert torch.equal(key, query)
        assert not key.requires_grad
