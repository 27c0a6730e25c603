"""kNN, linear probe and retrieval with a frozen backbone. Nothing is chosen on the test split.

knn: the k nearest training images by cosine vote for their class, each with weight exp(cosine / T)
(Wu et al. 2018, arXiv:1805.01978, section 3.4).
linear: multinomial logistic regression with an L2 penalty, fitted by L-BFGS. The penalty's strength is the best on a
held-out part of the training split; the classifier is then fitted on all of it (Kornblith et al. 2019,
arXiv:1805.08974; SimCLR, arXiv:2002.05709, appendix B.8.1).
retrieval: the test images are ranked for each other (`methods.measures.retrieval`).

All read the pooled features of central crops, without augmentation, with the backbone in evaluation mode: an
untrained network then normalises by the statistics it was initialised with, mean 0 and variance 1.
Differs from the sources in the size and number of strengths, which are the recipe's, and in shifting and scaling all
features by one vector and one number, so that a strength means the same for every network.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from methods.measures.retrieval import retrieval
from suite.data.decoded.split import SplitSource, Subset, held_out
from suite.errors import TrainingError
from suite.kinds.probe import LinearArgs, ProbeSpec
from suite.training.evaluation import centre_crops, measuring_precision, top1_accuracy
from suite.training.features import features, knn_predict
from suite.training.inputs import Inputs
from suite.training.networks import frozen_backbone
from suite.training.outcome import Outcome
from suite.training.schedule import derived_seed, generator
from suite.training.session import Session


class LinearProbe:
    """Logistic regression on standardised features; `fit` starts from the current weights."""

    def __init__(self, classes: int, like: Tensor) -> None:
        """`like`: features [N, D] that fix the shift, one vector, and the scale, one number."""
        self.shift = like.mean(dim=0)
        self.scale = (like - self.shift).square().mean().sqrt().clamp_min(1e-12)
        self.weight = torch.zeros(classes, like.shape[1], device=like.device, dtype=like.dtype, requires_grad=True)
        self.bias = torch.zeros(classes, device=like.device, dtype=like.dtype, requires_grad=True)

    def standardised(self, inputs: Tensor) -> Tensor:
        """[N, D], shifted and scaled."""
        return (inputs - self.shift) / self.scale

    def logits(self, inputs: Tensor) -> Tensor:
        """[N, D] -> [N, classes]."""
        return self.standardised(inputs) @ self.weight.T + self.bias

    def fit(self, inputs: Tensor, labels: Tensor, strength: float, iterations: int) -> None:
        """Minimise mean cross-entropy + strength / 2 x |weight|^2; the bias is free."""
        optimizer = torch.optim.LBFGS([self.weight, self.bias], max_iter=iterations, line_search_fn="strong_wolfe")
        standardised = self.standardised(inputs)  # once, not in each of several hundred evaluations

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (
                cross_entropy(standardised @ self.weight.T + self.bias, labels)
                + strength / 2 * self.weight.square().sum()
            )
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]

    def top1(self, inputs: Tensor, labels: Tensor) -> float:
        """Percent."""
        with torch.no_grad():
            return top1_accuracy(self.logits(inputs).argmax(dim=1), labels)


def linear_top1(
    train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, classes: int, args: LinearArgs, seed: int
) -> tuple[float, float]:
    """Top-1 in percent on the test features, and the strength that was chosen.

    From the strongest penalty to the weakest each fit starts from the one before. Of equally good strengths the
    strongest is taken.
    """
    fit_on, choose_on = (part.to(train.device) for part in held_out(labels.cpu(), args.held_out, generator(seed)))
    probe, best, chosen = LinearProbe(classes, train[fit_on]), -1.0, args.strongest
    for strength in torch.logspace(math.log10(args.strongest), math.log10(args.weakest), args.strengths).tolist():
        probe.fit(train[fit_on], labels[fit_on], strength, args.iterations)
        accuracy = probe.top1(train[choose_on], labels[choose_on])
        if accuracy > best:
            best, chosen = accuracy, strength
    final = LinearProbe(classes, train)
    final.fit(train, labels, chosen, args.iterations)
    return final.top1(test, test_labels), chosen


def run(spec: ProbeSpec, inputs: Inputs, session: Session) -> Outcome:
    """Measure the backbone that the job names; the entry that `suite.kinds.probe` names."""
    train, test, counts = inputs.train_and_test(spec.held_out)
    outcome = probe(spec, train, test, inputs.classes, inputs.backbone(spec.init), session)
    outcome.counts |= counts
    return outcome


def probe(
    spec: ProbeSpec,
    train: SplitSource | Subset,
    test: SplitSource | Subset,
    classes: int,
    init: Path | None,
    session: Session,
) -> Outcome:
    """Measure a frozen backbone. Nothing is trained but the linear classifier, and nothing is saved.

    With `spec.held_out` both sources are parts of the training split.

    Returns:
        knn_top1, linear_top1, retrieval_rank1, retrieval_rank5 and retrieval_map in percent, with the prefix held_out_
        where held-out training images are measured; linear_strength. The count n_queries of retrieval.

    Raises:
        TrainingError: features that are not finite.
    """
    began, device = time.monotonic(), session.fabric.device
    backbone = frozen_backbone(spec, init, device)
    args = spec.probe
    pooled, labels = [], []
    for source in (train, test):
        crops = centre_crops(source, spec.image_size, args.eval_resize, session.loading, session.raise_if_stopped)
        with closing(crops):
            pooled.append(features(backbone, crops, device))
        labels.append(source.labels.to(device))
    if not all(bool(torch.isfinite(part).all()) for part in pooled):
        raise TrainingError("the backbone gives features that are not finite; look at the loss of its pretraining.")
    metrics: dict[str, float] = {}
    counts: dict[str, int] = {}
    on = "held_out_" if spec.held_out else ""
    if args.knn is not None:
        metrics[f"{on}knn_top1"] = top1_accuracy(knn_predict(pooled[0], labels[0], pooled[1], args.knn), labels[1])
    if args.linear is not None:
        seed = derived_seed(spec.seed, "probe")
        top1, strength = linear_top1(pooled[0], labels[0], pooled[1], labels[1], classes, args.linear, seed)
        metrics |= {f"{on}linear_top1": top1, "linear_strength": strength}
    if args.retrieval is not None:
        with measuring_precision():
            scores, counts["n_queries"] = retrieval(pooled[1], labels[1], args.retrieval)
        metrics |= {f"{on}retrieval_{name}": score for name, score in scores.items()}
    return Outcome(metrics, images=len(train) + len(test), seconds=time.monotonic() - began, counts=counts)
