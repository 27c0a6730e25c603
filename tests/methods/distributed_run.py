"""Three steps of every objective, in one process or as one of several. Run by test_distributed.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from methods.alignment import SaliencyAlignment
from methods.args import (
    AlignmentArgs,
    Args,
    ByolArgs,
    InsLocArgs,
    LoocArgs,
    MocoV2Args,
    RelLocArgs,
    ResNetArgs,
    RotPredArgs,
    SimclrArgs,
    SimsiamArgs,
)
from methods.attention_guided_args import CastArgs, LcrArgs
from methods.backbones.registry import build_backbone
from methods.distributed import all_gather, rank, world_size
from methods.multi_crop_args import DinoArgs, SwavArgs
from methods.objective import Objective
from methods.redundancy_reduction_args import BarlowTwinsArgs, VicregArgs
from methods.registry import OBJECTIVES
from methods.sync_batchnorm import convert_sync_batchnorm
from methods.views.base import slice_views
from methods.views.batch import Views

BATCH, SIDE, STEPS = 8, 16, 3
KEYS = {"hidden_dim": 12, "projection_dim": 6, "temperature": 0.2, "momentum": 0.9, "queue_size": 11, "bn_splits": 4}
ARGS: dict[str, Args] = {
    "byol": ByolArgs(hidden_dim=12, projection_dim=6, tau_base=0.9),
    "simclr": SimclrArgs(hidden_dim=12, projection_dim=6, temperature=0.2),
    "simsiam": SimsiamArgs(projection_dim=12, hidden_dim=6),
    "moco_v2": MocoV2Args(**KEYS),
    "looc": LoocArgs(**KEYS, augmentations=2),
    "insloc": InsLocArgs(**KEYS, roi_side=3),
    "rot_pred": RotPredArgs(),
    "rel_loc": RelLocArgs(hidden_dim=12, dropout=0.5),
    "cast": CastArgs(**KEYS),
    "lcr": LcrArgs(**KEYS, detectors=5),
    "barlow_twins": BarlowTwinsArgs(width=12),
    "vicreg": VicregArgs(width=12),
    "dino": DinoArgs(
        hidden_dim=12, bottleneck_dim=6, outputs=9, head_bn=True, warmup_temperature_epochs=3, tau_base=0.9
    ),
    "swav": SwavArgs(hidden_dim=12, projection_dim=6, prototypes=9, queue_size=6, queue_start=0),
}
ALIGNED = tuple(f"{name} with alignment" for name in ("byol", "simclr", "moco_v2", "simsiam"))
CASES = (*ARGS, *ALIGNED)


def batch(name: str, step: int) -> Views:
    """A batch as the views of that objective lay it out, of noise."""
    rng = torch.Generator().manual_seed(1000 + step)

    def noise(rows: int, side: int = SIDE) -> Tensor:
        return torch.randn(rows, 3, side, side, generator=rng, dtype=torch.float64)

    match name:
        case "rot_pred":
            return Views([noise(4 * BATCH)], labels=torch.arange(4).repeat(BATCH))
        case "rel_loc":
            return Views([noise(8 * BATCH, 8), noise(BATCH, 8)], labels=torch.arange(8).repeat(BATCH))
        case "looc" | "dino" | "swav":
            return Views([noise(BATCH, side) for side in ((SIDE,) * 4 if name == "looc" else (SIDE, SIDE, 8, 8, 8))])
        case "insloc":
            corners = [torch.rand(BATCH, 2, generator=rng, dtype=torch.float64) * 6 for _ in range(2)]
            return Views([noise(BATCH), noise(BATCH)], boxes=[torch.cat([c, c + 8], dim=1) for c in corners])
        case _ if name in {"cast", *ALIGNED}:
            masks = [torch.rand(BATCH, 1, SIDE, SIDE, generator=rng, dtype=torch.float64) for _ in range(2)]
            return Views([noise(BATCH), noise(BATCH)], masks=masks)
    return Views([noise(BATCH), noise(BATCH)])


def build(name: str) -> Objective:
    entry = OBJECTIVES[name.split(maxsplit=1)[0]]
    backbone = build_backbone(ResNetArgs(arch="resnet10", width=8, stem="small"))
    parts: dict[str, Any] = {"train_images": 100} if entry.needs_train_size else {}
    if "alignment" in name:
        args = AlignmentArgs(hidden_dim=8, dim=6, similarity="cosine", scale=8.0, mask="soft", symmetric=True)
        parts["alignment"] = SaliencyAlignment(args, backbone.dim)
    return entry.load()(ARGS[name.split(maxsplit=1)[0]], backbone, **parts).double()  # type: ignore[no-any-return]


def run(name: str) -> dict[str, Any]:
    """Scalars, averaged over the processes, and gradients of each step, and all state at the end."""
    torch.manual_seed(0)
    objective = build(name).train()
    for part in objective.synchronised_parts():
        convert_sync_batchnorm(part)
    model = objective if world_size() == 1 else DistributedDataParallel(objective)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.05, momentum=0.9)
    # Masks of dropout need generators that agree; the order of keys is process 0's all the same.
    torch.manual_seed(1 if name == "rel_loc" else 1 + rank())
    scalars, gradients = [], []
    for step in range(STEPS):
        objective.before_step(step)
        found = model(slice_views(batch(name, step), rank(), world_size()))
        optimizer.zero_grad()
        found["loss"].backward()
        gradients.append({k: p.grad.clone() for k, p in objective.named_parameters() if p.grad is not None})
        optimizer.step()
        objective.after_step(step / STEPS)
        scalars.append({k: float(all_gather(v.detach()[None]).mean()) for k, v in found.items()})
    state = {key: tensor.clone() for key, tensor in objective.state_dict().items()}
    return {"scalars": scalars, "gradients": gradients, "state": state}


def _contiguous_only(collective: Callable[..., Any]) -> Callable[..., Any]:
    """The collective as NCCL has it, which refuses tensors that are not contiguous; gloo takes them."""

    def checked(*tensors: Any, **options: Any) -> Any:
        for part in tensors:
            for tensor in part if isinstance(part, list) else [part]:
                if isinstance(tensor, Tensor) and not tensor.is_contiguous():
                    raise ValueError(f"a tensor with strides {tensor.stride()} went into a collective")
        return collective(*tensors, **options)

    return checked


def main() -> None:
    place, number, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    for name in ("all_gather", "all_reduce", "broadcast"):
        setattr(distributed, name, _contiguous_only(getattr(distributed, name)))
    store = distributed.FileStore(str(place / "store"), processes)
    distributed.init_process_group("gloo", store=store, rank=number, world_size=processes)
    torch.save({name: run(name) for name in CASES}, place / f"{number}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
