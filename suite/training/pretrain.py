"""Self-supervised pretraining: one straight loop over steps."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from methods.backbone import parameter_count
from methods.backbones.registry import build_backbone
from methods.distributed import all_reduce_mean, world_size
from methods.objective import Objective
from methods.registry import ALIGNMENT, OBJECTIVES, VIEWS
from methods.sync_batchnorm import convert_sync_batchnorm
from methods.views.base import ViewMaker
from methods.views.batch import ImageSource
from suite.kinds.pretrain import PretrainSpec
from suite.training.adaptive import training_steps
from suite.training.evaluation import held_out_subsets
from suite.training.feed import Feed, Loading
from suite.training.inputs import Inputs
from suite.training.loop import TrainingLoop
from suite.training.optimizers import build_optimizer, restore_optimizer, set_lr
from suite.training.outcome import Outcome
from suite.training.schedule import Batches, derived_seed, effective_lr, generator, lr_factor
from suite.training.session import Session
from suite.weights import load_backbone_state, load_weights, save_weights

log = logging.getLogger(__name__)


def build_objective(spec: PretrainSpec, train_images: int, init: Path | None = None) -> Objective:
    """Backbone, objective and, where the row has it, alignment, with random weights of the current torch seed.

    `init` is the weight file of the stage before. Its backbone is loaded before the objective is built around it, so
    that momentum copies start from it too; heads, queues and optimiser start afresh.
    """
    backbone = build_backbone(spec.backbone)
    if init is not None:
        log.info("backbone from %s: %s", spec.init, load_backbone_state(backbone, load_weights(init), str(spec.init)))
    parts: dict[str, Any] = {}
    if spec.alignment is not None:
        parts["alignment"] = spec.alignment.build(ALIGNMENT, backbone.dim)
    entry = OBJECTIVES[spec.objective.name]
    if entry.needs_train_size:
        parts["train_images"] = train_images
    return cast(Objective, spec.objective.build(entry, backbone, **parts))


def build_views(spec: PretrainSpec, source: ImageSource) -> ViewMaker:
    """The row's views over the training images."""
    return cast(ViewMaker, spec.views.build(VIEWS[spec.views.name], source, spec.image_size))


def feed_of(spec: PretrainSpec, source: ImageSource, device: torch.device, loading: Loading) -> Feed:
    """The views of every step on `device`."""
    random = partial(generator, spec.seed, "views")
    by_row = spec.views.code is None
    return Feed(build_views(spec, source), _batches(spec, source), random, device, loading, by_row=by_row)


def _batches(spec: PretrainSpec, source: ImageSource) -> Batches:
    train = spec.train
    return Batches(len(source), train.batch_size, train.epochs, derived_seed(spec.seed, "pretrain"), "pretrain")


def run(spec: PretrainSpec, inputs: Inputs, session: Session) -> Outcome:
    """Pretrain on the training images of the job's dataset; the entry that `suite.kinds.pretrain` names."""
    counts = {} if spec.saliency is None else {"saliency_fallbacks": inputs.fallbacks(spec.saliency)}
    whole = inputs.split("train", spec.saliency)
    if inputs.online is not None and spec.data.name in inputs.online.datasets:
        session.watch = inputs.online.watch(spec, whole, session)
    source = held_out_subsets(whole, spec.held_out, spec.seed)[0] if spec.held_out else whole
    outcome = pretrain(spec, source, inputs.backbone(spec.init), session)
    outcome.counts = {"n_train": len(source), **counts}
    return outcome


def pretrain(spec: PretrainSpec, source: ImageSource, init: Path | None, session: Session) -> Outcome:
    """Train, and leave `checkpoint/backbone.safetensors`.

    Args:
        spec: the job.
        source: training images, with saliency maps where the views need them.
        init: weights file of the stage before, or None.
        session: folder, device and reporting.

    Returns:
        The last epoch's means, and the images and seconds of this attempt.
    """
    fabric, train = session.fabric, spec.train
    torch.manual_seed(derived_seed(spec.seed, "init"))
    objective = build_objective(spec, len(source), init).to(fabric.device).to(memory_format=torch.channels_last)
    for part in objective.synchronised_parts():
        convert_sync_batchnorm(part)
    batches = _batches(spec, source)
    warmup = round(train.warmup_epochs * batches.per_epoch)
    lr = effective_lr(train.optimizer, train.batch_size)
    optimizer = build_optimizer(train.optimizer, objective, lr)
    log.info(
        "%d images, %d steps of %d on %d device(s), base lr %g, effective lr %g, warm-up %d steps, "
        "%.2f M trainable parameters",
        len(source), batches.total, train.batch_size, world_size(), train.optimizer.base_lr, lr, warmup,
        parameter_count(objective) / 1e6,
    )  # fmt: skip

    model, optimizer = fabric.setup(objective, optimizer)
    model.train()
    feed = feed_of(spec, source, fabric.device, session.loading)

    def state() -> dict[str, Any]:
        return {
            "objective": objective.state_dict(),
            "optimizer": optimizer.state_dict(),
            "views": feed.views.state(),
        }

    loop = TrainingLoop(session, batches, state)
    if (checkpoint := loop.resume()) is not None:
        objective.load_state_dict(checkpoint["objective"])
        restore_optimizer(optimizer, checkpoint["optimizer"])
        feed.views.load_state(checkpoint.get("views", {}))

    training = training_steps(feed, train.epochs, loop.start, objective.backbone, fabric.device, session.loading)
    with loop.timed(training) as steps:
        for step, batch in steps:
            rate = lr * lr_factor(step, batches.total, warmup)
            set_lr(optimizer, rate)

            objective.before_step(step / batches.per_epoch)
            scalars = model(batch)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(scalars["loss"])
            scalars = all_reduce_mean(scalars)
            loop.scalars.before_step(scalars, step, rate)
            optimizer.step()
            objective.after_step(step / batches.total)

            loop.scalars.after_step(scalars)
            loop.end_of_step(step, rate, partial(session.watch, objective.backbone))

    if session.leads:
        save_weights(session.folder / "checkpoint" / "backbone.safetensors", objective.backbone)
    line = loop.last_line
    suspicious = loop.scalars.doubts(line)
    if line and line.get("embedding_std", 1.0) < train.collapse_std:
        suspicious.append(f"pretraining collapsed: embedding_std {line['embedding_std']:.3f} < {train.collapse_std}")
    return Outcome(
        metrics={name: value for name, value in line.items() if name not in {"epoch", "step", "lr", "loss_scale"}},
        images=loop.images,
        seconds=loop.seconds,
        suspicious=suspicious,
    )
