"""Images/s of the suite's pretraining against a bare loop that does the same tensor math, in one run.

    python tests/benchmarks/bench_throughput.py [--size 64] [--steps 12] [--repeats 5] [--threads 2]

Two bare loops, both without Fabric, logging, checks, checkpoints or a store on disk:
  views     makes the same views from decoded tensors in memory, then steps
  no views  steps on one batch of views made beforehand: what a loop with free augmentation would reach
Repeats are interleaved and the median of the per-repeat ratios is printed, because these machines are noisy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from record import record

from methods.views.base import ViewMaker
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.kinds.pretrain import PretrainSpec
from suite.training.pretrain import build_objective, build_views, pretrain
from suite.training.schedule import generator
from suite.training.session import Session


class InMemory:
    """Decoded images and maps as tensors, the way CUB's photographs come: about 128 x 170 px."""

    def __init__(self, count: int = 256, height: int = 128, width: int = 170) -> None:
        rng = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(256, (count, height, width, 3), generator=rng, dtype=torch.uint8)
        self.maps = torch.randint(256, (count, 1, height, width), generator=rng, dtype=torch.uint8)
        self.box = (width // 5, height // 5, 4 * width // 5, 4 * height // 5)

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> torch.Tensor:
        return self.pixels[index].permute(2, 0, 1)

    def saliency(self, index: int) -> torch.Tensor:
        return self.maps[index]

    def salient_box(self, _: int) -> tuple[int, int, int, int]:
        return self.box


def spec_of(row: str, size: int, batch: int) -> PretrainSpec:
    """The `small` recipe's row at another size: ResNet-18 with the ImageNet stem."""
    changes = {
        "image_size": size,
        "backbone.arch": "resnet18",
        "backbone.width": 64,
        "backbone.stem": "imagenet",
        "pretrain.batch_size": batch,
    }
    selection = Selection(only=f"{row}/cub", overrides=changes)
    cell = cells(load_grid("paper_table1"), load_profile("small"), selection)[0]
    spec = jobs_of(cell, {"cub": "0" * 64}, {"u2netp": ("1", "0")}).jobs[0].spec
    assert isinstance(spec, PretrainSpec)
    return spec


def suite_speed(spec: PretrainSpec, source: InMemory, steps: int) -> float:
    """The product's own loop, from the first step to the last; building the network is left out by its own clock."""
    epochs = max(1, steps * spec.train.batch_size // len(source))
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"epochs": epochs})})
    with tempfile.TemporaryDirectory() as folder:
        fabric = Fabric(accelerator="cpu", devices=1)
        session = Session(Path(folder), fabric)
        outcome = pretrain(spec, source, None, session)
    return float(outcome.images / outcome.seconds)


def bare_speed(spec: PretrainSpec, source: InMemory, steps: int, make_views: bool) -> float:
    """The same network, loss, optimiser and moving average in the shortest loop one would write."""
    torch.manual_seed(0)
    objective = build_objective(spec, len(source)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], 0.1, 0.9, weight_decay=1e-4)
    views, cpu = build_views(spec, source), torch.device("cpu")
    batch = views(torch.arange(spec.train.batch_size), generator(0), cpu)
    steps = max(1, steps * spec.train.batch_size // len(source)) * (len(source) // spec.train.batch_size)
    began = time.monotonic()
    for step in range(steps):
        if make_views:
            batch = views(torch.randperm(len(source))[: spec.train.batch_size], generator(step), cpu)
        loss = objective.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        objective.after_step(step / steps)
    return steps * spec.train.batch_size / (time.monotonic() - began)


def view_speed(maker: ViewMaker, batch: int, repeats: int) -> float:
    """Views per second, geometry and colour, on the threads in use."""
    began = time.monotonic()
    for repeat in range(repeats):
        maker(torch.arange(batch), generator(repeat), torch.device("cpu"))
    return repeats * batch * 2 / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = InMemory()
    print(f"{options.size} px, batch {options.batch}, {options.threads} threads, torch {torch.__version__}")

    for row in ("byol", "byol_cvsa"):
        spec = spec_of(row, options.size, options.batch)
        ratios: dict[str, list[float]] = {"views": [], "no views": []}
        speeds = []
        for _ in range(options.repeats):
            bare = bare_speed(spec, source, options.steps, True)
            free = bare_speed(spec, source, options.steps, False)
            speeds.append(suite_speed(spec, source, options.steps))
            ratios["views"].append(speeds[-1] / bare)
            ratios["no views"].append(speeds[-1] / free)
        text = ", ".join(
            f"{statistics.median(values):.3f} of the bare loop ({name}; {min(values):.3f} to {max(values):.3f})"
            for name, values in ratios.items()
        )
        what = f"pretraining, {row}, {options.size} px, batch {options.batch}, {options.threads} threads"
        record(
            f"throughput {row}",
            what,
            f"{statistics.median(speeds):.1f} images/s, {text}",
            ("methods", "suite/training"),
        )
        print(f"{row}: {statistics.median(speeds):.1f} images/s, {text}")

    torch.set_num_threads(1)
    makers = {row: build_views(spec_of(row, options.size, options.batch), source) for row in ("byol", "byol_cvsa")}
    pairs = [
        (view_speed(makers["byol"], options.batch, 4), view_speed(makers["byol_cvsa"], options.batch, 4))
        for _ in range(2 * options.repeats + 1)
    ]
    plain, swapped = (statistics.median(speeds) for speeds in zip(*pairs, strict=True))
    cost = statistics.median(a / b for a, b in pairs)
    what = "cost of a Saliency Swap view over a random-resized-crop view, one core"
    record("views", what, f"{cost:.2f}", ("methods/views",))
    print(f"views per second and core: random_resized_crop {plain:.0f}, saliency_swap {swapped:.0f}: cost x {cost:.2f}")


if __name__ == "__main__":
    main()
