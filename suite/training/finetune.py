"""Fine-tuning of the whole network on labels, and its top-1 on the test split after the last epoch."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from methods.args import PhotometryArgs, RandomResizedCropArgs
from methods.backbone import Backbone, Classifier
from methods.views.batch import normalise, to_unit
from methods.views.geometry import resample
from methods.views.random_resized_crop import RandomResizedCrop
from suite.data.source import SplitSource
from suite.grid.jobs import FinetuneSpec
from suite.training.checkpoint import hand_over, load_weights, save_weights
from suite.training.optimizers import build_optimizer, set_lr
from suite.training.schedule import Batches, derived_seed, effective_lr, generator, lr_factor
from suite.training.session import Means, Session, check_finite

log = logging.getLogger(__name__)

_PLAIN = PhotometryArgs(brightness=0, contrast=0, saturation=0, hue=0, jitter_p=0, gray_p=0, blur_p=0)


def centre_crops(source: SplitSource, size: int, eval_resize: float) -> Tensor:
    """Every image's central square, uint8 [N, 3, size, size].

    The same picture as resizing the short side to size x eval_resize and cutting out the centre, in one resampling.
    """
    crops = []
    for index in range(len(source)):
        image = source.image(index)
        height, width = image.shape[1:]
        side = max(1, round(min(height, width) / eval_resize))
        left, top = (width - side) // 2, (height - side) // 2
        crops.append(resample(image, (left, top, left + side, top + side), (size, size), "bilinear"))
    return torch.stack(crops)


@torch.no_grad()
def correct(model: torch.nn.Module, images: Tensor, labels: Tensor, device: torch.device, batch: int = 128) -> int:
    """How many images [N, 3, S, S] uint8 the classifier gets right. Sets the model to evaluation mode."""
    model.eval()
    hits = 0
    for start in range(0, len(images), batch):
        inputs = normalise(to_unit(images[start : start + batch].to(device)))
        predicted = model(inputs.contiguous(memory_format=torch.channels_last)).argmax(dim=1)
        hits += int((predicted == labels[start : start + batch].to(device)).sum())
    return hits


def finetune(
    spec: FinetuneSpec, train: SplitSource, test: SplitSource, classes: int, init: Any, session: Session
) -> dict[str, Any]:
    """Train, measure once at the end, and leave `checkpoint/model.safetensors` (backbone.*, fc.*).

    The test split is read only after the last step: nothing is chosen on it.

    Returns:
        metrics (top1 in percent: 100 x correct / N; the last epoch's training means), suspicious, images, seconds.
    """
    fabric, args = session.fabric, spec.train
    torch.manual_seed(derived_seed(spec.seed, "init"))
    model = Classifier(Backbone(spec.backbone), classes)
    if init is not None:
        log.info("backbone from %s: %s", spec.init, hand_over(model.backbone, load_weights(init), str(spec.init)))
    model = model.to(memory_format=torch.channels_last)
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
        "%d images, %d classes, %d steps of %d, base lr %g, effective lr %g, warm-up %d steps",
        len(train), classes, batches.total, args.batch_size, args.optimizer.base_lr, lr, warmup,
    )  # fmt: skip

    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.train()
    means, start = Means(), 0
    if (state := session.resume()) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        session.restore_random_state(state)
        means.restore(state["means"])
        start = int(state["step"])

    began, line = time.monotonic(), {}
    for step in range(start, batches.total):
        indices = batches.indices(step)
        images = views(indices, generator(spec.seed, "finetune-views", step), fabric.device).images[0]
        labels = train.labels[indices].to(fabric.device)
        rate = lr * lr_factor(step, batches.total, warmup)
        set_lr(optimizer, rate)

        logits = wrapped(images)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        check_finite(loss, step, rate)
        optimizer.step()

        means.add({"loss": loss, "train_top1": 100 * (logits.argmax(dim=1) == labels).double().mean()})
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

    hits = correct(wrapped, centre_crops(test, spec.image_size, args.eval_resize), test.labels, fabric.device)
    top1 = 100 * hits / len(test)
    save_weights(session.folder / "checkpoint" / "model.safetensors", model)
    chance = 100 / classes
    suspicious = [f"top-1 {top1:.2f} is not above chance ({chance:.2f})"] if top1 <= chance else []
    return {
        "metrics": {"top1": top1, **{name: line[name] for name in ("loss", "train_top1") if name in line}},
        "suspicious": suspicious,
        "images": (batches.total - start) * args.batch_size,
        "seconds": seconds,
    }
