"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) and its relatives: which places of an image a network looks at.

Computed by the package pytorch-grad-cam, with three differences from calling it directly: its maps come out
un-normalised, the model is left as it was, and the graph it builds is that of the classifier head only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.backbone import Classifier, evaluating
from methods.measures.cam_kinds import CAM_KINDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def grad_cam(
    model: Classifier, images: Tensor, labels: Tensor | None = None, *, kind: str = "gradcam", batch_size: int = 32
) -> Tensor:
    """Maps at the backbone's feature map for the class `labels`, or for the predicted class where that is None.

    images [N, 3, H, W], normalised as for training; labels [N], integers; kind: see `methods.measures.cam_kinds`.
    Returns maps [N, H, W], float32 on the CPU, never negative, bilinearly enlarged. For Grad-CAM they are in units of
    the logit: the ReLU of the feature maps weighted by the mean gradient (equations 1 and 2 of the paper), zero
    everywhere where no place speaks for the class. ``eigencam`` and ``fem`` look at features alone and know no class;
    the sign of ``eigencam``'s component is the decomposition's, so it may show the background.

    The package stretches each map to 0..1, twice: in ``compute_cam_per_layer`` and in ``aggregate_multi_layers``. These
    two are its steps between the map of a layer and the result, and both are overridden here; weights and weighted sum
    stay the package's. Raw maps of different networks still have no common unit, since logits grow with training:
    `analysis.figures.style.density` makes them comparable.

    The model runs in evaluation mode and is given back as it came: mode and requires_grad of every part, gradients,
    hooks. Memory beyond the result is that of one batch. Raises ValueError where the shapes do not fit.
    """
    if images.ndim != 4 or (labels is not None and labels.shape != images.shape[:1]):
        shape = None if labels is None else tuple(labels.shape)
        raise ValueError(f"expected images [N, 3, H, W] and labels [N], got {tuple(images.shape)} and {shape}")
    layer = model.backbone
    # An outer no_grad, inference_mode or autocast would take away the gradients or their precision.
    device = next(model.parameters()).device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False), _restored(model):
        maps = torch.zeros(len(images), *images.shape[2:])
        # Parameters need no gradient: the graph starts at the features, so frozen layers make no difference.
        start = layer.register_forward_hook(lambda _module, _inputs, output: output.detach().requires_grad_())
        cam = _raw_cam(model, layer, kind)
        try:
            for first in range(0, len(images), batch_size):
                part = slice(first, first + batch_size)
                small = cam(images[part], _targets(None if labels is None else labels[part]))  # [b, h, w]
                cam.outputs = None  # the package would keep this batch's graph until the next has been built
                enlarged = F.interpolate(
                    torch.from_numpy(small)[:, None], images.shape[2:], mode="bilinear", align_corners=False
                )
                maps[part] = enlarged[:, 0]
        finally:
            cam.activations_and_grads.release()
            start.remove()
    return maps


def _targets(labels: Tensor | None) -> list[Any] | None:
    """The package's way to say which logit to explain; None: the highest."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    return None if labels is None else [ClassifierOutputTarget(label) for label in labels.tolist()]


def _raw_cam(model: Classifier, layer: nn.Module, kind: str) -> Any:
    """The package's class without its scaling; calling it gives float32 maps [b, h, w] of `layer`'s size."""
    import numpy as np
    import pytorch_grad_cam  # 4 s: it brings OpenCV, scikit-learn and pyplot

    if kind not in CAM_KINDS:
        near = get_close_matches(kind, CAM_KINDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise ValueError(f"unknown kind of class activation map '{kind}'{hint} Expected one of {', '.join(CAM_KINDS)}.")
    base: Any = getattr(pytorch_grad_cam, CAM_KINDS[kind][0])

    class RawCAM(base):
        def compute_cam_per_layer(
            self, input_tensor: Tensor, targets: list[Any], eigen_smooth: bool
        ) -> list[NDArray[np.float32]]:
            seen = self.activations_and_grads
            gradients = seen.gradients[0].numpy() if self.uses_gradients else None
            cam = self.get_cam_image(input_tensor, layer, targets, seen.activations[0].numpy(), gradients, eigen_smooth)
            return [np.maximum(cam, 0, dtype=np.float32)]

        def aggregate_multi_layers(self, cam_per_target_layer: list[NDArray[np.float32]]) -> NDArray[np.float32]:
            return cam_per_target_layer[0]  # there is one layer

    return RawCAM(model, [layer])


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients wanted and none stored; afterwards everything is as before."""
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    try:
        for parameter, _, _ in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None  # set aside: the package calls model.zero_grad()
        with evaluating(model):
            yield
    finally:
        for parameter, wanted, grad in parameters:
            parameter.requires_grad_(wanted)
            parameter.grad = grad
