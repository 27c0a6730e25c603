"""Images/s of every objective's views, geometry alone (uint8 crops, before the colour changes), on one core.

    python tests/benchmarks/bench_feed.py [--batch 64] [--seconds 2] [--repeats 3] [--rows byol byol_cvsa]

Images of random pixels, 500 x 375 px, become views of 224 px with the recipes of the profile `paper`. A rate counts
images: all views of an image together are one. The best of the repeats is printed, because these machines are noisy,
and its ratio to the goal.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from methods.views.base import ViewMaker
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.kinds.pretrain import PretrainSpec
from suite.training.pretrain import build_views
from suite.training.schedule import generator

GOALS = {
    "byol": 500, "byol_cvsa": 400, "moco_v2": 500, "byol_dilo": 400, "insloc": 350, "looc": 250, "rot_pred": 650,
    "rel_loc": 530,
}  # fmt: skip


class RandomImages:
    """Images of random pixels in memory, stored as rows of RGB pixels, with smooth-edged elliptic saliency maps."""

    def __init__(self, count: int = 128, height: int = 375, width: int = 500) -> None:
        rng = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(256, (count, height, width, 3), generator=rng, dtype=torch.uint8)
        y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
        self.map = (255 * torch.sigmoid(20 * (0.4 - x**2 - y**2))).to(torch.uint8)[None]
        self.box = (width // 5, height // 5, 4 * width // 5, 4 * height // 5)

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        return self.pixels[index].permute(2, 0, 1)

    def saliency(self, _: int) -> Tensor:
        """uint8 [1, H, W], the same for all images."""
        return self.map

    def salient_box(self, _: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive): the middle 60 % of both sides."""
        return self.box


def views_of(row: str, source: RandomImages) -> ViewMaker:
    """The views of a row of the paper's table 1, with its recipe."""
    cell = cells(load_grid("paper_table1"), load_profile("paper"), Selection(only=f"{row}/cub"))[0]
    spec = jobs_of(cell, {"cub": "0" * 64}, {"u2netp": ("1", "0")}).jobs[0].spec
    assert isinstance(spec, PretrainSpec)
    return build_views(spec, source)


def geometry_rate(maker: ViewMaker, batch: int, seconds: float) -> float:
    """Images per second of `crops`, the threads being those that torch was given."""
    maker.crops(torch.arange(batch), generator(0))
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        maker.crops((torch.arange(batch) + images) % len(maker.source), generator(images))
        images += batch
    return images / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="per row and repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", nargs="+", default=list(GOALS), choices=list(GOALS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = RandomImages()
    print(f"geometry alone, 500 x 375 px -> 224 px, batch {options.batch}, one thread, torch {torch.__version__}")
    print(f"{'row':12}{'images/s':>10}{'goal':>7}{'ratio':>8}")
    for row in options.rows:
        maker = views_of(row, source)
        rate = max(geometry_rate(maker, options.batch, options.seconds) for _ in range(options.repeats))
        print(f"{row:12}{rate:10.0f}{GOALS[row]:7d}{rate / GOALS[row]:8.2f}", flush=True)


if __name__ == "__main__":
    main()
