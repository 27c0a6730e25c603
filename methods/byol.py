"""BYOL: Bootstrap Your Own Latent (Grill et al. 2020, arXiv:2006.07733), and with an alignment module, CVSA.

Loss, equation 2 summed over both directions: sum of 2 - 2 cos(q(g(f(v))), sg(g'(f'(v')))). The convention matters
where L_Align is added 1:1: halving or doubling it would change the weight. The loss itself is solo-learn's.
The target starts as a copy of the online network, gets no gradient, and its batch normalisation uses batch
statistics, as DeepMind's code does.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from methods.alignment import SaliencyAlignment, add_alignment
from methods.args import ByolArgs
from methods.backbone import Backbone
from methods.objective import Objective, cosine_tau, ema_update, embedding_std, frozen_copy
from methods.solo_learn import byol_loss, load_losses
from methods.views.batch import Views


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Section 3.3: linear - BN - ReLU - linear, no normalisation at the end."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )


class Byol(Objective):
    """Needs two views; masks too where an alignment module is given."""

    def __init__(self, args: ByolArgs, backbone: Backbone, alignment: SaliencyAlignment | None = None) -> None:
        super().__init__()
        load_losses()
        self.args = args
        self.backbone = backbone
        self.projector = _mlp(backbone.dim, args.hidden_dim, args.projection_dim)
        self.predictor = _mlp(args.projection_dim, args.hidden_dim, args.projection_dim)
        self.alignment = alignment
        self.target_backbone = cast(Backbone, frozen_copy(self.backbone))
        self.target_projector = cast(nn.Sequential, frozen_copy(self.projector))

    def loss(self, views: Views) -> dict[str, Tensor]:
        """L_Cont, plus weight x L_Align with an alignment module. View images [B, 3, S, S], masks [B, 1, S, S]."""
        first, second = views.images
        maps = [self.backbone(first), self.backbone(second)]  # [B, dim, h, w] each
        with torch.no_grad():
            target_maps = [self.target_backbone(first), self.target_backbone(second)]
            targets = [self.target_projector(pooled(features)) for features in target_maps]  # [B, D]
        projections = [self.projector(pooled(features)) for features in maps]
        predictions = [self.predictor(z) for z in projections]

        contrastive = byol_loss(predictions[0], targets[1]) + byol_loss(predictions[1], targets[0])
        scalars = {
            "loss": contrastive,
            "contrastive": contrastive.detach(),
            "embedding_std": embedding_std(projections[0]),
        }
        return add_alignment(self.alignment, scalars, maps, target_maps[::-1], views.masks)

    def after_step(self, progress: float) -> None:
        """Move the target: tau from tau_base at the first step towards 1 at the end, or constant."""
        constant = self.args.tau_schedule == "constant"
        tau = self.args.tau_base if constant else cosine_tau(self.args.tau_base, progress)
        ema_update(self.target_backbone, self.backbone, tau)
        ema_update(self.target_projector, self.projector, tau)
        if self.alignment is not None:
            self.alignment.update_target(tau)


def pooled(features: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, C]."""
    return features.mean(dim=(2, 3))
