"""CAST against its paper's equations, with Grad-CAM and its second derivative left to autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from methods.args import ResNetArgs
from methods.attention_guided_args import CastArgs
from methods.backbones.registry import build_backbone
from methods.cast import Cast, attention_loss
from methods.contrastive_cam import grad_cam, score_gradient
from methods.heads import mlp_head
from methods.views.batch import Views

from .compare import gradients

M, K, T, WEIGHT = 0.9, 10, 0.2, 3.0
ARGS = CastArgs(
    hidden_dim=16, projection_dim=8, temperature=T, momentum=M, queue_size=K, bn_splits=2, weight=WEIGHT
)  # fmt: skip


def build() -> Cast:
    torch.manual_seed(0)
    model = Cast(ARGS, build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small")), 100).double()
    torch.manual_seed(1)  # a key encoder that differs from the query's, as after some steps
    for parameter in [*model.key_backbone.parameters(), *model.key_head.parameters()]:
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def views(batch: int = 6, size: int = 24) -> Views:
    rng = torch.Generator().manual_seed(2)
    images = [torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64) for _ in range(2)]
    masks = [(torch.rand(batch, 1, size, size, generator=rng, dtype=torch.float64) > 0.6).double() for _ in range(2)]
    return Views(images, masks)


def embed(head: nn.Module, features: Tensor) -> Tensor:
    """FC - ReLU - FC, unit length, from the weights alone."""
    first, _, second = head.children()
    hidden = (features @ first.weight.T + first.bias).relu()  # type: ignore[operator]
    z = hidden @ second.weight.T + second.bias  # type: ignore[operator]
    return z / z.pow(2).sum(1, keepdim=True).sqrt()


def reference(model: Cast, v: Views, orders: list[Tensor]) -> tuple[Tensor, Tensor]:
    """InfoNCE and L_att, image by image. `orders`: of the keys and of the masked keys."""
    assert v.masks is not None
    key_backbone, key_head = copy.deepcopy(model.key_backbone), copy.deepcopy(model.key_head)
    for keys, online in ((key_backbone, model.backbone), (key_head, model.head)):
        for old, new in zip(keys.parameters(), online.parameters(), strict=True):
            old.data = M * old.data + (1 - M) * new.data
    object_only = torch.where(v.masks[1].bool(), v.images[1], 0.0)
    embedded = []
    with torch.no_grad():
        for images, order in zip((v.images[1], object_only), orders, strict=True):
            rows = torch.zeros(6, 8, dtype=torch.float64)
            for group in (order[:3], order[3:]):
                rows[group] = embed(key_head, key_backbone(images[group]).mean((2, 3)))
            embedded.append(rows)
    key, masked_key = embedded
    maps = torch.cat([model.backbone(part) for part in (v.images[0][:3], v.images[0][3:])])
    query = embed(model.head, maps.mean((2, 3)))
    contrastive = torch.zeros((), dtype=torch.float64)
    for q, k in zip(query, key, strict=True):
        logits = torch.stack([q @ k, *(q @ old for old in model.queue.keys.T.clone())]) / T
        contrastive = contrastive - logits.log_softmax(0)[0] / 6
    (gradient,) = torch.autograd.grad((query * masked_key).sum(), maps, create_graph=True)
    attention = torch.zeros((), dtype=torch.float64)
    for image in range(6):
        weights = gradient[image].mean((1, 2))
        cam = sum(w * channel for w, channel in zip(weights, maps[image], strict=True)).clamp(min=0)
        cells = v.masks[0][image, 0].reshape(3, 8, 3, 8).mean((1, 3))
        attention = attention + (1 - (cam * cells).sum() / (cam.norm() * cells.norm())) / 6
    return contrastive, attention


def test_loss_and_gradients_equal_a_double_backward() -> None:
    model, v = build(), views()
    torch.manual_seed(3)
    orders = [torch.randperm(6), torch.randperm(6)]
    contrastive, attention = reference(model, v, orders)
    expected = gradients(model, contrastive + WEIGHT * attention)
    torch.manual_seed(3)
    scalars = model.loss(v)
    got = gradients(model, scalars["loss"])
    assert scalars["contrastive"].item() == pytest.approx(contrastive.item(), abs=1e-9)
    assert scalars["attention_loss"].item() == pytest.approx(attention.item(), abs=1e-9)
    assert scalars["loss"].item() == pytest.approx((contrastive + WEIGHT * attention).item(), abs=1e-9)
    assert got.keys() == expected.keys() == {n for n, _ in model.named_parameters() if not n.startswith("key_")}
    largest = max((got[name] - expected[name]).abs().max().item() for name in got)
    print(f"largest differences: loss {scalars['loss'].item() - (contrastive + WEIGHT * attention).item():.1e}, "
          f"gradients {largest:.1e}")  # fmt: skip
    assert largest < 1e-9


def test_the_second_derivative_is_more_than_that_of_the_maps() -> None:
    """Grad-CAM weights that were constants would give other gradients."""
    model, v = build(), views()
    assert v.masks is not None
    key = nn.functional.normalize(torch.randn(6, 8, dtype=torch.float64), dim=1)
    maps = model.backbone(v.images[0])
    got = gradients(model, attention_loss(grad_cam(maps, model.head, key), v.masks[0]))
    assert max(float(got[name].abs().max()) for name in got if name.startswith("head.")) > 1e-4


def test_written_out_derivative_is_the_gradient_and_has_the_right_derivatives() -> None:
    torch.manual_seed(0)
    head = mlp_head(7, 9, 5).double()
    features = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    key = nn.functional.normalize(torch.randn(4, 5, dtype=torch.float64), dim=1)
    (expected,) = torch.autograd.grad((embed(head, features) * key).sum(), features)
    assert torch.allclose(score_gradient(head, features, key), expected, atol=1e-12)
    torch.autograd.gradcheck(lambda x: score_gradient(head, x, key), [features])


def test_a_map_like_the_mask_has_no_loss_and_one_beside_it_the_largest() -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :4, :4] = 1
    inside, outside = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    inside[:, 0, 0], outside[:, 1, 1] = 0.03, 5.0
    assert attention_loss(inside, mask).item() == pytest.approx(0, abs=1e-6)
    assert attention_loss(outside, mask).item() == pytest.approx(1)


def test_an_empty_map_gives_the_largest_loss_and_no_gradient() -> None:
    before = torch.full((2, 3, 3), -1.0, requires_grad=True)
    loss = attention_loss(before.relu(), torch.rand(2, 1, 9, 9))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 1
    assert before.grad is not None
    assert not before.grad.any()


def test_the_scale_of_a_map_does_not_matter() -> None:
    cam, mask = torch.rand(3, 3, 3), torch.rand(3, 1, 9, 9)
    losses = [attention_loss(scale * cam, mask).item() for scale in (1.0, 1e-6, 1e6)]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_what_surrounds_the_keys_object_reaches_the_contrastive_loss_alone() -> None:
    v = views()
    assert v.masks is not None
    other = Views([v.images[0], torch.where(v.masks[1].bool(), v.images[1], 1.5)], v.masks)
    found = []
    for batch in (v, other):
        torch.manual_seed(3)
        found.append(build().loss(batch))
    assert found[0]["attention_loss"].item() == pytest.approx(found[1]["attention_loss"].item(), abs=1e-12)
    assert abs(found[0]["contrastive"].item() - found[1]["contrastive"].item()) > 1e-3


def test_masked_keys_do_not_enter_the_queue() -> None:
    model = build()
    model.loss(views())
    assert int(model.queue.pointer) == 6


def test_views_without_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="cast_crop"):
        build().loss(Views(views().images))
