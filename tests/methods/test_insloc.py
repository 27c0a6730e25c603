"""InsLoc: boxes that bound the pasted pixels, box augmentation against the official steps, the loss written out."""

from __future__ import annotations

import copy
import io
import math
from collections import Counter
from itertools import permutations
from typing import Any, cast

import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import grid_sample
from torchvision.ops import box_iou

from methods.args import BoxAugmentationArgs, InsLocArgs, InstanceCompositionArgs, PhotometryArgs, ResNetArgs
from methods.backbone import Backbone
from methods.backbones.registry import build_backbone
from methods.insloc import InsLoc, region_features
from methods.views.batch import Views
from methods.views.geometry import mirrored
from methods.views.instance_composition import InstanceComposition, anchors, augment

from .compare import gradients

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)
BACKBONE = ResNetArgs(arch="resnet10", width=8, stem="small")
M, K, T, SIDE = 0.9, 10, 0.2, 5
ARGS = InsLocArgs(hidden_dim=16, projection_dim=8, temperature=T, momentum=M, queue_size=K, bn_splits=2, roi_side=SIDE)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class OneBright:
    """Image 0 is white, all others black."""

    def __init__(self, count: int = 10_000, height: int = 90, width: int = 120) -> None:
        self.count, self.height, self.width = count, height, width

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        return torch.full((3, self.height, self.width), 255 * (index == 0), dtype=torch.uint8)

    def saliency(self, index: int) -> Tensor:
        raise AssertionError("InsLoc reads no saliency")

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("InsLoc reads no saliency")


def maker(source: OneBright | None = None, size: int = 48, **changes: object) -> InstanceComposition:
    base = {"scale": 0.2, "photometry": (PLAIN, PLAIN), "augment_boxes": (False, False)}
    args = InstanceCompositionArgs(**{**base, **changes})  # type: ignore[arg-type]
    return InstanceComposition(args, source or OneBright(), size)


def bounds(image: Tensor) -> list[int]:
    """The box around the bright pixels of [3, S, S], which have to fill it."""
    rows, columns = torch.nonzero(image[0] > 0, as_tuple=True)
    left, top, right, bottom = (int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    assert (image[:, top:bottom, left:right] == 255).all()
    return [left, top, right, bottom]


@pytest.mark.parametrize("flip_p", [0.0, 0.5, 1.0])
def test_boxes_bound_the_pasted_pixels_after_the_flip(flip_p: float) -> None:
    crops = maker(flip_p=flip_p).crops(torch.zeros(200, dtype=torch.long), rng())
    assert crops.boxes is not None
    for images, boxes in zip(crops.images, crops.boxes, strict=True):
        assert boxes.dtype == torch.float32
        for image, box in zip(images, boxes.tolist(), strict=True):
            assert box == bounds(image)


def test_flip_mirrors_image_and_box_together() -> None:
    plain, turned = (maker(flip_p=p).crops(torch.zeros(50, dtype=torch.long), rng()) for p in (0.0, 1.0))
    assert plain.boxes is not None
    assert turned.boxes is not None
    for view in range(2):
        assert torch.equal(plain.images[view].flip(-1), turned.images[view])
        assert torch.equal(mirrored(plain.boxes[view], 48), turned.boxes[view])


def test_only_the_query_has_an_augmented_box() -> None:
    view = maker(augment_boxes=(True, False))
    crops = view.crops(torch.zeros(300, dtype=torch.long), rng())
    assert crops.boxes is not None
    query_box, key_box = crops.boxes
    true = torch.tensor([bounds(image) for image in crops.images[0]]).float()
    assert key_box.tolist() == [bounds(image) for image in crops.images[1]]
    assert not (query_box == true).all(dim=1).any()
    places = {tuple(anchor) for anchor in view._anchors.tolist()}
    assert all(tuple(box) in places for box in query_box.tolist())
    overlap = box_iou(query_box, true).diagonal()
    best = box_iou(true, view._anchors).max(dim=1).values
    assert (overlap[best > 0.5] > 0.5).all()
    assert (best > 0.5).float().mean() > 0.9  # the fallback is rare


def test_colours_change_no_box() -> None:
    change = PLAIN.model_copy(update={"brightness": 0.4, "jitter_p": 1.0})
    view = maker(photometry=(change, change))
    crops = view.crops(torch.arange(8), rng())
    views = view.colours(crops, rng(1), torch.device("cpu"))
    assert crops.boxes is not None
    assert views.boxes is not None
    assert all(torch.equal(a, b) for a, b in zip(crops.boxes, views.boxes, strict=True))


def test_crops_are_scaled_like_the_official_codes() -> None:
    """Longer side to the larger number drawn, shorter to the smaller, whichever is reached first; 128 to 254 of 256."""
    view = maker(size=256)
    cuts = torch.tensor([[3, 4, 3 + w, 4 + h] for w in (20, 45, 90, 119) for h in (20, 45, 86)]).repeat(50, 1)
    places = view._places(cuts, rng())
    targets = (128 + 127 * torch.rand((len(cuts), 2), generator=rng(), dtype=torch.float64)).long()
    for cut, place, target in zip(cuts.tolist(), places.tolist(), targets.tolist(), strict=True):
        w, h = cut[2] - cut[0], cut[3] - cut[1]
        factor = min(max(target) / max(w, h), min(target) / min(w, h))
        assert [place[2] - place[0], place[3] - place[1]] == [int(w * factor + 0.5), int(h * factor + 0.5)]
    sides = places[:, 2:] - places[:, :2]
    assert (sides.amax(dim=1) < 255).all()
    assert (places[:, :2] >= 0).all()
    assert (places[:, 2:] < 256).all()
    for axis in range(2):
        relative = (places[:, axis].double() + 0.5) / (256 - sides[:, axis])
        assert stats.kstest(relative[sides[:, axis] < 200].numpy(), "uniform").pvalue > 1e-3


def test_crops_keep_area_aspect_and_proportions() -> None:
    crops = maker(size=256).crops(torch.zeros(500, dtype=torch.long), rng())
    assert crops.boxes is not None
    width, height = (crops.boxes[0][:, 2:] - crops.boxes[0][:, :2]).unbind(dim=1)
    ratio = width / height
    assert 0.48 < ratio.min() < 0.6
    assert 1.8 < ratio.max() < 2.05


def test_backgrounds_are_uniform_over_the_dataset_itself_included() -> None:
    class Levels(OneBright):
        def image(self, index: int) -> Tensor:
            return torch.full((3, 30, 40), 20 * index + 10, dtype=torch.uint8)

    crops = maker(Levels(10), paste=(0.5, 0.6)).crops(torch.full((2000,), 3), rng())
    assert crops.boxes is not None
    drawn = []
    for images, boxes in zip(crops.images, crops.boxes, strict=True):
        outside = images[:, 0, -1, 0].clone()  # a paste touches no bottom edge
        assert (outside != 70).any()
        drawn.append((outside.long() - 10) // 20)
        assert (boxes[:, 3] < 48).all()
        assert stats.chisquare(torch.bincount(drawn[-1], minlength=10).numpy()).pvalue > 1e-3
    assert (drawn[0] != drawn[1]).float().mean().item() == pytest.approx(0.9, abs=0.03)


def test_anchors_are_mmdetections() -> None:
    """5120 boxes at 256 px; centres at 0, 16, .. 240; sides 16 s / sqrt(r) and 16 s sqrt(r)."""
    boxes = anchors(BoxAugmentationArgs(), 256)
    expected = []
    for y in range(0, 256, 16):
        for x in range(0, 256, 16):
            for r in (0.5, 0.75, 1.0, 1.5, 2.0):
                for s in (2, 4, 8, 16):
                    w, h = 16 * s / math.sqrt(r), 16 * s * math.sqrt(r)
                    expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    assert boxes.shape == (5120, 4)
    assert torch.allclose(boxes, torch.tensor(expected), atol=1e-4)
    assert torch.allclose(anchors(BoxAugmentationArgs(), 48), boxes * 48 / 256, atol=1e-4)


def iou(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0.0) * max(h, 0.0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def expected_shares(true: list[float], candidates: list[list[float]], limit: float, nms: float) -> dict[int, float]:
    """The exact chance of every candidate: over all orders of random scores, greedy suppression, one survivor drawn."""
    near = [i for i, box in enumerate(candidates) if iou(true, box) > limit]
    shares: dict[int, float] = Counter()
    orders = list(permutations(near))
    for order in orders:
        kept: list[int] = []
        for i in order:
            if all(iou(candidates[i], candidates[j]) <= nms for j in kept):
                kept.append(i)
        for i in kept:
            shares[i] += 1 / len(kept) / len(orders)
    return dict(shares)


def test_augmentation_is_suppression_with_random_scores_then_a_draw() -> None:
    """A crowd of four near-equal boxes, two apart, one too far: shares as the official steps give, and not uniform."""
    true = [10.0, 10.0, 50.0, 50.0]
    crowd = [[10.0 + d, 10.0, 50.0 + d, 50.0] for d in (0, 1, 2, 3)]
    candidates = [*crowd, [10.0, 16.0, 50.0, 62.0], [2.0, 10.0, 36.0, 50.0], [60.0, 60.0, 90.0, 90.0]]
    args = BoxAugmentationArgs(iou=0.5, nms=0.7)
    expected = expected_shares(true, candidates, 0.5, 0.7)
    assert len(expected) == 6
    assert max(expected.values()) > 1.5 * min(expected.values())
    drawn = augment(torch.tensor([true]).repeat(6000, 1), torch.tensor(candidates), args, rng())
    counts = Counter(candidates.index(box) for box in drawn.tolist())
    assert counts.keys() == expected.keys()
    observed = [counts[i] for i in expected]
    assert stats.chisquare(observed, [6000 * share for share in expected.values()]).pvalue > 1e-3


def test_without_an_overlapping_anchor_the_best_are_used() -> None:
    true = torch.tensor([[20.0, 20.0, 24.0, 21.0]]).repeat(40, 1)
    candidates = anchors(BoxAugmentationArgs(), 48)
    overlap = box_iou(true[:1], candidates)[0]
    assert overlap.max() <= 0.5
    best = {tuple(box) for box in candidates[overlap.topk(7).indices].tolist()}
    drawn = augment(true, candidates, BoxAugmentationArgs(fallback=7), rng())
    assert {tuple(box) for box in drawn.tolist()} <= best
    assert len({tuple(box) for box in drawn.tolist()}) > 2
    assert len({tuple(box) for box in augment(true, candidates, BoxAugmentationArgs(), rng()).tolist()}) > 20


@pytest.mark.parametrize("stride", [4, 16])
def test_regions_are_read_where_the_box_is(stride: int) -> None:
    """On a ramp the mean inside a box is the ramp's value at its middle, whatever the map's stride."""

    class Ramp(nn.Module):
        after_regions = staticmethod(lambda x: x)

        def before_regions(self, x: Tensor) -> Tensor:
            return nn.functional.avg_pool2d(x, stride)

    size = 12 * stride
    x, y = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="xy")
    image = torch.stack([x, y, x + y]).double()[None].repeat(3, 1, 1, 1)
    boxes = torch.tensor([[1.0, 1.0, 5.0, 7.0], [2.5, 3.0, 9.0, 4.0], [4.0, 6.5, 8.0, 11.0]], dtype=torch.float64)
    got = region_features(cast(Any, Ramp()), image, boxes * stride, side=4)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 * stride - 0.5  # pixel j covers [j, j + 1), its value is j
    assert torch.allclose(got, torch.cat([middle, middle.sum(dim=1, keepdim=True)], dim=1), atol=1e-9)


def test_scale_at_the_published_size_is_a_sixteenth_and_a_whole_box_sees_all() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="imagenet")).double().eval()
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    whole = torch.tensor([[0.0, 0.0, 224.0, 224.0]]).repeat(2, 1)
    with torch.no_grad():  # 14 x 14 samples on a 14 x 14 map: the map itself, so RoIAlign changes nothing
        assert torch.allclose(region_features(backbone, images, whole, 14), backbone.pooled(images), atol=1e-9)


def build(train_images: int = 100) -> InsLoc:
    torch.manual_seed(0)
    model = InsLoc(ARGS, build_backbone(BACKBONE), train_images).double()
    torch.manual_seed(1)  # a key encoder that differs from the query's, as after some steps
    for parameter in [*model.key_backbone.parameters(), *model.key_head.parameters()]:
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def batch(rows: int = 6, size: int = 24) -> Views:
    g = rng(2)
    images = [torch.randn(rows, 3, size, size, generator=g, dtype=torch.float64) for _ in range(2)]
    start = [12 * torch.rand(rows, 2, generator=g) for _ in range(2)]
    boxes = [torch.cat([s, s + 5 + 6 * torch.rand(rows, 2, generator=g)], dim=1) for s in start]
    return Views(images, boxes=boxes)


def aligned(features: Tensor, box: list[float], stride: float) -> Tensor:
    """RoIAlign (arXiv:1703.06870) of one map [C, h, w] -> [C, SIDE, SIDE]: bilinear samples, averaged bin by bin."""
    height, width = features.shape[1:]
    left, top, right, bottom = (v / stride for v in box)
    across, down = math.ceil((right - left) / SIDE), math.ceil((bottom - top) / SIDE)
    xs = left + (right - left) * (torch.arange(SIDE * across).double() + 0.5) / (SIDE * across)
    ys = top + (bottom - top) * (torch.arange(SIDE * down).double() + 0.5) / (SIDE * down)
    y, x = torch.meshgrid(2 * ys / height - 1, 2 * xs / width - 1, indexing="ij")
    samples = grid_sample(
        features[None], torch.stack([x, y], dim=-1)[None], padding_mode="border", align_corners=False
    )[0]
    return samples.view(-1, SIDE, down, SIDE, across).mean(dim=(2, 4))


def embed(backbone: Backbone, head: nn.Module, images: Tensor, boxes: Tensor) -> Tensor:
    """Layers 1 to 3, regions, layer 4, average, FC - ReLU - FC, unit length."""
    maps = nn.Sequential(backbone.conv1, backbone.bn1, nn.ReLU(), backbone.layer1, backbone.layer2, backbone.layer3)(
        images
    )
    regions = torch.stack([aligned(m, box, 4.0) for m, box in zip(maps, boxes.double().tolist(), strict=True)])
    first, _, second = head.children()
    z = second(first(backbone.layer4(regions).mean((2, 3))).clamp(min=0))
    return cast(Tensor, z / z.pow(2).sum(1, keepdim=True).sqrt())


def test_loss_gradients_and_keys_equal_the_papers() -> None:
    """Momentum, keys in two random groups with their own boxes, InfoNCE of one query at a time."""
    model, v = build(), batch()
    assert v.boxes is not None
    torch.manual_seed(3)
    order = torch.randperm(6)
    key_backbone, key_head = copy.deepcopy(model.key_backbone), copy.deepcopy(model.key_head)
    for keys, online in ((key_backbone, model.backbone), (key_head, model.head)):
        for old, new in zip(keys.parameters(), online.parameters(), strict=True):
            old.data = M * old.data + (1 - M) * new.data
    query = torch.cat(
        [embed(model.backbone, model.head, v.images[0][g], v.boxes[0][g]) for g in (slice(0, 3), slice(3, 6))]
    )
    key = torch.empty_like(query)
    with torch.no_grad():
        for group in (order[:3], order[3:]):
            key[group] = embed(key_backbone, key_head, v.images[1][group], v.boxes[1][group])
    queue = model.queue.keys.T.clone()
    terms = []
    for q, k in zip(query, key, strict=True):
        logits = torch.cat([(q * k).sum()[None], queue @ q]) / T
        terms.append(logits.exp().sum().log() - logits[0])
    theirs = torch.stack(terms).mean()
    expected = gradients(model, theirs)

    torch.manual_seed(3)
    ours = model.loss(v)["loss"]
    got = gradients(model, ours)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    assert got.keys() == expected.keys()
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < 1e-9
    assert torch.allclose(model.queue.keys[:, :6].T, key, atol=1e-9)  # row by row: the shuffle was undone


def test_boxes_are_shuffled_with_their_images() -> None:
    """With fixed statistics no grouping can matter, if every image keeps its own box; rows differ in both."""
    model, v = build().eval(), batch()
    losses = set()
    for seed in range(4):
        torch.manual_seed(seed)
        losses.add(round(model.loss(v)["loss"].item(), 9))
    assert len(losses) == 1
    assert v.boxes is not None
    wrong = Views(v.images, boxes=[v.boxes[0], v.boxes[1].flip(0)])
    assert abs(model.loss(wrong)["loss"].item() - losses.pop()) > 1e-6


def test_no_gradient_reaches_the_keys_and_all_of_the_backbone_gets_one() -> None:
    model = build()
    got = gradients(model, model.loss(batch())["loss"])
    assert got.keys() == {name for name, p in model.named_parameters() if not name.startswith("key_")}
    assert all(g.abs().max() > 0 for g in got.values())
    build_backbone(BACKBONE).load_state_dict(model.backbone.state_dict(), strict=True)


def test_queue_is_at_most_half_of_the_training_images() -> None:
    assert build(train_images=12).queue.length == 6
    assert build(train_images=100).queue.length == K


def test_state_survives_saving_bit_by_bit() -> None:
    model, v = build(), batch()
    model.loss(v)  # queue and key encoder have moved
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = InsLoc(ARGS, build_backbone(BACKBONE), 100).double()
    other.load_state_dict(torch.load(file))
    losses = []
    for net in (model, other):
        torch.manual_seed(5)
        losses.append(net.loss(v)["loss"])
    assert torch.equal(*losses)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_views_without_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="boxes"):
        build().loss(Views(batch().images))


@pytest.mark.parametrize("changes", [{"augment_boxes": (True,)}, {"paste": (0.5, 1.0)}, {"paste": (0.6, 0.5)}])
def test_impossible_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="expected"):
        maker(**changes)
