"""Rel-Loc: where patches come from, read off images that encode position, and the loss written out again."""

from __future__ import annotations

import io

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from methods.args import PatchesArgs, PhotometryArgs, RelLocArgs, ResNetArgs
from methods.backbones.registry import build_backbone
from methods.rel_loc import RelLoc
from methods.views.batch import Views, normalise, to_unit
from methods.views.patches import Patches

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)
GRID, CELL, SIDE = 63, 21, 16
BACKBONE = ResNetArgs(arch="resnet10", width=8, stem="small")
ARGS = RelLocArgs(hidden_dim=12)


class Coded:
    """Pixel (x, y) of image n is (x, y, n): a patch tells where it was cut."""

    def __init__(self, height: int = GRID, width: int = GRID) -> None:
        self.height, self.width = height, width

    def __len__(self) -> int:
        return 200

    def image(self, index: int) -> Tensor:
        y, x = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        return torch.stack([x, y, torch.full_like(x, index)]).to(torch.uint8)

    def saliency(self, index: int) -> Tensor:
        raise AssertionError("patches read no saliency")

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("patches read no saliency")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maker(source: Coded | None = None, **changes: object) -> Patches:
    base = {"photometry": (PLAIN,), "resize": 1.0, "grid_side": GRID, "patch_side": SIDE}
    return Patches(PatchesArgs(**{**base, **changes}), source or Coded(), 48)  # type: ignore[arg-type]


def corner(patch: Tensor) -> tuple[int, int, int]:
    """Left, top and image of an unscaled patch, after checking that it is one piece of it."""
    left, top, index = (int(v) for v in patch[:, 0, 0])
    assert torch.equal(patch, Coded().image(index)[:, top : top + SIDE, left : left + SIDE])
    return left, top, index


def test_pairs_and_labels_come_in_raster_order_without_the_centre() -> None:
    indices = torch.arange(200)
    crops = maker().crops(indices, rng())
    neighbours, centres = crops.images
    assert neighbours.shape == (1600, 3, SIDE, SIDE)
    assert centres.shape == (200, 3, SIDE, SIDE)
    assert crops.labels is not None
    assert crops.labels.dtype == torch.int64
    cells = [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2), (2, 2)]  # column, row
    offsets = set()
    for row, patch in enumerate(neighbours):
        left, top, index = corner(patch)
        assert index == row // 8
        assert (left // CELL, top // CELL) == cells[int(crops.labels[row])]
        assert int(crops.labels[row]) == row % 8
        offsets.add((left % CELL, top % CELL))
    for row, patch in enumerate(centres):
        left, top, index = corner(patch)
        assert (left // CELL, top // CELL, index) == (1, 1, row)
        offsets.add((left % CELL, top % CELL))
    assert offsets == {(x, y) for x in range(CELL - SIDE + 1) for y in range(CELL - SIDE + 1)}  # the whole jitter


def test_patches_of_an_image_never_overlap_and_the_gap_changes() -> None:
    neighbours, centres = maker().crops(torch.arange(100), rng()).images
    gaps = set()
    for index in range(100):
        corners = [corner(patch)[:2] for patch in [*neighbours[8 * index : 8 * index + 8], centres[index]]]
        for a in range(9):
            for b in range(a):
                (ax, ay), (bx, by) = corners[a], corners[b]
                assert abs(ax - bx) >= SIDE or abs(ay - by) >= SIDE
        gaps.add(corners[8][0] - (corners[3][0] + SIDE))  # between the centre and its left neighbour
    assert min(gaps) >= 0
    assert gaps == set(range(2 * (CELL - SIDE) + 1))


def test_square_is_cut_at_random_after_resizing_the_short_side() -> None:
    source = Coded(height=126, width=200)  # resize 1.05: a square of 120, brought to 63
    neighbours, _ = maker(source, resize=1.05).crops(torch.zeros(300, dtype=torch.long), rng()).images
    first = neighbours[::8].float()  # top left patches
    step = (first[:, 0, 0, -1] - first[:, 0, 0, 0]) / (SIDE - 1)
    assert step.mean().item() == pytest.approx(120 / 63, abs=0.03)
    left, top = first[:, 0, 0, 0], first[:, 1, 0, 0]
    jitter = (CELL - SIDE) * 120 / 63
    assert 0 <= left.min() < 6
    assert 80 - 6 < left.max() <= 80 + jitter + 1
    assert top.max() <= 6 + jitter + 1


def test_grey_is_decided_once_per_image_for_two_thirds_of_them() -> None:
    view = maker(photometry=(PLAIN.model_copy(update={"gray_p": 0.66}),))
    crops = view.crops(torch.arange(200).repeat(10), rng())
    views = view.colours(crops, rng(1), torch.device("cpu"))
    plain = [normalise(to_unit(images)) for images in crops.images]
    grey_images = 0
    same = [(a == b).flatten(1).all(dim=1) for a, b in zip(views.images, plain, strict=True)]
    for index in range(2000):
        unchanged = bool(same[1][index])
        assert same[0][8 * index : 8 * index + 8].tolist() == [unchanged] * 8
        grey_images += not unchanged
    assert grey_images / 2000 == pytest.approx(0.66, abs=0.04)
    changed = (views.images[1] * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))[~same[1]]
    changed = changed + torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    assert (changed.amax(dim=1) - changed.amin(dim=1)).max() < 1e-6
    assert views.labels is not None
    assert views.labels.tolist() == list(range(8)) * 2000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid_side": 64}, "multiple of 3"),
        ({"patch_side": 22}, "patch_side 22"),
        ({"photometry": (PLAIN.model_copy(update={"blur_p": 0.5}),)}, "blur"),
    ],
)
def test_settings_that_would_leak_or_overlap_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        maker(**changes)


def model(args: RelLocArgs = ARGS) -> RelLoc:
    torch.manual_seed(0)
    net = RelLoc(args, build_backbone(BACKBONE)).double()
    torch.manual_seed(1)  # away from the tiny initial weights, so that gradients are of ordinary size
    for p in net.head.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return net


def batch(images: int = 3) -> Views:
    g = rng(2)
    neighbours = torch.randn(8 * images, 3, SIDE, SIDE, generator=g, dtype=torch.float64)
    centres = torch.randn(images, 3, SIDE, SIDE, generator=g, dtype=torch.float64)
    return Views([neighbours, centres], labels=torch.arange(8).repeat(images))


def test_loss_and_gradients_equal_sixteen_patches_per_image() -> None:
    """Every pair encoded on its own, as the published code does, the head and the loss written out."""
    net, v = model(), batch()
    torch.manual_seed(3)
    ours = net.loss(v)["loss"]
    net.zero_grad()
    ours.backward()  # type: ignore[no-untyped-call]
    got = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    neighbours, centres = v.images
    repeated = torch.cat([centres[image : image + 1] for image in range(3) for _ in range(8)])
    pair = torch.cat([net.backbone(neighbours).mean((2, 3)), net.backbone(repeated).mean((2, 3))], dim=1)
    hidden, norm, _, _, last = net.head
    assert isinstance(hidden, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(last, nn.Linear)
    x = pair @ hidden.weight.T + hidden.bias
    x = (x - x.mean(0)) / (x.var(0, correction=0) + norm.eps).sqrt() * norm.weight + norm.bias
    x = x.clamp(min=0)
    torch.manual_seed(3)
    x = x * nn.functional.dropout(torch.ones_like(x), 0.5)  # the same mask: nothing else draws
    scores = x @ last.weight.T + last.bias
    expected = sum((scores[r].exp().sum().log() - scores[r, r % 8] for r in range(24)), torch.zeros(())) / 24
    net.zero_grad()
    expected.backward()  # type: ignore[no-untyped-call]
    theirs = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert ours.item() == pytest.approx(expected.item(), abs=1e-9)
    assert got.keys() == theirs.keys() == dict(net.named_parameters()).keys()
    assert max((got[name] - theirs[name]).abs().max().item() for name in got) < 1e-9


def test_head_starts_small() -> None:
    torch.manual_seed(0)
    net = RelLoc(RelLocArgs(hidden_dim=512), build_backbone(BACKBONE))
    first, last = net.head[0], net.head[4]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    assert first.in_features == 2 * net.backbone.dim
    assert last.out_features == 8
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert last.weight.std().item() == pytest.approx(0.005, rel=0.05)
    assert first.bias.abs().max() == last.bias.abs().max() == 0
    torch.manual_seed(1)
    v = batch()
    assert net.loss(Views([i.float() for i in v.images], labels=v.labels))["loss"].item() == pytest.approx(
        2.079, abs=0.1
    )


def test_state_survives_saving_bit_by_bit() -> None:
    net, v = model(), batch()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = RelLoc(ARGS, build_backbone(BACKBONE)).double()
    other.load_state_dict(torch.load(file))
    torch.manual_seed(4)
    ours = net.loss(v)["loss"]
    torch.manual_seed(4)
    assert torch.equal(ours, other.loss(v)["loss"])


def test_views_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        model().loss(Views(batch().images))
