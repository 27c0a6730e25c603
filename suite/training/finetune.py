"""Fine-tuning of the whole network on labels, and its top-1 after the last epoch: on the test split, or on a held-out
part of the training split where a learning rate is to be chosen."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from methods.args import PhotometryArgs, RandomResizedCropArgs
from methods.backbone import Classifier
from methods.backbones.registry import build_backbone
from methods.distributed import all_reduce_mean, world_size
from methods.sync_batchnorm import convert_sync_batchnorm
from methods.views.batch import ImageSource
from methods.views.random_resized_crop import RandomResizedCrop
from suite.errors import TrainingError
from suite.kinds.finetune import FinetuneSpec
from suite.store.store import Store
from suite.training.evaluation import (
    centre_crops,
    forward_parts,
    measuring_precision,
    network_input,
    top1_accuracy,
)
from suite.training.feed import Feed, Loading
from suite.training.inputs import Inputs
from suite.training.loop import TrainingLoop
from suite.training.optimizers import build_optimizer, restore_optimizer, set_lr
from suite.training.outcome import Outcome
from suite.training.schedule import Batches, derived_seed, effective_lr, generator, lr_factor
from suite.training.session import Session
from suite.weights import load_backbone_state, load_weights, save_weights

log = logging.getLogger(__name__)


class Labelled(ImageSource, Protocol):
    """Images with labels: a split, or a part of it."""

    @property
    def labels(self) -> Tensor:
        """Class of every image, int64 [N]."""


@torch.no_grad()
def predict(model: torch.nn.Module, batches: Iterable[Tensor], device: torch.device) -> Tensor:
    """Classes int64 [N], on the CPU, of batches uint8 [B, 3, S, S]. Sets the model to evaluation mode.

    In float32, without autocast; in float64 where the weights are (precision 64-true).
    """
    model.eval()
    dtype = next(model.parameters()).dtype
    with measuring_precision():
        parts = (crops for batch in batches for crops in forward_parts(batch, device))
        classes = [model(network_input(crops, device).to(dtype)).argmax(dim=1) for crops in parts]
    return torch.cat(classes).cpu()


def run(spec: FinetuneSpec, inputs: Inputs, session: Session) -> Outcome:
    """Fine-tune from the job's weights; the entry that `suite.kinds.finetune` names.

    Where the spec names trials on held-out images, the learning rate of the best one is used.
    """
    if spec.choose_from:
        spec = with_best_lr(spec, inputs.store)
    train, test, counts = inputs.train_and_test(spec.held_out, spec.train.label_fraction)
    outcome = finetune(spec, train, test, inputs.classes, inputs.backbone(spec.init), session)
    outcome.counts = counts
    if spec.choose_from and session.leads:
        outcome.metrics["base_lr"] = spec.train.optimizer.base_lr
    return outcome


def with_best_lr(spec: FinetuneSpec, store: Store) -> FinetuneSpec:
    """The spec with the learning rate that was best on the held-out images; of equally good rates, the lowest.

    Raises:
        TrainingError: a trial is not finished.
    """
    scores = []
    for key in spec.choose_from:
        trial, result = store.spec(key), store.result(key)
        if not isinstance(trial, FinetuneSpec) or result is None:
            raise TrainingError(f"job {key} should have tried a learning rate, but is not finished.")
        scores.append((-result.metrics["held_out_top1"], trial.train.optimizer.base_lr))
    worst_first = ", ".join(f"{rate:g}: {-score:.2f}" for score, rate in sorted(scores, reverse=True))
    best = min(scores)[1]
    log.info("top-1 on held-out images by base learning rate: %s; chosen %g", worst_first, best)
    if best in {min(rate for _, rate in scores), max(rate for _, rate in scores)}:
        log.warning("the chosen learning rate is the lowest or highest candidate; try lower or higher ones")
    optimizer = spec.train.optimizer.model_copy(update={"base_lr": best})
    return spec.model_copy(update={"train": spec.train.model_copy(update={"optimizer": optimizer})})


def finetune(
    spec: FinetuneSpec,
    train: Labelled,
    test: Labelled,
    classes: int,
    init: Path | None,
    session: Session,
) -> Outcome:
    """Train, measure once at the end, and leave `checkpoint/model.safetensors` (backbone.*, fc.*).

    `test` is read only after the last step: nothing is chosen on it. With `spec.held_out` both sources are parts of
    the training split, the metric is held_out_top1, and no model is left.

    Returns:
        top1 in percent (100 x correct / N) and the last epoch's training means.
    """
    fabric, args = session.fabric, spec.train
    model = _classifier(spec, classes, init, fabric.device)
    batches = _batches(spec, train)
    warmup = round(args.warmup_epochs * batches.per_epoch)
    lr = effective_lr(args.optimizer, args.batch_size)
    optimizer = build_optimizer(args.optimizer, model, lr)
    log.info(
        "%d images, %d classes, %d steps of %d on %d device(s), base lr %g, effective lr %g, warm-up %d steps",
        len(train), classes, batches.total, args.batch_size, world_size(), args.optimizer.base_lr, lr, warmup,
    )  # fmt: skip

    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.train()
    loop = TrainingLoop(session, batches, lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    if (checkpoint := loop.resume()) is not None:
        model.load_state_dict(checkpoint["model"])
        restore_optimizer(optimizer, checkpoint["optimizer"])

    feed = feed_of(spec, train, fabric.device, session.loading)
    with loop.timed(feed.steps(loop.start)) as steps:
        for step, batch in steps:
            rate = lr * lr_factor(step, batches.total, warmup)
            set_lr(optimizer, rate)

            logits, labels = wrapped(batch.images[0]), cast(Tensor, batch.labels)
            loss = cross_entropy(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss)
            scalars = all_reduce_mean(
                {"loss": loss, "train_top1": 100 * (logits.argmax(dim=1) == labels).double().mean()}
            )
            loop.scalars.before_step(scalars, step, rate)
            optimizer.step()

            loop.scalars.after_step(scalars)
            loop.end_of_step(step, rate)
    if not session.leads:
        return Outcome({}, 0, loop.seconds)  # rank 0 measures alone

    with loop.measuring():
        top1 = _top1(model, test, spec, session)
    if not spec.held_out:
        save_weights(session.folder / "checkpoint" / "model.safetensors", model)
    return Outcome(
        metrics={
            "held_out_top1" if spec.held_out else "top1": top1,
            **{key: loop.last_line[key] for key in ("loss", "train_top1") if key in loop.last_line},
        },
        images=loop.images,
        seconds=loop.seconds,
        suspicious=[*loop.scalars.doubts(loop.last_line), *_not_above_chance(top1, classes)],
    )


def feed_of(spec: FinetuneSpec, train: Labelled, device: torch.device, loading: Loading) -> Feed:
    """The views of every step on `device`, with their labels."""
    views = crops_and_flips(train, spec.train.crop_scale, spec.image_size)
    random = partial(generator, spec.seed, "finetune-views")
    return Feed(views, _batches(spec, train), random, device, loading, labels=train.labels)


def crops_and_flips(train: ImageSource, scale: float, side: int) -> RandomResizedCrop:
    """One view per image: a random crop of at least `scale` of its area at side x side px, half of them flipped."""
    unchanged = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)
    args = RandomResizedCropArgs(scale=scale, photometry=(unchanged,), interpolation="bilinear")
    return RandomResizedCrop(args, train, side)


def _batches(spec: FinetuneSpec, train: Labelled) -> Batches:
    args = spec.train
    return Batches(len(train), args.batch_size, args.epochs, derived_seed(spec.seed, "finetune"), "finetune")


def _classifier(spec: FinetuneSpec, classes: int, init: Path | None, device: torch.device) -> Classifier:
    """The network before the first step: the pretrained backbone, or a random one, and a random classifier."""
    torch.manual_seed(derived_seed(spec.seed, "init"))
    model = Classifier(build_backbone(spec.backbone), classes)
    if init is not None:
        log.info(
            "backbone from %s: %s", spec.init, load_backbone_state(model.backbone, load_weights(init), str(spec.init))
        )
    return convert_sync_batchnorm(model.to(device).to(memory_format=torch.channels_last))


def _not_above_chance(top1: float, classes: int) -> list[str]:
    chance = 100 / classes
    return [f"top-1 {top1:.2f} is not above chance ({chance:.2f})"] if top1 <= chance else []


def _top1(model: Classifier, source: Labelled, spec: FinetuneSpec, session: Session) -> float:
    """Top-1 on central crops, percent. Raises `Interrupted`."""
    crops = centre_crops(source, spec.image_size, spec.train.eval_resize, session.loading, session.raise_if_stopped)
    with closing(crops):
        return top1_accuracy(predict(model, crops, session.fabric.device), source.labels)
