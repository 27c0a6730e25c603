"""SwAV: contrasting cluster assignments (Caron et al. 2020, arXiv:2006.09882).

Each global crop gets a code, a soft assignment to K prototypes that uses all of them equally (equations 3 to 5, by the
Sinkhorn-Knopp algorithm); every other crop of the image has to predict it (equations 1 and 2, a mean over all pairs and
images). Codes of a small batch are computed together with embeddings of earlier batches (section 3.1, the queue).
Tests compare codes and loss with solo-learn's, which are not used: its codes add the rows of other processes in another
order than one process does, and its loss knows no gradient of a frozen layer.
Differs from the official code: prototypes are normalised after each optimiser step instead of before it, which is the
same but for the weights that are saved; frozen prototypes get gradients of 0, not none; the queue is a ring of exactly
the length asked for, which the official code lowers to a multiple of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, normalize

from methods.backbone import Backbone
from methods.distributed import all_gather, shard
from methods.heads import l2_normalize, pooled_by_size
from methods.multi_crop_args import SwavArgs
from methods.objective import Objective, embedding_std
from methods.views.batch import Views

_GLOBAL = 2  # the first views, which get codes


class Swav(Objective):
    """Needs views whose first two are the global crops; further ones may be smaller.

    In training every call of `loss` fills the queue: one call per step.
    """

    queue: Tensor  # [2, L, D], earlier embeddings of each global crop
    stored: Tensor  # int64 [], rows put into the queue so far
    collecting: Tensor  # int64 [], 1 from `queue_start` on, 0 before
    thaw: Tensor  # [], 0 while the prototypes are frozen, then 1

    def __init__(self, args: SwavArgs, backbone: Backbone) -> None:
        super().__init__()
        self.args = args
        self.backbone = backbone
        self.projector = nn.Sequential(
            nn.Linear(backbone.dim, args.hidden_dim), nn.BatchNorm1d(args.hidden_dim), nn.ReLU(inplace=True),
            nn.Linear(args.hidden_dim, args.projection_dim),
        )  # fmt: skip
        self.prototypes = nn.Linear(args.projection_dim, args.prototypes, bias=False)
        self._normalise_prototypes()
        self.register_buffer("queue", torch.zeros(_GLOBAL, args.queue_size, args.projection_dim))
        self.register_buffer("stored", torch.zeros((), dtype=torch.long))
        # Both follow from the epoch, so that they are no part of a checkpoint.
        self.register_buffer("collecting", torch.zeros((), dtype=torch.long), persistent=False)
        self.register_buffer("thaw", torch.ones(()), persistent=False)
        self.before_step(0)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """The mean cross-entropy of all pairs of a code and a prediction. View images [B, 3, S, S]."""
        count = len(views.images)
        embeddings = l2_normalize(self.projector(pooled_by_size(self.backbone, views.images)))  # [V B, D]
        held = self.prototypes.weight.detach()
        scores = linear(embeddings, held + self.thaw * (self.prototypes.weight - held))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        predicted = log_softmax(scores / self.args.temperature, dim=1).chunk(count)  # [B, K] each
        coded = embeddings.detach().chunk(count)[:_GLOBAL]
        pairs = [
            -(code * prediction).sum(dim=1).mean()
            for i, code in enumerate(self.codes(coded))
            for j, prediction in enumerate(predicted)
            if i != j
        ]
        return {"loss": torch.stack(pairs).mean(), "embedding_std": embedding_std(coded[0])}

    @torch.no_grad()
    def codes(self, embeddings: tuple[Tensor, ...]) -> list[Tensor]:
        """Unit embeddings [B, D] of each global crop -> codes [B, K], rows that sum to 1; in training fills the queue.

        Over the rows of all processes. The queue takes part once it is full.
        """
        length = self.args.queue_size
        whole = [all_gather(rows) for rows in embeddings]
        full = (self.stored >= length).to(whole[0].dtype)
        codes = []
        with torch.autocast(whole[0].device.type, enabled=False):
            weight = self.prototypes.weight.to(whole[0].dtype)
            for rows, earlier in zip(whole, self.queue.to(whole[0].dtype), strict=True):
                scores = torch.cat([earlier, rows]) @ weight.T  # [L + W B, K]
                counted = torch.cat([full.expand(length), full.new_ones(len(rows))])
                found = assignments(scores, counted, self.args.epsilon, self.args.iterations)
                codes.append(shard(found[length:]))
        if self.training and length:
            self._enqueue(torch.stack(whole))
        return codes

    def _enqueue(self, embeddings: Tensor) -> None:
        """Replace the oldest rows by [2, B, D] new ones, from the epoch `queue_start` on."""
        batch, length = embeddings.shape[1], self.args.queue_size
        places = ((self.stored + torch.arange(batch, device=embeddings.device)) % length)[-length:]
        fresh = embeddings[:, -length:].to(self.queue.dtype)
        self.queue[:, places] = torch.where(self.collecting > 0, fresh, self.queue[:, places])
        self.stored.add_(batch * self.collecting)

    def before_step(self, epoch: float) -> None:
        """Whether the queue is filled and whether the prototypes are trained; both change between epochs only."""
        done = int(epoch)
        self.collecting.fill_(int(done >= self.args.queue_start))
        self.thaw.fill_(float(done >= self.args.freeze_epochs))

    def after_step(self, progress: float) -> None:
        """Bring the prototypes back to unit length."""
        self._normalise_prototypes()

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(normalize(self.prototypes.weight, dim=1))


def assignments(scores: Tensor, counted: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Codes of all rows: equation 3's solution, by Sinkhorn-Knopp.

    Args:
        scores: [N, K], cosines of embeddings and prototypes.
        counted: [N], 1 for rows that take part, 0 for others, whose codes mean nothing.
        epsilon: weight of the entropy.
        iterations: of the algorithm.

    Returns:
        [N, K]; rows sum to 1, and columns of the rows that take part to about their number / K.
    """
    logs, part = scores / epsilon, counted.log()[:, None]  # by logarithms: exp(1 / epsilon) may not be a number
    for _ in range(iterations):
        logs = logs - torch.logsumexp(logs + part, dim=0, keepdim=True)
        logs = log_softmax(logs, dim=1)
    return logs.exp()
