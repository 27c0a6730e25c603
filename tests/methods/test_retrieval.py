"""Rank-1, Rank-5 and mAP against a loop over queries and scikit-learn's average precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from methods.measures.retrieval import retrieval


def images(count: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features around one centre per class, of very different lengths, and labels."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=rng)
    centres = torch.randn(classes, 6, generator=rng)
    lengths = torch.rand(count, 1, generator=rng) * 5 + 0.2
    return (centres[labels] + torch.randn(count, 6, generator=rng)) * lengths, labels


def by_loop(features: Tensor, labels: Tensor, cosine: bool) -> tuple[dict[str, float], int]:
    """The definition, image by image, in float64."""
    vectors, classes = features.double().numpy(), labels.numpy()
    if cosine:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rank1, rank5, precision = [], [], []
    for query in range(len(classes)):
        others = np.array([other for other in range(len(classes)) if other != query])
        relevant = classes[others] == classes[query]
        if not relevant.any():
            continue
        scores = vectors[others] @ vectors[query]
        best = relevant[np.argsort(-scores)]
        rank1.append(best[0])
        rank5.append(best[:5].any())
        precision.append(average_precision_score(relevant, scores))
    scores = {"rank1": np.mean(rank1), "rank5": np.mean(rank5), "map": np.mean(precision)}
    return {name: 100 * float(score) for name, score in scores.items()}, len(rank1)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize(("count", "classes", "batch"), [(60, 7, 256), (60, 7, 16), (25, 12, 7), (4, 2, 1)])
def test_against_the_definition(similarity: str, count: int, classes: int, batch: int) -> None:
    features, labels = images(count, classes)
    labels[0] = 99  # alone in its class: no query, and relevant to nobody
    scores, queries = retrieval(features, labels, similarity, batch)  # type: ignore[arg-type]
    expected, expected_queries = by_loop(features, labels, cosine=similarity == "cosine")
    assert queries == expected_queries < count
    assert scores == pytest.approx(expected, abs=1e-9)


def test_length_matters_to_the_dot_product_alone() -> None:
    features, labels = images(50, 5)
    longer = features * torch.linspace(0.1, 10, 50)[:, None]
    assert retrieval(features, labels)[0] == pytest.approx(retrieval(longer, labels)[0], abs=1e-9)
    assert retrieval(features, labels, "dot")[0] != retrieval(longer, labels, "dot")[0]


def test_an_image_is_no_answer_to_itself_and_ties_keep_their_order() -> None:
    same = torch.ones(4, 3)
    scores, queries = retrieval(same, torch.tensor([0, 1, 1, 0]))
    # Rankings in the order of the images: 1 2 3, 0 2 3, 0 1 3, 0 1 2; relevant are 3, 2, 1, 0.
    assert queries == 4
    assert scores == {"rank1": 25.0, "rank5": 100.0, "map": pytest.approx(100 * (1 / 3 + 1 / 2 + 1 / 2 + 1) / 4)}


def test_without_a_query_there_is_no_score() -> None:
    assert retrieval(torch.randn(3, 2), torch.tensor([0, 1, 2])) == ({}, 0)
    assert retrieval(torch.randn(1, 2), torch.tensor([0])) == ({}, 0)
