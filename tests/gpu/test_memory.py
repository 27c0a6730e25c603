"""Peak memory of a training step at the paper's scale: ResNet-50, 224 px, mixed precision, the recipe's batch."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric

from suite.training.optimizers import build_optimizer
from suite.training.schedule import effective_lr

from .cases import batch_of, moved, objective_of, spec_of

# GB, estimated from saved activations of 43.75 MB per image with gradient; 512 rotated images for Rot-Pred.
TABLE = {
    "byol": 26.5, "byol_cvsa": 28.5, "simclr": 26.0, "rot_pred": 23.0, "moco_v2": 13.5, "insloc": 13.5, "looc": 15.0,
    "rel_loc": 10.5,
}  # fmt: skip


@pytest.mark.parametrize("row", TABLE)
def test_peak_memory(row: str, cuda: torch.device) -> None:
    total = torch.cuda.get_device_properties(cuda).total_memory / 1e9
    if total < 1.15 * TABLE[row] + 1:
        pytest.skip(f"needs about {TABLE[row]:.0f} GB; the card has {total:.0f} GB")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train = spec_of(row, small=False).train
    fabric = Fabric(accelerator="cuda", devices=1, precision="16-mixed")
    objective = objective_of(row, cuda, small=False)
    optimizer = build_optimizer(train.optimizer, objective, effective_lr(train.optimizer, train.batch_size))
    model, optimizer = fabric.setup(objective, optimizer)
    batch = moved(batch_of(row, train.batch_size, side=224), cuda)
    for _ in range(2):
        scalars = model(batch)
        optimizer.zero_grad()
        fabric.backward(scalars["loss"])
        optimizer.step()
    peak = torch.cuda.max_memory_allocated() / 1e9
    print(f"{row}: {peak:.1f} GB")
    assert peak == pytest.approx(TABLE[row], rel=0.15)
