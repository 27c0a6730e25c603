"""The networks that measurements look into, as earlier jobs left them."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from methods.backbone import Backbone, Classifier
from suite.grid.jobs import LocalisationSpec, ProbeSpec, TunedReader
from suite.training.checkpoint import hand_over, load_weights
from suite.training.schedule import derived_seed

log = logging.getLogger(__name__)


def frozen_backbone(spec: ProbeSpec | LocalisationSpec, init: Path | None, device: torch.device) -> Backbone:
    """The pretrained backbone, or the untrained one that fine-tuning would start from; in evaluation mode."""
    torch.manual_seed(derived_seed(spec.seed, "init"))
    backbone = Backbone(spec.backbone)
    if init is not None:
        log.info("backbone from %s: %s", spec.init, hand_over(backbone, load_weights(init), str(spec.init)))
    backbone.to(device).to(memory_format=torch.channels_last)
    backbone.eval()
    return backbone


def tuned_classifier(spec: TunedReader, weights: Path, classes: int, device: torch.device) -> Classifier:
    """The fine-tuned network, in evaluation mode."""
    model = Classifier(Backbone(spec.backbone), classes)
    log.info("classifier from %s: %s", spec.finetune, hand_over(model, load_weights(weights), spec.finetune))
    model.to(device).to(memory_format=torch.channels_last)
    model.eval()
    return model
