"""Objectives as a profile sets them up, and batches of noise as their views lay them out."""

from __future__ import annotations

from functools import cache

import torch
from torch import Generator, Tensor

from methods.objective import Objective
from methods.views.batch import Views
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.kinds.pretrain import PretrainSpec
from suite.training.pretrain import build_objective

ROWS = (
    "byol", "byol_cvsa", "simclr", "moco_v2", "looc", "insloc", "rot_pred", "rel_loc", "cast", "lcr", "barlow_twins",
    "vicreg", "dino", "swav",
)  # fmt: skip
SMALL = {"backbone.arch": "resnet18", "backbone.width": 64, "backbone.stem": "imagenet", "image_size": 64}
# Of projectors and outputs, with a small network: the papers have 8192 and 65536.
WIDTHS = {
    "barlow_twins": {"objective.width": 512},
    "vicreg": {"objective.width": 512},
    "dino": {"objective.outputs": 1024},
    "swav": {"objective.prototypes": 256, "objective.queue_size": 64, "objective.queue_start": 0},
}
DETECTORS = dict.fromkeys(("u2netp", "masks", "boxes", "spectral"), ("1", None))
TRAIN_IMAGES = 5994  # CUB's


def grid_of(row: str) -> str:
    """The grid that has the row."""
    return "paper_table1" if row in {other.method for other in load_grid("paper_table1").rows} else "beyond"


@cache
def spec_of(row: str, small: bool = True) -> PretrainSpec:
    """The pretraining job of a row in the paper's recipe; with a ResNet-18 at 64 px if `small`."""
    overrides = SMALL | WIDTHS.get(row, {}) if small else {}
    selection = Selection(methods=(row,), datasets=("cub",), seeds=(0,), overrides=overrides)
    (cell,) = cells(load_grid(grid_of(row)), load_profile("paper"), selection)
    prints = dict.fromkeys(("cub", "coco", "imagenet"), "f" * 64)
    (spec,) = (job.spec for job in jobs_of(cell, prints, DETECTORS).stages)
    assert isinstance(spec, PretrainSpec)
    return spec


def objective_of(row: str, device: torch.device, small: bool = True) -> Objective:
    """The objective on `device`, in training mode, with weights of seed 0 whatever the device."""
    torch.manual_seed(0)
    objective = build_objective(spec_of(row, small), TRAIN_IMAGES)
    objective.before_step(1)  # DINO's last layer is frozen in the first epoch
    return objective.to(device).to(memory_format=torch.channels_last).train()


def batch_of(row: str, images: int, seed: int = 0, side: int = 64) -> Views:
    """A batch of `images` images, on the CPU."""
    rng = Generator().manual_seed(seed)

    def noise(rows: int, size: int = side) -> Tensor:
        return torch.randn(rows, 3, size, size, generator=rng).contiguous(memory_format=torch.channels_last)

    match row:
        case "rot_pred":
            return Views([noise(4 * images)], labels=torch.arange(4).repeat(images))
        case "rel_loc":
            patch = int(spec_of(row).views.args.model_dump()["patch_side"])
            patches = [noise(8 * images, patch), noise(images, patch)]
            return Views(patches, labels=torch.arange(8).repeat(images))
        case "looc" | "dino" | "swav":
            return Views([noise(images, side if row == "looc" or view < 2 else side // 2) for view in range(4)])
        case "insloc":
            corners = [side / 4 * torch.rand(images, 2, generator=rng) for _ in range(2)]
            boxes = [torch.cat([c, c + side / 4 + side / 2 * torch.rand(images, 2, generator=rng)], 1) for c in corners]
            return Views([noise(images), noise(images)], boxes=boxes)
        case "byol_cvsa" | "cast":
            masks = [torch.rand(images, 1, side, side, generator=rng) for _ in range(2)]
            return Views([noise(images), noise(images)], masks=masks)
    return Views([noise(images), noise(images)])


def moved(views: Views, device: torch.device) -> Views:
    """The batch on `device`."""

    def move(tensors: list[Tensor] | None) -> list[Tensor] | None:
        return None if tensors is None else [tensor.to(device) for tensor in tensors]

    return Views(
        [tensor.to(device) for tensor in views.images],
        move(views.masks),
        None if views.boxes is None else [box.to(device) for box in views.boxes],
        None if views.labels is None else views.labels.to(device),
    )
