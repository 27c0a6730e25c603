"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230) as a plugin: suite run ... --plugin examples/barlow_twins.py"""

from torch import Tensor, nn

from methods.args import Args
from methods.backbone import Backbone
from methods.objective import Objective, embedding_std
from methods.views.batch import Views
from suite.plugin import register_objective


class BarlowArgs(Args):
    dim: int  # of the projector; 8192 in the paper
    off_diagonal: float  # lambda of equation 1


class BarlowTwins(Objective):
    def __init__(self, args: BarlowArgs, backbone: Backbone) -> None:
        super().__init__()
        self.args, self.backbone = args, backbone
        hidden = nn.Linear(backbone.dim, args.dim, bias=False)
        self.projector = nn.Sequential(hidden, nn.BatchNorm1d(args.dim), nn.ReLU(), nn.Linear(args.dim, args.dim))

    def loss(self, views: Views) -> dict[str, Tensor]:
        first, second = (self.projector(self.backbone.pooled(images)) for images in views.images)  # [B, dim] each
        a, b = ((z - z.mean(0)) / z.std(0) for z in (first, second))
        correlation = a.T @ b / len(a)
        diagonal = correlation.diagonal()
        redundancy = correlation.square().sum() - diagonal.square().sum()
        loss = (1 - diagonal).square().sum() + self.args.off_diagonal * redundancy
        return {"loss": loss, "embedding_std": embedding_std(first.detach())}


register_objective(
    "barlow_twins", BarlowTwins, BarlowArgs, label="Barlow Twins",
    recipe={"objective": {"dim": 2048, "off_diagonal": 0.005}, "pretrain": {"optimizer": {"base_lr": 0.2}}},
    by_profile={"demo": {"objective": {"dim": 128}}},
)  # fmt: skip
