"""Rot-Pred: rotations that move pixels only, and the paper's loss written out again."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.args import PhotometryArgs, RandomResizedCropArgs, ResNetArgs, RotationsArgs, RotPredArgs
from methods.backbones.registry import build_backbone
from methods.objective import embedding_std
from methods.rot_pred import RotPred
from methods.views.batch import Views
from methods.views.random_resized_crop import RandomResizedCrop
from methods.views.rotations import Rotations

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)


class Noise:
    """Images of random pixels: each rotation of each is unlike every other."""

    def __len__(self) -> int:
        return 5

    def image(self, index: int) -> Tensor:
        rng = torch.Generator().manual_seed(index)
        return torch.randint(256, (3, 40, 50), generator=rng, dtype=torch.uint8)

    def saliency(self, index: int) -> Tensor:
        raise AssertionError("rotations read no saliency")

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("rotations read no saliency")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model() -> RotPred:
    torch.manual_seed(0)
    return RotPred(RotPredArgs(), build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))).double()


def batch(images: int = 3) -> Views:
    pixels = torch.randn(4 * images, 3, 24, 24, generator=rng(1), dtype=torch.float64)
    return Views([pixels], labels=torch.arange(4).repeat(images))


def test_all_four_exact_rotations_of_every_crop_in_order() -> None:
    indices = torch.arange(5)
    upright = RandomResizedCrop(RandomResizedCropArgs(scale=0.3, photometry=(PLAIN,)), Noise(), 16)
    crops = Rotations(RotationsArgs(scale=0.3, photometry=(PLAIN,)), Noise(), 16).crops(indices, rng())
    before = upright.crops(indices, rng()).images[0].numpy()  # the same draws, not turned
    assert crops.labels is not None
    assert crops.labels.dtype == torch.int64
    assert len(crops.images) == 1
    for row in range(20):
        image, turns = divmod(row, 4)
        assert int(crops.labels[row]) == turns
        expected = np.rot90(before[image].transpose(1, 2, 0), turns).transpose(2, 0, 1)
        assert np.array_equal(crops.images[0][row].numpy(), expected)


def test_one_turn_is_a_quarter_counter_clockwise() -> None:
    class Corner(Noise):
        def image(self, index: int) -> Tensor:
            image = torch.zeros(3, 16, 16, dtype=torch.uint8)
            image[:, 0, 15] = 255  # top right
            return image

    maker = Rotations(RotationsArgs(scale=1, flip_p=0, photometry=(PLAIN,)), Corner(), 16)
    bright = maker.crops(torch.tensor([0]), rng()).images[0][:, 0].flatten(1).argmax(dim=1)
    places = [divmod(int(at), 16) for at in bright]
    assert places == [(0, 15), (0, 0), (15, 0), (15, 15)]  # top right, top left, bottom left, bottom right


def test_labels_reach_the_objective() -> None:
    maker = Rotations(RotationsArgs(scale=0.3, photometry=(PLAIN,)), Noise(), 16)
    views = maker(torch.arange(2), rng(), torch.device("cpu"))
    assert views.images[0].shape == (8, 3, 16, 16)
    assert views.labels is not None
    assert views.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_loss_and_gradients_equal_the_papers_equation() -> None:
    """Equations 2 and 3: -1/4 sum over rotations of log F^y, averaged over images."""
    net, v = model(), batch()
    assert v.labels is not None
    scalars = net.loss(v)
    net.zero_grad()
    scalars["loss"].backward()  # type: ignore[no-untyped-call]
    ours = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    features = net.backbone(v.images[0]).flatten(2).sum(dim=2) / 9  # a 3 x 3 map
    scores = (features @ net.head.weight.T + net.head.bias).exp()
    total = torch.zeros((), dtype=torch.float64)
    for image in range(3):
        for turns in range(4):
            row = scores[4 * image + turns]
            total = total - (row[turns] / row.sum()).log() / 4
    expected = total / 3
    net.zero_grad()
    expected.backward()  # type: ignore[no-untyped-call]
    assert scalars["loss"].item() == pytest.approx(expected.item(), abs=1e-9)
    theirs = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert ours.keys() == theirs.keys() == dict(net.named_parameters()).keys()
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-9


def test_accuracy_in_percent_and_spread_of_features() -> None:
    net, v = model(), batch()
    assert v.labels is not None
    assert net.loss(v)["embedding_std"].item() == pytest.approx(
        embedding_std(net.backbone.pooled(v.images[0])).item(), abs=1e-6
    )
    with torch.no_grad():
        hits = [int(net.head(net.backbone.pooled(v.images[0]))[row].argmax()) == row % 4 for row in range(12)]
    assert net.loss(v)["pretext_top1"].item() == pytest.approx(100 * sum(hits) / 12, abs=1e-4)


def test_state_survives_saving_bit_by_bit() -> None:
    net, v = model(), batch()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    torch.manual_seed(9)
    other = RotPred(RotPredArgs(), build_backbone(net.backbone.args)).double()
    other.load_state_dict(torch.load(file))
    assert torch.equal(net.loss(v)["loss"], other.loss(v)["loss"])


def test_views_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        model().loss(Views(batch().images))
