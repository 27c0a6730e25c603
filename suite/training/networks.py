"""The networks that measurements look into, as earlier jobs left them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

import torch

from methods.args import BackboneArgs
from methods.backbone import Backbone, Classifier
from methods.backbones.registry import build_backbone
from suite.training.schedule import derived_seed
from suite.weights import load_backbone_state, load_weights

log = logging.getLogger(__name__)


class ReadsBackbone(Protocol):
    """A spec of a job that looks into the pretrained backbone."""

    @property
    def backbone(self) -> BackboneArgs:
        """The network."""

    @property
    def seed(self) -> int:
        """Seed of the random initialisation."""

    @property
    def init(self) -> str | None:
        """Key of the job that left the weights; None: random initialisation."""


class ReadsClassifier(Protocol):
    """A spec of a job that looks into a fine-tuned network."""

    @property
    def backbone(self) -> BackboneArgs:
        """The network below the classifier."""


def frozen_backbone(spec: ReadsBackbone, init: Path | None, device: torch.device) -> Backbone:
    """The pretrained backbone, or the untrained one that fine-tuning would start from; in evaluation mode."""
    torch.manual_seed(derived_seed(spec.seed, "init"))
    backbone = build_backbone(spec.backbone)
    if init is not None:
        log.info("backbone from %s: %s", spec.init, load_backbone_state(backbone, load_weights(init), str(spec.init)))
    backbone.to(device).to(memory_format=torch.channels_last)
    backbone.eval()
    return backbone


def tuned_classifier(spec: ReadsClassifier, key: str, weights: Path, classes: int, device: torch.device) -> Classifier:
    """The fine-tuned network that job `key` left, in evaluation mode."""
    model = Classifier(build_backbone(spec.backbone), classes)
    log.info("classifier from %s: %s", key, load_backbone_state(model, load_weights(weights), key))
    model.to(device).to(memory_format=torch.channels_last)
    model.eval()
    return model
