"""Image retrieval on features: Rank-1, Rank-5 and mean average precision.

Every image is a query; all other images are ranked by their similarity to it. A query without another image of its
class is left out.

rank1, rank5  share of queries with an image of their class among the first one or five
map           mean over queries of the average precision of the whole ranking (Manning et al. 2008, Introduction to
              Information Retrieval, section 8.4)

Reported for fine-grained self-supervised learning since LCR (Shu et al. 2023, arXiv:2303.01669), whose table ranks by
the dot product.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Similarity = Literal["cosine", "dot"]


def retrieval(
    features: Tensor, labels: Tensor, similarity: Similarity = "cosine", batch: int = 256
) -> tuple[dict[str, float], int]:
    """Rank-1, Rank-5 and mAP in percent, and the number of queries; no score if there is no query.

    Equally similar images keep the order in which they are given.

    Args:
        features: float [N, D].
        labels: int64 [N], on the same device.
        similarity: cosine, or the dot product of the features as they are.
        batch: queries ranked at a time; memory is O(batch x N).
    """
    vectors = normalize(features, dim=1) if similarity == "cosine" else features
    totals = dict.fromkeys(("rank1", "rank5", "map"), 0.0)
    queries = 0
    for start in range(0, len(vectors), batch):
        asked = torch.arange(start, min(start + batch, len(vectors)), device=vectors.device)
        scores = vectors[asked] @ vectors.T
        scores[asked - start, asked] = -torch.inf  # the query itself comes last and is cut off
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :-1]
        hits = labels[order] == labels[asked, None]  # [batch, N - 1]
        hits = hits[hits.any(dim=1)]
        queries += len(hits)
        totals["rank1"] += float(hits[:, :1].any(dim=1).sum())
        totals["rank5"] += float(hits[:, :5].any(dim=1).sum())
        totals["map"] += float(_average_precision(hits).sum())
    return ({name: 100 * total / queries for name, total in totals.items()} if queries else {}), queries


def _average_precision(hits: Tensor) -> Tensor:
    """float64 [Q] of hits bool [Q, N], best first: mean over the hits of the precision at their place."""
    found = hits.cumsum(dim=1, dtype=torch.float64)
    places = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return (found / places * hits).sum(dim=1) / hits.sum(dim=1)
