"""DINO against its paper's equations, written out again here without any code of the suite; and multi-crop views."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from methods import solo_learn
from methods.args import PhotometryArgs, ResNetArgs
from methods.backbones.registry import build_backbone
from methods.dino import Dino, DinoNetwork
from methods.multi_crop_args import DinoArgs, MultiCropArgs
from methods.views.batch import Views
from methods.views.multi_crop import MultiCrop

from .compare import gradients

PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)


def build(head_bn: bool = True, **changes: Any) -> Dino:
    """With a centre, a teacher and scales that are not the initial ones, as after some steps."""
    args = DinoArgs(
        hidden_dim=10, bottleneck_dim=6, outputs=7, head_bn=head_bn, tau_base=0.9, warmup_temperature_epochs=4
    ).model_copy(update=changes)
    torch.manual_seed(0)
    model = Dino(args, build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))).double()
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.center.copy_(0.1 * torch.randn(1, 7))
    model.before_step(2)
    return model.train()


def views(sides: tuple[int, ...] = (24, 24, 12, 12, 12), batch: int = 4) -> Views:
    rng = torch.Generator().manual_seed(2)
    return Views([torch.randn(batch, 3, side, side, generator=rng, dtype=torch.float64) for side in sides])


def logits(network: DinoNetwork, images: list[Tensor], thaw: float = 1.0) -> list[Tensor]:
    """Appendix C from the weights alone: crops of one size are normalised together, logits of each crop come back."""
    features = []
    for side in sorted({image.shape[-1] for image in images}, reverse=True):
        features.append(network.backbone(torch.cat([i for i in images if i.shape[-1] == side])).mean((2, 3)))
    x = torch.cat(features)
    for layer in network.head:
        if isinstance(layer, nn.Linear):
            x = x @ layer.weight.T + layer.bias
        elif isinstance(layer, nn.BatchNorm1d):
            x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() * layer.weight + layer.bias
        else:
            x = x * (1 + torch.erf(x / math.sqrt(2))) / 2  # GELU
    x = x / x.norm(dim=1, keepdim=True)
    rows = network.last.weight if thaw else network.last.weight.detach()
    return list((x @ (rows / rows.norm(dim=1, keepdim=True)).T).chunk(len(images)))


def reference(model: Dino, v: Views, temperature: float, thaw: float = 1.0) -> Tensor:
    """Equations 1 to 3 image by image: H(P_t(x), P_s(x')) over all crops x' but x itself."""
    with torch.no_grad():
        teachers = logits(model.teacher, v.images[:2])
    students = logits(model.student, v.images, thaw)
    total, terms = torch.zeros((), dtype=torch.float64), 0
    for i, teacher in enumerate(teachers):
        for j, student in enumerate(students):
            if i == j:
                continue
            for t, s in zip(teacher, student, strict=True):
                weights = ((t - model.center[0]) / temperature).exp()
                shares = (s / 0.1).exp()
                total = total - (weights / weights.sum() * (shares / shares.sum()).log()).sum()
                terms += 1
    return total / terms


@pytest.mark.parametrize("head_bn", [True, False])
@pytest.mark.parametrize("sides", [(24, 24, 12, 12, 12), (24, 24)])
def test_loss_and_gradients_equal_the_papers_equations(sides: tuple[int, ...], head_bn: bool) -> None:
    model, v = build(head_bn), views(sides)
    theirs = reference(model, v, temperature=0.06)  # of epoch 2: two thirds of the way from .04 to .07
    ours = model.loss(v)["loss"]
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
    got, expected = gradients(model, ours), gradients(model, theirs)
    trained = {f"student.{name}" for name, _ in model.student.named_parameters()}
    assert got.keys() == expected.keys() == trained
    assert expected["student.last.weight"].abs().max() > 1e-3
    assert max((got[name] - expected[name]).abs().max().item() for name in got) < 1e-9


def test_loss_and_centre_are_solo_learns() -> None:
    model, v = build(), views()
    theirs = solo_learn._module("losses.dino").DINOLoss(7, 0.04, 0.07, 4, 9, 0.1, len(v.images), 0.9).double()
    theirs.epoch = 2
    theirs.center.copy_(model.center)
    with torch.no_grad():
        loss = theirs(torch.cat(logits(model.student, v.images)), torch.cat(logits(model.teacher, v.images[:2])))
    assert model.loss(v)["loss"].item() == pytest.approx(loss.item(), abs=1e-9)
    assert torch.allclose(model.center, theirs.center, atol=1e-12)


def test_the_centre_moves_in_training_only() -> None:
    model, v = build(), views()
    before, mean = model.center.clone(), torch.cat(logits(model.teacher, v.images[:2])).mean(0)
    model.loss(v)
    assert torch.allclose(model.center[0], 0.9 * before[0] + 0.1 * mean, atol=1e-12)  # equation 4
    after = model.center.clone()
    model.eval().loss(v)
    assert torch.equal(model.center, after)


def test_a_frozen_last_layer_stays_and_changes_no_other_gradient() -> None:
    model, v = build(freeze_epochs=3), views()
    got = gradients(model, model.loss(v)["loss"])
    assert got["student.last.weight"].abs().max() == 0
    model = build(freeze_epochs=3)
    expected = gradients(model, reference(model, v, temperature=0.06, thaw=0.0))
    assert max((got[name] - expected[name]).abs().max().item() for name in expected) < 1e-9
    model.before_step(2.999)
    assert model.thaw == 0
    model.before_step(3)
    assert model.thaw == 1


@pytest.mark.parametrize(
    ("epochs", "expected"), [(0, [0.07] * 3), (1, [0.04, 0.07, 0.07]), (3, [0.04, 0.055, 0.07, 0.07])]
)
def test_the_temperature_warms_up_as_in_the_official_code(epochs: int, expected: list[float]) -> None:
    """numpy.linspace(.04, .07, epochs), then .07."""
    model = build(warmup_temperature_epochs=epochs)
    for epoch, temperature in enumerate(expected):
        model.before_step(epoch + 0.5)
        assert model.temperature.item() == pytest.approx(temperature, abs=1e-9)


def test_the_teacher_follows_and_both_are_the_whole_state() -> None:
    model = build()
    before = {name: p.clone() for name, p in model.teacher.named_parameters()}
    model.after_step(0.5)
    for name, p in model.teacher.named_parameters():  # tau = 1 - (1 - .9) (cos(pi / 2) + 1) / 2 = .95
        assert torch.allclose(p, 0.95 * before[name] + 0.05 * model.student.get_parameter(name), atol=1e-12)
        assert not p.requires_grad
    parts = {name.partition(".")[0] for name in model.state_dict()}
    assert parts == {"student", "teacher", "center"}


def test_collapse_shows_in_the_teachers_entropy() -> None:
    model, v = build(), views()
    assert 0 < model.loss(v)["teacher_entropy"].item() < 1
    model.teacher.last.weight.data[:] = 1.0  # every output alike
    model.center.zero_()
    assert model.loss(v)["teacher_entropy"].item() == pytest.approx(1, abs=1e-12)


class Gradients:
    """Pixel values of every image tell the place: red is the column, green the row."""

    def __len__(self) -> int:
        return 400

    def image(self, index: int) -> Tensor:
        y, x = torch.meshgrid(torch.arange(120), torch.arange(160), indexing="ij")
        return torch.stack([x, y, torch.full_like(x, index % 256)]).to(torch.uint8)

    def saliency(self, index: int) -> Tensor:
        raise AssertionError("not read")

    def salient_box(self, index: int) -> tuple[int, int, int, int]:
        raise AssertionError("not read")


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "photometry": (PLAIN, PLAIN, PLAIN), "global_scale": (0.3, 0.8), "local_scale": (0.05, 0.2), "local_crops": 3,
        "local_size": 24, "interpolation": "bilinear", **changes,
    }  # fmt: skip


def test_crops_have_their_sizes_and_areas() -> None:
    maker = MultiCrop(MultiCropArgs(**settings()), Gradients(), 48)
    crops = maker.crops(torch.arange(400), torch.Generator().manual_seed(0))
    assert [tuple(crop.shape) for crop in crops.images] == [(400, 3, 48, 48)] * 2 + [(400, 3, 24, 24)] * 3
    for number, crop in enumerate(crops.images):
        low, high = (0.3, 0.8) if number < 2 else (0.05, 0.2)
        spans = [crop[:, channel].float().flatten(1) for channel in (0, 1)]
        width, height = (span.amax(1) - span.amin(1) + 1 for span in spans)  # px of the image
        area = (width * height / (160 * 120)).numpy()
        assert area.min() > 0.85 * low
        assert area.max() < 1.1 * high
        assert (crop[:, 2, 0, 0].long() == torch.arange(400) % 256).all()
        # Shares below .45 of the larger range always fit; the areas of small crops are uniform up to rounding.
        if number >= 2:
            assert stats.kstest(area, stats.uniform(low, high - low).cdf).statistic < 0.12
    assert not torch.equal(crops.images[2], crops.images[3])
    flipped = crops.images[0][:, 0, 0, 0] > crops.images[0][:, 0, 0, -1]
    assert 0.4 < flipped.float().mean() < 0.6


def test_each_kind_of_crop_has_its_colours() -> None:
    grey = PLAIN.model_copy(update={"gray_p": 1.0})
    maker = MultiCrop(MultiCropArgs(**settings(photometry=(PLAIN, grey, grey), local_crops=2)), Gradients(), 48)
    batch = maker(torch.arange(3), torch.Generator().manual_seed(0), torch.device("cpu"))
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    channels = [(images * std + mean).std(dim=1).max().item() for images in batch.images]
    assert channels[0] > 0.1
    assert max(channels[1:]) < 1e-5


@pytest.mark.parametrize("change", [{"global_scale": (0.5, 0.3)}, {"local_scale": (0.0, 0.3)}, {"local_crops": 0}])
def test_impossible_settings_are_errors(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        MultiCropArgs(**settings(**change))
