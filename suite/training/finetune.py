"""Fine-tuning of the whole network on labels, and its top-1 after the last epoch: on the test split, or on a held-out
part of the training split where a learning rate is to be chosen."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from methods.args import PhotometryArgs, RandomResizedCropArgs
from methods.backbone import Classifier
from methods.backbones.registry import build_backbone
from methods.distributed import all_reduce_mean, shard, world_size
from methods.sync_batchnorm import convert_sync_batchnorm
from methods.views.batch import normalise, to_unit
from methods.views.random_resized_crop import RandomResizedCrop
from suite.data.decoded.split import Part, SplitSource
from suite.errors import TrainingError
from suite.kinds.finetune import FinetuneSpec
from suite.store.store import Store
from suite.training.evaluation import centre_crops, percent
from suite.training.inputs import Inputs
from suite.training.optimizers import build_optimizer, set_lr
from suite.training.outcome import Outcome
from suite.training.schedule import Batches, derived_seed, effective_lr, generator, lr_factor
from suite.training.session import Means, Session, check_finite
from suite.weights import load_backbone_state, load_weights, save_weights

log = logging.getLogger(__name__)

_PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)


@torch.no_grad()
def predict(model: torch.nn.Module, images: Tensor, device: torch.device, batch: int = 128) -> Tensor:
    """Classes int64 [N], on the CPU, of images uint8 [N, 3, S, S]. Sets the model to evaluation mode."""
    model.eval()
    classes = []
    for start in range(0, len(images), batch):
        inputs = normalise(to_unit(images[start : start + batch].to(device)))
        classes.append(model(inputs.contiguous(memory_format=torch.channels_last)).argmax(dim=1).cpu())
    return torch.cat(classes)


def run(spec: FinetuneSpec, inputs: Inputs, session: Session) -> Outcome:
    """Fine-tune from the job's weights; the entry that `suite.kinds.finetune` names.

    Where the spec names trials on held-out images, the learning rate of the best one is used.
    """
    if spec.choose_from:
        spec = with_best_lr(spec, inputs.store)
    train, test, counts = inputs.train_and_test(spec.held_out)
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
        log.warning("the chosen learning rate is the lowest or highest candidate; others beyond it may be better")
    optimizer = spec.train.optimizer.model_copy(update={"base_lr": best})
    return spec.model_copy(update={"train": spec.train.model_copy(update={"optimizer": optimizer})})


def finetune(
    spec: FinetuneSpec, train: SplitSource | Part, test: SplitSource | Part, classes: int, init: Any, session: Session
) -> Outcome:
    """Train, measure once at the end, and leave `checkpoint/model.safetensors` (backbone.*, fc.*).

    `test` is read only after the last step: nothing is chosen on it. With `spec.held_out` both sources are parts of
    the training split, the metric is held_out_top1, and no model is left.

    Returns:
        top1 in percent (100 x correct / N) and the last epoch's training means.
    """
    fabric, args = session.fabric, spec.train
    torch.manual_seed(derived_seed(spec.seed, "init"))
    model = Classifier(build_backbone(spec.backbone), classes)
    if init is not None:
        log.info(
            "backbone from %s: %s", spec.init, load_backbone_state(model.backbone, load_weights(init), str(spec.init))
        )
    model = convert_sync_batchnorm(model.to(fabric.device).to(memory_format=torch.channels_last))
    batches = Batches(len(train), args.batch_size, args.epochs, derived_seed(spec.seed, "finetune"))
    warmup = round(args.warmup_epochs * batches.per_epoch)
    lr = effective_lr(args.optimizer, args.batch_size)
    optimizer = build_optimizer(args.optimizer, model, lr)
    views = RandomResizedCrop(
        RandomResizedCropArgs(scale=args.crop_scale, photometry=(_PLAIN,), interpolation="bilinear"),
        train,
        spec.image_size,
    )
    log.info(
        "%d images, %d classes, %d steps of %d on %d device(s), base lr %g, effective lr %g, warm-up %d steps",
        len(train), classes, batches.total, args.batch_size, world_size(), args.optimizer.base_lr, lr, warmup,
    )  # fmt: skip

    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.train()
    means, start = Means(), 0
    if (state := session.resume()) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        session.restore(state)
        means.restore(state["means"])
        start = int(state["step"])

    began, line = time.monotonic(), {}
    for step in range(start, batches.total):
        indices = batches.indices(step)
        images = views.mine(indices, generator(spec.seed, "finetune-views", step), fabric.device).images[0]
        labels = shard(train.labels[indices]).to(fabric.device)
        rate = lr * lr_factor(step, batches.total, warmup)
        set_lr(optimizer, rate)

        logits = wrapped(images)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        scalars = all_reduce_mean({"loss": loss, "train_top1": 100 * (logits.argmax(dim=1) == labels).double().mean()})
        check_finite(scalars["loss"], step, rate)
        optimizer.step()

        means.add(scalars)
        done = step + 1
        if done % batches.per_epoch == 0:
            line = {"epoch": done // batches.per_epoch, "step": done, "lr": rate, **means.take()}
            speed = (done - start) * args.batch_size / (time.monotonic() - began)
            session.write_metrics({**line, "images_per_second": speed})
        if done < batches.total:
            session.checkpoint_if_asked(
                lambda done=done: {  # type: ignore[misc]
                    "step": done,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "means": means.state(),
                }
            )
    seconds = time.monotonic() - began
    if not session.leads:
        return Outcome({}, 0, seconds)  # rank 0 measures alone

    top1 = percent(predict(wrapped, centre_crops(test, spec.image_size, args.eval_resize), fabric.device), test.labels)
    if not spec.held_out:
        save_weights(session.folder / "checkpoint" / "model.safetensors", model)
    chance = 100 / classes
    suspicious = [f"top-1 {top1:.2f} is not above chance ({chance:.2f})"] if top1 <= chance else []
    return Outcome(
        metrics={
            "held_out_top1" if spec.held_out else "top1": top1,
            **{key: line[key] for key in ("loss", "train_top1") if key in line},
        },
        images=(batches.total - start) * args.batch_size,
        seconds=seconds,
        suspicious=suspicious,
    )
