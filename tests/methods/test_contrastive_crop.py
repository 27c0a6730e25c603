"""ContrastiveCrop: boxes from heat maps, centre-suppressed places, and an update that any number of ranks agrees on."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy import stats
from torch import Tensor

from methods.args import PhotometryArgs, RandomResizedCropArgs, ResNetArgs
from methods.attention_guided_args import ContrastiveCropArgs
from methods.backbones.registry import build_backbone
from methods.views import adaptive
from methods.views.base import as_input, planar_unit
from methods.views.contrastive_crop import ContrastiveCrop, centre_suppressed
from methods.views.random_resized_crop import RandomResizedCrop

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)
ARGS = ContrastiveCropArgs(photometry=(PLAIN, PLAIN), scale=0.2, interpolation="bilinear")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Noise:
    """Images of several sizes with one bright square each."""

    def __init__(self, count: int = 150) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Tensor:
        image = torch.randint(0, 60, (3, 30 + index % 7, 34 + index % 5), generator=rng(index), dtype=torch.uint8)
        image[:, 5 + index % 9 : 17 + index % 9, 8 + index % 11 : 20 + index % 11] = 250
        return image

    def saliency(self, index: int) -> Tensor:
        raise AssertionError("no saliency is read")

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("no saliency is read")


def maker(count: int = 150, size: int = 24) -> ContrastiveCrop:
    return ContrastiveCrop(ARGS, Noise(count), size)


def backbone() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))


def test_boxes_are_the_extent_of_the_heat() -> None:
    """Against the definition, pixel by pixel; for other sides of map and image, too."""
    maps = torch.rand(20, 5, 4, 6, generator=rng()) ** 6
    boxes = maker(size=30).learn(maps)
    for one, box in zip(maps, boxes, strict=True):
        heat = one.sum(0)
        heat = (heat - heat.min()) / (heat.max() - heat.min())
        heat = torch.nn.functional.interpolate(heat[None, None], size=30, mode="bilinear")[0, 0]
        hot = [(x, y) for y in range(30) for x in range(30) if heat[y, x] > 0.1]
        xs, ys = zip(*hot, strict=True)
        expected = [min(xs) / 30, min(ys) / 30, (max(xs) + 1) / 30, (max(ys) + 1) / 30]
        assert box.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_flat_or_broken_map_is_the_whole_image() -> None:
    maps = torch.stack([torch.full((3, 4, 4), 2.0), torch.zeros(3, 4, 4), torch.full((3, 4, 4), torch.nan)])
    assert maker().learn(maps).tolist() == [[0, 0, 1, 1]] * 3


def test_before_the_first_update_crops_are_plain() -> None:
    plain = RandomResizedCrop(RandomResizedCropArgs(**ARGS.model_dump(exclude={"threshold", "alpha", "interval"})),
                              Noise(), 24)  # fmt: skip
    one, other = (views.crops(torch.arange(9), rng()) for views in (maker(), plain))
    assert all(torch.equal(a, b) for a, b in zip(one.images, other.images, strict=True))


def placed(alpha: float, box: tuple[float, float, float, float], count: int = 4000) -> tuple[Tensor, Tensor]:
    """Centres of crops of 20 x 30 px in images of 200 x 400, and the start of each."""
    crops, sizes = torch.tensor([[0, 0, 20, 30]] * count), torch.tensor([[200, 400]] * count)
    moved = centre_suppressed(crops, sizes, torch.tensor([box] * count), alpha, rng())
    assert torch.equal(moved[:, 2:] - moved[:, :2], crops[:, 2:])
    assert bool((moved[:, :2] >= 0).all())
    assert bool((moved[:, 2:] <= sizes).all())
    return (moved[:, :2] + moved[:, 2:]) / 2, moved[:, :2]


@pytest.mark.parametrize("alpha", [0.1, 0.6, 1.0])
def test_centres_lie_in_the_box_by_a_beta_distribution(alpha: float) -> None:
    centres, _ = placed(alpha, (0.25, 0.5, 0.75, 0.9))
    for axis, low, high in ((0, 50, 150), (1, 200, 360)):
        shares = (centres[:, axis] - low) / (high - low)
        assert float(shares.min()) >= -0.01
        assert float(shares.max()) <= 1.01
        assert stats.kstest(shares.numpy() + 0.004, stats.beta(alpha, alpha).cdf).statistic < (
            0.4 if alpha < 0.5 else 0.04
        )
    middle = float(((centres[:, 0] > 80) & (centres[:, 0] < 120)).double().mean())
    assert middle == pytest.approx(stats.beta(alpha, alpha).cdf(0.7) - stats.beta(alpha, alpha).cdf(0.3), abs=0.03)


def test_a_crop_stays_in_the_image_where_the_box_is_at_its_border() -> None:
    _, starts = placed(0.6, (0.0, 0.0, 0.02, 1.0))
    assert int(starts[:, 0].max()) == 0
    assert 365 <= int(starts[:, 1].max()) <= 370


def test_updates_come_after_shares_of_the_epochs() -> None:
    views = maker()
    assert views.update_epochs(100) == {20, 40, 60, 80}
    assert views.update_epochs(6) == {1, 2, 4, 5}
    assert views.update_epochs(2) == {1}
    assert views.update_epochs(1) == frozenset()
    assert ContrastiveCrop(ARGS.model_copy(update={"interval": 1.0}), Noise(), 24).update_epochs(9) == frozenset()


def test_an_update_sees_whole_images_and_changes_nothing_in_the_network() -> None:
    views, network = maker(), backbone()
    network.layer2.eval()  # type: ignore[union-attr]
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    views.update(network, torch.device("cpu"))  # type: ignore[arg-type]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert views.learnt is not None
    assert views.learnt.shape == (150, 4)
    network.eval()
    images = as_input(planar_unit(views.whole(range(70, 73))))
    assert torch.allclose(views.learnt[70:73], views.learn(network(images)), atol=1e-6)
    assert len({tuple(box) for box in views.learnt.tolist()}) > 2


def test_a_network_in_double_precision_gives_the_same_boxes() -> None:
    single, double = maker(9), maker(9)
    single.update(backbone(), torch.device("cpu"))  # type: ignore[arg-type]
    double.update(backbone().double(), torch.device("cpu"))  # type: ignore[arg-type]
    assert single.learnt is not None
    assert double.learnt is not None
    assert torch.equal(single.learnt, double.learnt)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_share_the_work_and_get_the_same_bits(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """150 images are three chunks: with five ranks two of them have none."""
    views, network = maker(), backbone()
    views.update(network, torch.device("cpu"))  # type: ignore[arg-type]
    alone = views.learnt
    assert alone is not None
    parts: list[Tensor] = []

    def gathered(rows: Tensor) -> Tensor:
        parts.append(rows[0])
        return rows

    monkeypatch.setattr(adaptive, "world_size", lambda: world)
    monkeypatch.setattr(adaptive, "all_gather", gathered)
    for rank in range(world):
        monkeypatch.setattr(adaptive, "rank", lambda rank=rank: rank)
        views.update(network, torch.device("cpu"))  # type: ignore[arg-type]
    assert torch.equal(torch.stack(parts).sum(dim=0), alone)
    assert sum(bool(part[0].any()) for part in parts) == 1


def test_the_state_brings_the_boxes_back() -> None:
    views, network = maker(9), backbone()
    assert views.state() == {}
    views.update(network, torch.device("cpu"))  # type: ignore[arg-type]
    other = maker(9)
    other.load_state(views.state())
    one, two = (each.crops(torch.arange(9), rng()) for each in (views, other))
    assert all(torch.equal(a, b) for a, b in zip(one.images, two.images, strict=True))
    other.load_state({})
    assert not torch.equal(one.images[0], other.crops(torch.arange(9), rng()).images[0])
