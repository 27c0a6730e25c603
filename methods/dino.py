"""DINO: Emerging Properties in Self-Supervised Vision Transformers (Caron et al. 2021, arXiv:2104.14294), for ResNets.

Loss, equations 2 and 3: cross-entropy between the teacher's distribution of a global crop and the student's of every
other crop, a mean over all pairs and images. The teacher is a moving average of the student; its logits are centred by
a moving average (equation 4) and sharpened by a lower temperature. Tests compare the loss with solo-learn's DINOLoss,
which is not used: it looks its temperature up by epoch, so that every epoch would compile a graph of its own.
Differs from the official code: no clipping of gradients; the last layer is frozen by gradients of 0, not by their
absence, since each process has to see a gradient of every parameter.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, normalize, softmax

from methods.backbone import Backbone
from methods.distributed import all_gather
from methods.heads import l2_normalize, pooled_by_size
from methods.multi_crop_args import DinoArgs
from methods.objective import Objective, cosine_tau, ema_update, embedding_std, frozen_copy
from methods.views.batch import Views

_GLOBAL = 2  # the first views, which the teacher sees


class DinoNetwork(nn.Module):
    """Backbone, head and last layer: of the student or of the teacher."""

    def __init__(self, args: DinoArgs, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = _head(backbone.dim, args)
        self.last = nn.Linear(args.bottleneck_dim, args.outputs, bias=False)  # its rows are normalised

    def forward(self, views: list[Tensor], thaw: Tensor) -> tuple[Tensor, Tensor]:
        """V views [B, 3, S, S] -> bottlenecks [V B, D] of unit length, logits [V B, K]; single precision at least.

        `thaw`, 0 or 1, multiplies the gradient of the last layer.
        """
        bottleneck = l2_normalize(self.head(pooled_by_size(self.backbone, views)))
        held = self.last.weight.detach()
        weight = held + thaw * (self.last.weight - held)
        logits = linear(bottleneck, normalize(weight, dim=1))
        return bottleneck, logits.to(torch.promote_types(logits.dtype, torch.float32))


class Dino(Objective):
    """Needs views whose first two are the global crops; further ones may be smaller.

    In training every call of `loss` moves the centre: one call per step.
    """

    center: Tensor  # [1, K]
    temperature: Tensor  # [], the teacher's
    thaw: Tensor  # [], 0 while the last layer is frozen, then 1

    def __init__(self, args: DinoArgs, backbone: Backbone) -> None:
        super().__init__()
        self.args = args
        self.student = DinoNetwork(args, backbone)
        self.teacher = cast(DinoNetwork, frozen_copy(self.student))
        self.register_buffer("center", torch.zeros(1, args.outputs))
        # Both follow from the epoch, so that they are no part of a checkpoint.
        self.register_buffer("temperature", torch.ones(()), persistent=False)
        self.register_buffer("thaw", torch.ones(()), persistent=False)
        self.before_step(0)

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]
        """The student's."""
        return self.student.backbone

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Mean cross-entropy over all pairs of a global crop and another crop. View images [B, 3, S, S].

        `teacher_entropy`: entropy of the teacher's output over log K; 1 if all outputs are equal, one form of collapse.
        """
        count = len(views.images)
        bottleneck, logits = self.student(views.images, self.thaw)
        with torch.no_grad():
            _, targets = self.teacher(views.images[:_GLOBAL], self.thaw)  # [2 B, K]
            teacher = softmax((targets - self.center) / self.temperature, dim=1)
            entropy = -torch.special.xlogy(teacher, teacher).sum(dim=1).mean() / math.log(targets.shape[1])
        students = log_softmax(logits / self.args.student_temperature, dim=1).chunk(count)
        pairs = [
            -(target * student).sum(dim=1).mean()
            for i, target in enumerate(teacher.chunk(_GLOBAL))
            for j, student in enumerate(students)
            if i != j
        ]
        if self.training:
            self._move_center(targets)
        first = bottleneck.detach().chunk(count)[0]
        return {
            "loss": torch.stack(pairs).mean(),
            "embedding_std": embedding_std(first),
            "teacher_entropy": entropy,
        }

    @torch.no_grad()
    def _move_center(self, targets: Tensor) -> None:
        """Equation 4, over the rows of all processes: logits [2 B, K]."""
        mean = all_gather(targets.mean(dim=0, keepdim=True)).mean(dim=0, keepdim=True)
        self.center.lerp_(mean, 1 - self.args.center_momentum)

    def before_step(self, epoch: float) -> None:
        """The teacher's temperature and whether the last layer is trained; both change between epochs only."""
        args, done = self.args, int(epoch)
        rise = args.warmup_temperature_epochs - 1
        share = min(done / rise, 1.0) if rise > 0 else float(done > rise)
        self.temperature.fill_(args.warmup_temperature + share * (args.teacher_temperature - args.warmup_temperature))
        self.thaw.fill_(float(done >= args.freeze_epochs))

    def after_step(self, progress: float) -> None:
        """Move the teacher: tau from tau_base at the first step towards 1 at the end."""
        ema_update(self.teacher, self.student, cosine_tau(self.args.tau_base, progress))


def _head(inputs: int, args: DinoArgs) -> nn.Sequential:
    """Appendix C: three linear layers with GELU between them, weights from a normal distribution of deviation .02."""

    def hidden(width: int) -> list[nn.Module]:
        norm: list[nn.Module] = [nn.BatchNorm1d(args.hidden_dim)] if args.head_bn else []
        return [nn.Linear(width, args.hidden_dim), *norm, nn.GELU()]

    last = nn.Linear(args.hidden_dim, args.bottleneck_dim)
    head = nn.Sequential(*hidden(inputs), *hidden(args.hidden_dim), last)
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)  # official code
            nn.init.zeros_(layer.bias)
    return head
