"""A linear classifier trained by SGD on the pooled features of a frozen backbone, as MoCo and LCR measure it.

Each step passes a random resized crop (and flip) of every image of its batch through the frozen backbone, which stays
in evaluation mode; the classifier starts from a normal distribution of deviation 0.01 with zero bias (MoCo's
main_lincls.py). The rate is constant between milestones. Measured once, after the last epoch, on central crops.

Our other linear protocol, `linear` of `suite.training.probe`, has no rate to choose and no random crops: it solves a
logistic regression on central crops to the end, with the penalty chosen on held-out training images.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from methods.backbone import Backbone
from suite.kinds.linear_sgd import LinearSgdArgs, LinearSgdSpec
from suite.training.evaluation import centre_crops, measuring_precision, top1_accuracy
from suite.training.feed import Feed
from suite.training.finetune import Labelled, crops_and_flips, predict
from suite.training.inputs import Inputs
from suite.training.loop import TrainingLoop
from suite.training.networks import frozen_backbone
from suite.training.optimizers import set_lr
from suite.training.outcome import Outcome
from suite.training.schedule import Batches, derived_seed, generator
from suite.training.session import Session


def run(spec: LinearSgdSpec, inputs: Inputs, session: Session) -> Outcome:
    """Train and measure the classifier; the entry that `suite.kinds.linear_sgd` names."""
    train, test, counts = inputs.train_and_test(0)
    outcome = linear_sgd(spec, train, test, inputs.classes, inputs.backbone(spec.init), session)
    outcome.counts = counts
    return outcome


def learning_rate(args: LinearSgdArgs, epoch: int) -> float:
    """The rate during `epoch`, counted from 0."""
    return args.lr * args.factor ** sum(milestone <= epoch for milestone in args.milestones)


def linear_sgd(
    spec: LinearSgdSpec, train: Labelled, test: Labelled, classes: int, init: Path | None, session: Session
) -> Outcome:
    """Train the classifier and measure it once. `test` is read only after the last step; no weights are left.

    Returns:
        top1 in percent (100 x correct / N), and loss and train_top1 of the last epoch.

    Raises:
        TrainingError: a loss that is not finite.
        Interrupted: asked to stop; the state is saved.
    """
    args, device = spec.linear_sgd, session.fabric.device
    backbone = frozen_backbone(spec, init, device)
    classifier = _classifier(backbone.dim, classes, spec.seed).to(device)
    optimizer = torch.optim.SGD(
        classifier.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
    )
    batches = Batches(len(train), args.batch_size, args.epochs, derived_seed(spec.seed, "linear-sgd"), "linear_sgd")
    loop = TrainingLoop(
        session, batches, lambda: {"classifier": classifier.state_dict(), "optimizer": optimizer.state_dict()}
    )
    if (checkpoint := loop.resume()) is not None:
        classifier.load_state_dict(checkpoint["classifier"])
        optimizer.load_state_dict(checkpoint["optimizer"])

    feed = _feed(spec, train, batches, session)
    with loop.timed(feed.steps(loop.start)) as steps, measuring_precision():
        for step, batch in steps:
            rate = learning_rate(args, step // batches.per_epoch)
            set_lr(optimizer, rate)
            labels = cast(Tensor, batch.labels)
            with torch.no_grad():
                pooled = backbone.pooled(batch.images[0])
            logits = classifier(pooled)
            loss = cross_entropy(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            scalars = {"loss": loss, "train_top1": 100 * (logits.argmax(dim=1) == labels).double().mean()}
            loop.scalars.before_step(scalars, step, rate)
            optimizer.step()
            loop.scalars.after_step(scalars)
            loop.end_of_step(step, rate)
    with loop.measuring():
        top1 = _top1(nn.Sequential(_Pooled(backbone), classifier), test, spec, session)
    last = loop.last_line
    return Outcome(
        {"top1": top1, "loss": last["loss"], "train_top1": last["train_top1"]},
        images=loop.images,
        seconds=loop.seconds,
    )


class _Pooled(nn.Module):
    """The pooled features of a backbone as a module."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """float32 [B, 3, S, S] -> [B, dim]."""
        return self.backbone.pooled(images)


def _classifier(dim: int, classes: int, seed: int) -> nn.Linear:
    """Weights from a normal distribution of deviation 0.01, zero bias."""
    classifier = nn.Linear(dim, classes)
    rng = generator(seed, "linear-sgd-init")
    with torch.no_grad():
        classifier.weight.copy_(0.01 * torch.randn(classifier.weight.shape, generator=rng))
        classifier.bias.zero_()
    return classifier


def _feed(spec: LinearSgdSpec, train: Labelled, batches: Batches, session: Session) -> Feed:
    """Random resized crops, flipped half of the time, with their labels."""
    views = crops_and_flips(train, spec.linear_sgd.crop_scale, spec.image_size)
    random = partial(generator, spec.seed, "linear-sgd-views")
    return Feed(views, batches, random, session.fabric.device, session.loading, labels=train.labels)


def _top1(model: nn.Module, test: Labelled, spec: LinearSgdSpec, session: Session) -> float:
    """Top-1 on central crops, percent. Raises `Interrupted`."""
    resize = spec.linear_sgd.eval_resize
    with closing(centre_crops(test, spec.image_size, resize, session.loading, session.raise_if_stopped)) as crops:
        return top1_accuracy(predict(model, crops, session.fabric.device), test.labels)
