"""LCR: learning common rationales (Shu et al. 2023, arXiv:2303.01669), on MoCo v2.

A branch of K detectors fits the Grad-CAM of the contrastive loss. Each detector is a 1x1 convolution of the query's
last feature map A with batch normalisation and ReLU; the branch's map is their maximum, stretched to 0..1. So small a
branch can fit only what many images have in common. With the Grad-CAM G of the query's contrastive loss

    G = ReLU(sum_c alpha_c A_c),  alpha_c = mean over positions of d loss / dA_c
    loss = InfoNCE + weight x KL(softmax(G / t) || softmax(branch / t))

alpha is a constant; gradients reach A through both maps, and the detectors, as in the official code (GANPerf/LCR). That
code leaves the paper's text open at several points, which are settings (`LcrArgs`); our defaults say which they follow.

Differs from the official code: training starts from our weights, not from supervised ImageNet weights; the branch's map
is stretched by the extremes of each image instead of those of a device's batch, so that it does not depend on the
batch; the branch is used in training only, while the official evaluation weights the features with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from methods.attention_guided_args import LcrArgs
from methods.backbone import Backbone
from methods.contrastive_cam import grad_cam
from methods.distributed import world_size
from methods.moco_v2 import MocoV2
from methods.views.batch import Views


class Lcr(MocoV2):
    """Needs two views. In training every call of `loss` moves the key encoder and the queue: one call per step."""

    args: LcrArgs

    def __init__(self, args: LcrArgs, backbone: Backbone, train_images: int) -> None:
        super().__init__(args, backbone, train_images)
        self.detectors = nn.Sequential(
            nn.Conv2d(backbone.dim, args.detectors, kernel_size=1, bias=False),
            nn.BatchNorm2d(args.detectors),
            nn.ReLU(),
        )

    def synchronised_parts(self) -> tuple[nn.Module, ...]:
        """The detectors, which normalise the whole batch."""
        return (self.detectors,)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """InfoNCE of view 1 against view 2 and the queue, plus weight x divergence. View images [B, 3, S, S]."""
        view, key_view = views.images
        self.update_keys()
        maps, query = self.encode_query(view, maps=True)
        _, key = self.encode_key(key_view, maps=False)
        by_query = info_nce_gradient(query.detach(), key, self.queue.negatives(), self.args.temperature)
        scalars = self.contrast(query, key)
        divergence = self._divergence(self._target(maps, by_query, key), self.detectors(maps).amax(dim=1))
        contrastive = scalars["loss"]
        scalars |= {"contrastive": contrastive.detach(), "divergence": divergence.detach()}
        return {**scalars, "loss": contrastive + self.args.weight * divergence}

    def _target(self, maps: Tensor, by_query: Tensor, key: Tensor) -> Tensor:
        """Grad-CAM [B, h, w]: differentiable in the maps, with constant weights."""
        direction = by_query if self.args.score == "loss" else key
        cam = grad_cam(maps, self.head, direction, constant_weights=True)
        return stretched(cam) if self.args.stretch else cam / (len(maps) * world_size())

    def _divergence(self, target: Tensor, fitted: Tensor) -> Tensor:
        """KL(softmax(target / t) || softmax(fitted / t)), mean over images; both [B, h, w]."""
        with torch.autocast(target.device.type, enabled=False):
            pair = (target, stretched(fitted.to(target.dtype)))
            if self.args.softmax == "places":
                pair = (pair[0].flatten(1), pair[1].flatten(1))
            expected, found = (log_softmax(each / self.args.softness, dim=-1) for each in pair)
            divergence: Tensor = kl_div(found, expected, reduction="sum", log_target=True) / len(target)
            return divergence


def stretched(maps: Tensor) -> Tensor:
    """[B, h, w] -> the same shape, each map from 0 to 1; a constant one becomes 0."""
    maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + math.sqrt(torch.finfo(maps.dtype).tiny))


def info_nce_gradient(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """d loss / d query of each image's InfoNCE loss: [B, D].

    Args:
        query: [B, D] of unit length.
        key: [B, D] of unit length.
        negatives: [D, K].
        temperature: of the loss.
    """
    with torch.autocast(query.device.type, enabled=False):
        positive = (query * key).sum(dim=1, keepdim=True)
        shares = (torch.cat([positive, query @ negatives], dim=1) / temperature).softmax(dim=1)
        return ((shares[:, :1] - 1) * key + shares[:, 1:] @ negatives.T) / temperature
