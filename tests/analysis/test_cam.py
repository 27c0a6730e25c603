import random
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.cam.options import CamOptions
from methods.args import ResNetArgs
from methods.backbone import Classifier
from methods.backbones.registry import build_backbone
from methods.measures.cam_kinds import CAM_KINDS
from methods.measures.grad_cam import grad_cam
from suite.errors import UsageError


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_backbone(ResNetArgs(arch="resnet10", width=16, stem="small")), classes=5).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(7, 3, 32, 48, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1])


def reference(model: Classifier, image: Tensor, label: int) -> Tensor:
    """Equations 1 and 2 of arXiv:1610.02391 written down for one image [3, H, W]."""
    features = model.backbone(image[None]).detach().requires_grad_()  # [1, C, h, w]
    logit = model.fc(features.mean(dim=(2, 3)))[0, label]
    (gradient,) = torch.autograd.grad(logit, features)
    alpha = gradient.mean(dim=(2, 3), keepdim=True)
    small = F.relu((alpha * features).sum(dim=1, keepdim=True))
    return F.interpolate(small, image.shape[1:], mode="bilinear", align_corners=False)[0, 0].detach()


def test_maps_equal_the_papers_equations_without_any_scaling(model: Classifier, images: Tensor) -> None:
    maps = grad_cam(model, images, LABELS, batch_size=3)
    assert (maps.shape, maps.dtype) == ((7, 32, 48), torch.float32)
    expected = torch.stack([reference(model, i, int(label)) for i, label in zip(images, LABELS, strict=True)])
    assert 0 < expected.max() < 0.9  # far from 1: the package's own scaling could not pass
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-7)


def test_kinds_that_agree_on_a_pooled_linear_head_and_those_that_do_not(model: Classifier, images: Tensor) -> None:
    """The gradient is the same at every place there, so that its mean, its product and its share are one thing."""
    maps = {kind: grad_cam(model, images, LABELS, kind=kind) for kind in CAM_KINDS}
    for kind in ("xgradcam", "hirescam"):
        torch.testing.assert_close(maps[kind], maps["gradcam"], rtol=1e-3, atol=1e-6)
    others = [maps[kind] / maps[kind].mean() for kind in CAM_KINDS if kind not in {"xgradcam", "hirescam"}]
    assert all((one - other).abs().max() > 0.01 for n, one in enumerate(others) for other in others[:n])
    for kind, found in maps.items():
        assert (found.shape, found.dtype) == ((7, 32, 48), torch.float32), kind
        assert found.isfinite().all(), kind
        assert found.min() >= 0, kind


def test_layercam_equals_its_equation(model: Classifier, images: Tensor) -> None:
    """Equation 5 of doi:10.1109/TIP.2021.3089943: features times the positive part of their gradient."""
    maps = grad_cam(model, images, LABELS, kind="layercam")
    features = model.backbone(images)  # [N, C, h, w]
    places = features.shape[2] * features.shape[3]
    gradient = model.fc.weight[LABELS] / places  # [N, C], of an average and a linear layer
    small = F.relu((gradient.clamp(min=0)[:, :, None, None] * features).sum(dim=1, keepdim=True))
    expected = F.interpolate(small, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-7)


def test_unknown_names_are_refused_with_the_nearest(model: Classifier, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"did you mean 'gradcam\+\+'"):
        grad_cam(model, images, LABELS, kind="gradcam+")
    with pytest.raises(UsageError, match="did you mean 'layercam'"):
        CamOptions(kinds=("gradcam", "layer_cam"))
    with pytest.raises(UsageError, match="Known: jet, viridis"):
        CamOptions(colours="magma")


def test_a_classifier_twice_as_steep_gives_maps_twice_as_high(model: Classifier, images: Tensor) -> None:
    before = grad_cam(model, images, LABELS)
    with torch.no_grad():
        model.fc.weight *= 2
    torch.testing.assert_close(grad_cam(model, images, LABELS), 2 * before)


def test_without_labels_the_predicted_class_is_explained(model: Classifier, images: Tensor) -> None:
    predicted = model(images).argmax(dim=1)
    assert torch.equal(grad_cam(model, images), grad_cam(model, images, predicted))
    assert not torch.equal(grad_cam(model, images), grad_cam(model, images, (predicted + 1) % 5))


@pytest.mark.parametrize("kind", CAM_KINDS)
def test_batches_do_not_change_the_maps(model: Classifier, images: Tensor, kind: str) -> None:
    whole = grad_cam(model, images, LABELS, kind=kind)
    torch.testing.assert_close(grad_cam(model, images, LABELS, kind=kind, batch_size=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CAM_KINDS)
def test_the_model_comes_back_as_it_was(model: Classifier, images: Tensor, kind: str) -> None:
    model.train()
    model.backbone.layer1.eval()  # a mixture that model.train() would not restore
    for parameter in model.backbone.layer2.parameters():
        parameter.requires_grad_(False)
    model(images).sum().backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    grads = [p.grad for p in model.parameters()]
    values = [None if grad is None else grad.clone() for grad in grads]

    grad_cam(model, images, LABELS, kind=kind)

    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wanted
    for parameter, grad, value in zip(model.parameters(), grads, values, strict=True):
        assert parameter.grad is grad
        assert grad is None or (value is not None and torch.equal(grad, value))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_the_model_comes_back_even_after_an_error(model: Classifier, images: Tensor) -> None:
    model.train()
    with pytest.raises(IndexError):
        grad_cam(model, images, LABELS + 100)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("kind", CAM_KINDS)
def test_random_states_are_left_alone(model: Classifier, images: Tensor, kind: str) -> None:
    model.train()
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    grad_cam(model, images, LABELS, kind=kind)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state()) == before[2]


def test_frozen_layers_make_no_difference(model: Classifier, images: Tensor) -> None:
    expected = grad_cam(model, images, LABELS)
    model.requires_grad_(False)
    assert torch.equal(grad_cam(model, images, LABELS), expected)
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_works_inside_an_evaluation_loop(model: Classifier, images: Tensor, outer: type) -> None:
    expected = grad_cam(model, images, LABELS)
    with outer():
        inside = grad_cam(model, images.clone(), LABELS)
    assert torch.equal(inside, expected)


def test_no_gradient_reaches_the_backbone(model: Classifier, images: Tensor) -> None:
    """The graph begins at the features: nothing below them may be kept for a backward pass."""
    below: list[bool] = []
    handle = model.backbone.layer3.register_forward_hook(lambda _m, _i, output: below.append(output.requires_grad))
    grad_cam(model, images, LABELS)
    handle.remove()
    assert below == [False]


@pytest.mark.parametrize("kind", CAM_KINDS)
def test_memory_does_not_grow_over_a_thousand_images(model: Classifier, kind: str) -> None:
    """No more than one batch's features and logits are alive when the next batch begins."""
    alive: list[weakref.ref[Tensor]] = []
    counts: list[int] = []

    def watch(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(sum(ref() is not None for ref in alive))
        alive.append(weakref.ref(output))

    handles = [model.backbone.layer4.register_forward_hook(watch), model.fc.register_forward_hook(watch)]
    grad_cam(model, torch.randn(1000, 3, 16, 16), torch.zeros(1000, dtype=torch.long), kind=kind, batch_size=20)
    for handle in handles:
        handle.remove()
    assert len(counts) == 100
    assert max(counts) <= 1  # at fc, the features of its own batch


def test_shapes_that_do_not_fit_are_refused(model: Classifier, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"labels \[N\]"):
        grad_cam(model, images, LABELS[:3])
    with pytest.raises(ValueError, match=r"\[N, 3, H, W\]"):
        grad_cam(model, images[0])
