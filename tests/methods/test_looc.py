"""LooC and its views: the loss written out again, which keys are negatives where, and what q and k_i share."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from methods.args import LoocArgs, PhotometryArgs, ResNetArgs, SharedAugmentationArgs
from methods.backbones.registry import build_backbone
from methods.looc import Looc, leave_one_out_loss
from methods.objective import embedding_std
from methods.queue import KeyQueue
from methods.solo_learn import moco_loss
from methods.views import color_jitter as colour
from methods.views.batch import Views
from methods.views.shared_augmentation import SharedAugmentation

from .compare import gradients, resumed_state

M, K, T, N = 0.9, 10, 0.2, 2
ARGS = LoocArgs(hidden_dim=16, projection_dim=8, temperature=T, momentum=M, queue_size=K, bn_splits=2, augmentations=N)


def build() -> Looc:
    torch.manual_seed(0)
    model = Looc(ARGS, build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small")), 100).double()
    torch.manual_seed(1)  # a key encoder that differs from the query's, as after some steps
    for parameter in [*model.key_backbone.parameters(), *model.key_heads.parameters()]:
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def views(batch: int = 6, size: int = 16, seed: int = 2) -> Views:
    rng = torch.Generator().manual_seed(seed)
    return Views([torch.randn(batch, 3, size, size, generator=rng, dtype=torch.float64) for _ in range(N + 2)])


def queue(model: Looc, i: int) -> KeyQueue:
    found = model.queues[i]
    assert isinstance(found, KeyQueue)
    return found


def unit(z: Tensor) -> Tensor:
    return z / z.pow(2).sum(1, keepdim=True).sqrt()


def reference(model: Looc, v: Views, orders: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Per space its loss, one image at a time (arXiv:2008.05659, section 3.2), and the keys [B, D] of k_0."""
    key_backbone, key_heads = copy.deepcopy(model.key_backbone), copy.deepcopy(model.key_heads)
    for keys, online in ((key_backbone, model.backbone), (key_heads, model.heads)):
        for old, new in zip(keys.parameters(), online.parameters(), strict=True):
            old.data = M * old.data + (1 - M) * new.data
    query_view, *key_views = v.images
    feature = torch.cat([model.backbone(part).mean((2, 3)) for part in (query_view[:3], query_view[3:])])
    key_features = []
    with torch.no_grad():
        for view, order in zip(key_views, orders, strict=True):
            one = torch.empty_like(feature)
            for group in (order[:3], order[3:]):
                one[group] = key_backbone(view[group]).mean((2, 3))
            key_features.append(one)

    losses, entering = [], []
    for space in range(N + 1):
        q = unit(model.heads[space](feature))
        with torch.no_grad():
            k = [unit(key_heads[space](f)) for f in key_features]
        old_keys = queue(model, space).keys.T.clone()
        total = torch.zeros((), dtype=torch.float64)
        for b in range(6):
            e = [((q[b] * k[j][b]).sum() / T).exp() for j in range(N + 1)]
            below = sum(((q[b] * old).sum() / T).exp() for old in old_keys)
            below = below + (e[0] if space == 0 else sum(e))
            total = total - (e[space] / below).log()
        losses.append(total / 6)
        entering.append(k[0])
    return losses, entering


def test_loss_gradients_and_queues_equal_the_papers() -> None:
    model, v = build(), views()
    torch.manual_seed(3)
    losses, entering = reference(model, v, [torch.randperm(6) for _ in range(N + 1)])
    theirs = sum(losses, torch.zeros((), dtype=torch.float64)) / (N + 1)
    expected = gradients(model, theirs)
    torch.manual_seed(3)
    scalars = model.loss(v)
    got = gradients(model, scalars["loss"])
    assert scalars["loss"].item() == pytest.approx(theirs.item(), abs=1e-9)
    for i in range(N + 1):
        assert scalars[f"space_{i}"].item() == pytest.approx(losses[i].item(), abs=1e-9)
        assert torch.allclose(queue(model, i).keys.T[:6], entering[i], atol=1e-12)
        assert int(queue(model, i).pointer) == 6
    assert got.keys() == expected.keys()
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < 1e-9


def test_same_image_keys_are_negatives_in_the_later_spaces_only() -> None:
    """All embeddings alike: each loss is the logarithm of the number compared with."""
    model = build()
    for parameter in [*model.heads.parameters(), *model.key_heads.parameters()]:
        nn.init.constant_(parameter, 0.1)
    for i in range(N + 1):
        queue(model, i).keys.fill_(1 / math.sqrt(8))
    scalars = model.loss(views())
    assert scalars["space_0"].item() == pytest.approx(math.log(1 + K), abs=1e-9)
    for i in range(1, N + 1):
        assert scalars[f"space_{i}"].item() == pytest.approx(math.log(1 + N + K), abs=1e-9)


def test_which_view_matters_in_which_space() -> None:
    def spaces(changed: int | None) -> list[float]:
        v = views()
        if changed is not None:
            v.images[changed] = views(seed=77).images[changed]
        torch.manual_seed(3)
        scalars = build().loss(v)
        return [scalars[f"space_{i}"].item() for i in range(N + 1)]

    plain = spaces(None)
    for view, concerned in ((0, {0, 1, 2}), (1, {0, 1, 2}), (2, {1, 2}), (3, {1, 2})):  # views are q, k_0, k_1, k_2
        assert {i for i, (a, b) in enumerate(zip(plain, spaces(view), strict=True)) if a != b} == concerned


def test_without_others_the_loss_is_solo_learns_moco_loss() -> None:
    rng = torch.Generator().manual_seed(0)
    q, k, old = (unit(torch.randn(n, 8, generator=rng, dtype=torch.float64)) for n in (5, 5, K))
    expected = moco_loss(q, k, old.T, T).item()
    assert leave_one_out_loss(q, k, [], old.T, T).item() == pytest.approx(expected, abs=1e-12)


def test_momentum_and_no_gradient_on_the_key_side() -> None:
    model, v = build(), views()
    for view in v.images:
        view.requires_grad_()
    before = {name: p.clone() for name, p in model.named_parameters()}
    got = gradients(model, model.loss(v)["loss"])
    assert got.keys() == {name for name in before if not name.startswith("key_")}
    assert [view.grad is not None for view in v.images] == [True, False, False, False]
    after = dict(model.named_parameters())
    for target, online in (("key_backbone.", "backbone."), ("key_heads.", "heads.")):
        for name in [n for n in before if n.startswith(target)]:
            expected = M * before[name] + (1 - M) * before[online + name.removeprefix(target)]
            assert torch.allclose(after[name], expected, atol=1e-12), name


def test_nothing_moves_in_evaluation() -> None:
    model = build().eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model.loss(views())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_embedding_std_is_that_of_space_zero() -> None:
    model, v = build(), views()
    image = v.images[0]
    feature = torch.cat([model.backbone(part).mean((2, 3)) for part in (image[:3], image[3:])])
    expected = embedding_std(model.heads[0](feature).detach()).item()
    assert model.loss(v)["embedding_std"].item() == pytest.approx(expected, abs=1e-6)


def test_wrong_number_of_views_is_explained() -> None:
    with pytest.raises(ValueError, match=r"needs 4 views, found 3.*views\.shared"):
        build().loss(Views(views().images[:3]))


def test_saved_state_continues_bit_by_bit() -> None:
    """Key encoders, queues, pointers and the permutations: 2 + 2 steps with a file between are 4 steps."""
    state = resumed_state(build, lambda step: views(seed=step), 4)
    assert int(state["queues.2.pointer"]) == 4 * 6 % K


# The views.

PLAIN: dict[str, float] = {
    "brightness": 0,
    "contrast": 0,
    "saturation": 0,
    "hue": 0,
    "jitter_p": 0,
    "gray_p": 0,
    "blur_p": 0,
}
STRONG: dict[str, float] = {
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "jitter_p": 0.8,
    "gray_p": 0.2,
}
CPU = torch.device("cpu")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class SquareImages:
    """Square images: all alike with four different corners, or each of one colour of its own."""

    def __init__(self, flat: bool, count: int = 400, side: int = 12) -> None:
        corners = torch.tensor([[40, 90], [140, 220]], dtype=torch.uint8)
        corner = corners.repeat_interleave(side // 2, 0).repeat_interleave(side // 2, 1).expand(3, side, side)
        colours = torch.randint(30, 226, (count, 3, 1, 1), generator=rng(5), dtype=torch.uint8)
        self.images = [colours[i].expand(3, side, side) if flat else corner for i in range(count)]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        return self.images[index]

    def saliency(self, index: int) -> Tensor:
        raise NotImplementedError

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise NotImplementedError


def maker(flat: bool, photometry: dict[str, float], **changes: Any) -> SharedAugmentation:
    base = {"scale": 1.0, "ratio": (1.0, 1.0), "flip_p": 0.0, "interpolation": "bilinear"}
    args = SharedAugmentationArgs(
        **{**base, "shared": ("rotation", "colour"), **changes, "photometry": (PhotometryArgs(**photometry),)}
    )
    return SharedAugmentation(args, SquareImages(flat), 12)


def turns(batch: Tensor) -> Tensor:
    """By how many quarters each image of the corner pattern is turned, exactly; int64 [B]."""
    original = SquareImages(flat=False).image(0)
    found = [[k for k in range(4) if torch.equal(torch.rot90(original, k, (1, 2)), image)] for image in batch]
    assert all(len(ks) == 1 for ks in found)
    return torch.tensor(found)[:, 0]


def agreement(a: Tensor, b: Tensor) -> float:
    return float((a == b).flatten(1).all(dim=1).float().mean())


def test_rotation_is_the_querys_in_its_key_and_independent_elsewhere() -> None:
    crops = maker(False, PLAIN).crops(torch.arange(400), rng())
    q, k0, k_rotation, k_colour = (turns(batch)[:, None] for batch in crops.images)
    assert torch.equal(q, k_rotation)
    for other in (k0, k_colour):
        assert agreement(q, other) == pytest.approx(0.25, abs=0.08)
    assert agreement(k0, k_colour) == pytest.approx(0.25, abs=0.08)
    assert torch.bincount(q[:, 0], minlength=4).min() > 70


def test_colour_is_the_querys_in_its_key_and_independent_elsewhere() -> None:
    """Images of one colour each, so that neither crop nor rotation shows: what is left is jitter and greyscale."""
    views_ = maker(True, {**STRONG, "blur_p": 0.0})(torch.arange(400), rng(), CPU)
    q, k0, k_rotation, k_colour = views_.images
    assert torch.equal(q, k_colour)
    untouched = 0.2 * 0.2 * 0.8 * 0.8  # neither jittered nor greyed in both, the only way to agree by chance
    for other in (k0, k_rotation):
        assert agreement(q, other) == pytest.approx(untouched, abs=0.04)


def test_crop_and_flip_are_independent_in_every_view() -> None:
    flips = maker(False, PLAIN, flip_p=0.5, shared=("colour",)).crops(torch.arange(400), rng()).images
    boxes = maker(False, PLAIN, scale=0.2, shared=("colour",)).crops(torch.arange(400), rng()).images
    for other in (1, 2):
        assert agreement(flips[0], flips[other]) == pytest.approx(0.5, abs=0.1)
        assert agreement(boxes[0], boxes[other]) < 0.2


def test_blur_and_solarisation_are_no_part_of_colour() -> None:
    args = PhotometryArgs(**STRONG, blur_p=0.5, solarize_p=0.5)
    query, own = colour.draw(50, args, rng(0)), colour.draw(50, args, rng(1))
    mixed = own.with_colour_of(query)
    assert torch.equal(mixed.amounts, query.amounts)
    assert torch.equal(mixed.order, query.order)
    assert torch.equal(mixed.chance[:, :2], query.chance[:, :2])
    assert torch.equal(mixed.chance[:, 2:], own.chance[:, 2:])
    assert torch.equal(mixed.sigma, own.sigma)
    images = torch.rand(50, 3, 8, 8, generator=rng(2))
    first, second = (colour.parameters([draws], [args]).of_views()[0] for draws in (query, mixed))
    assert not torch.equal(colour.apply(images, first, 0.3), colour.apply(images, second, 0.3))


def test_order_of_the_shared_list_is_the_order_of_the_views() -> None:
    crops = maker(False, PLAIN, shared=("colour", "rotation")).crops(torch.arange(400), rng())
    assert torch.equal(turns(crops.images[0]), turns(crops.images[3]))
    assert not torch.equal(turns(crops.images[0]), turns(crops.images[2]))


def test_no_view_is_rotated_where_rotation_is_not_listed() -> None:
    crops = maker(False, PLAIN, shared=("colour",)).crops(torch.arange(20), rng())
    assert len(crops.images) == 3
    assert all(turns(batch).max() == 0 for batch in crops.images)


def test_views_are_a_function_of_the_generator() -> None:
    make = maker(False, {**STRONG, "blur_p": 0.5}, scale=0.3, flip_p=0.5)
    first, again, other = (make(torch.arange(30), rng(seed), CPU).images for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_an_augmentation_listed_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected each augmentation once"):
        maker(False, PLAIN, shared=("colour", "colour"))
