"""Alignment and uniformity (Wang & Isola 2020, arXiv:2005.10242) as a plugin: --plugin examples/align_uniform.py"""

import torch
from torch import Tensor, nn

from methods.args import Args
from methods.backbone import Backbone
from methods.heads import l2_normalize, mlp_head
from methods.objective import Objective, embedding_std
from methods.views.batch import Views
from suite.plugin import register_objective


class AlignUniformArgs(Args):
    dim: int  # of the embedding
    uniformity: float  # weight of L_uniform; L_align has 1


class AlignUniform(Objective):
    def __init__(self, args: AlignUniformArgs, backbone: Backbone) -> None:
        super().__init__()
        self.args, self.backbone = args, backbone
        self.head: nn.Module = mlp_head(backbone.dim, backbone.dim, args.dim)

    def loss(self, views: Views) -> dict[str, Tensor]:
        first, second = (l2_normalize(self.head(self.backbone.pooled(images))) for images in views.images)  # [B, dim]
        align = (first - second).square().sum(dim=1).mean()  # equation 3, alpha = 2
        uniform = sum(torch.pdist(z).square().mul(-2).exp().mean().log() for z in (first, second)) / 2  # 4, t = 2
        return {"loss": align + self.args.uniformity * uniform, "embedding_std": embedding_std(first.detach())}


register_objective(
    "align_uniform", AlignUniform, AlignUniformArgs, label="Align+Uniform",
    recipe={"objective": {"dim": 128, "uniformity": 1.0}, "pretrain": {"optimizer": {"base_lr": 0.2}}},
    by_profile={"demo": {"objective": {"dim": 64}}},
)  # fmt: skip
