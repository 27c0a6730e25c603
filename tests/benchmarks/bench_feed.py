"""Images/s of every objective's views, and how well background loaders hide them behind the device.

    python tests/benchmarks/bench_feed.py [--batch 64] [--seconds 2] [--repeats 3] [--rows byol byol_cvsa] [--part 2]

Images of random pixels, 500 x 375 px, become views of 224 px with the recipes of the profile `paper`: the geometry
(uint8 crops), the part that background loaders have beside a GPU. A rate counts images: all views of an image together
are one. The best of the repeats is printed, because these machines are noisy.

Part 1: images/s on one core, and the ratio to the goal.
Part 2: a device stood in for by a step that sleeps as long as a batch of views takes with that many loaders.
Wall clock divided by the longer of the two; without loaders it would be the sum, 2. Goal: at most 1.15. Also the most
batches that were in memory at a time.
Part 3: the same loop with worker processes of torch's DataLoader in place of the threads, each handing over whole
batches: seconds to the first batch, and the rate of images without a step.
Part 4: a thread that launches small operations, as the training thread beside a GPU does, with one loader beside it:
its rate as a share of its rate alone. The rest of the time it waits for the interpreter's lock. Needs two cores.
Part 5: microseconds per image during which a loader holds the interpreter's lock, sampled by py-spy (`pip install
py-spy`; not among the requirements). Times images/s: the share of the time in which no other thread can hold it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from record import record
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from methods.views.base import ViewMaker
from methods.views.resampling import reused
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.kinds.pretrain import PretrainSpec
from suite.training.feed import Ahead, Loading
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
    parser.add_argument("--part", type=int, nargs="+", default=[1, 2, 3, 4], choices=[1, 2, 3, 4, 5])
    parser.add_argument("--record", action="store_true", help="write the results to docs/benchmarks.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if 1 in options.part:
        rates(options)
    if 2 in options.part:
        overlaps(options)
    if 3 in options.part:
        processes(options)
    if 4 in options.part:
        launches(options)
    if 5 in options.part:
        locked(options)


def rates(options: argparse.Namespace) -> None:
    """Part 1."""
    source = RandomImages()
    print(f"geometry alone, 500 x 375 px -> 224 px, batch {options.batch}, one thread, torch {torch.__version__}")
    print(f"{'row':12}{'images/s':>10}{'goal':>7}{'ratio':>8}")
    results = {}
    for row in options.rows:
        maker = views_of(row, source)
        results[row] = max(geometry_rate(maker, options.batch, options.seconds) for _ in range(options.repeats))
        print(f"{row:12}{results[row]:10.0f}{GOALS[row]:7d}{results[row] / GOALS[row]:8.2f}", flush=True)
    if options.record:
        text = ", ".join(f"{row} {rate:.0f}" for row, rate in results.items())
        what = f"views of 224 px (geometry, batch {options.batch}), images/s on one core"
        record("feed views", what, text, ("methods/views",))


def overlaps(options: argparse.Namespace) -> None:
    """Part 2."""
    source = RandomImages()
    print(f"wall clock / the longer of views and a step that sleeps as long, batch {options.batch}")
    print(f"{'row':12}{'0 loaders':>10}{'1 loader':>10}{'2 loaders':>10}{'peak batches':>14}")
    results: dict[str, list[float]] = {}
    for row in options.rows:
        maker = views_of(row, source)
        pairs = [overlap(maker, options.batch, options.seconds, loaders, options.repeats) for loaders in (0, 1, 2)]
        results[row] = [ratio for ratio, _ in pairs]
        peaks = "/".join(str(peak) for _, peak in pairs)
        print(f"{row:12}" + "".join(f"{ratio:10.2f}" for ratio in results[row]) + f"{peaks:>14}", flush=True)
    if options.record:
        text = "; ".join(f"{row} {two[0]:.2f}, {two[1]:.2f}, {two[2]:.2f}" for row, two in results.items())
        what = "step that sleeps as long as its views take: wall clock / the longer, with 0, 1, 2 loaders"
        record("feed overlap", what, text, ("methods/views", "suite/training/feed.py"))


def launches(options: argparse.Namespace) -> None:
    """Part 4."""
    source = RandomImages()
    print(f"launches per second beside one loader, batch {options.batch}, as a share of those alone")
    results = {}
    for row in options.rows:
        maker, stop = views_of(row, source), threading.Event()
        steps = Steps(maker, options.batch, 1_000_000)

        def load(steps: Steps = steps, stop: threading.Event = stop) -> None:
            for step in range(len(steps)):
                if stop.is_set():
                    return
                steps[step]

        alone = max(launch_rate(options.seconds) for _ in range(options.repeats))
        loader = threading.Thread(target=load)
        loader.start()
        beside = max(launch_rate(options.seconds) for _ in range(options.repeats))
        stop.set()
        loader.join()
        results[row] = beside / alone
        print(f"{row:12}{results[row]:10.2f}", flush=True)
    if options.record:
        text = ", ".join(f"{row} {share:.2f}" for row, share in results.items())
        what = "launches of operations per second beside one loader, as a share of those alone"
        record("feed launches", what, text, ("methods/views", "suite/training/feed.py"))


def launch_rate(seconds: float) -> float:
    """Small operations per second, launched one by one from Python."""
    tensor, launched, start = torch.zeros(8), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(200):
            tensor.add_(1)
        launched += 200
    return launched / (time.perf_counter() - start)


def locked(options: argparse.Namespace) -> None:
    """Part 5."""
    if shutil.which("py-spy") is None:
        raise SystemExit("part 5 needs py-spy: pip install py-spy")
    source, samples_per_second = RandomImages(), 500
    print(f"a loader's time with the interpreter's lock, batch {options.batch}")
    print(f"{'row':12}{'images/s':>10}{'share':>8}{'us/image':>10}{'samples':>9}")
    results = {}
    for row in options.rows:
        steps, done = Steps(views_of(row, source), options.batch, 1_000_000), 0
        with reused(), tempfile.TemporaryDirectory() as folder:
            steps[0]
            stacks = Path(folder, "stacks.txt")
            command = [
                "py-spy", "record", "--gil", "--nonblocking", "--format", "raw", "--output", str(stacks), "--rate",
                str(samples_per_second), "--duration", str(round(options.seconds)), "--pid", str(os.getpid()),
            ]  # fmt: skip
            start = time.perf_counter()
            sampler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while sampler.poll() is None:
                done += 1
                steps[done]
            rate = options.batch * done / (time.perf_counter() - start)
            if sampler.returncode:
                raise SystemExit(f"py-spy ended with exit code {sampler.returncode}; it may need root")
            samples = sum(int(line.rsplit(" ", 1)[1]) for line in stacks.read_text("utf-8").splitlines())
        share = samples / samples_per_second / round(options.seconds)
        results[row] = 1e6 * share / rate
        print(f"{row:12}{rate:10.0f}{share:8.3f}{results[row]:10.1f}{samples:9d}", flush=True)
    if options.record:
        text = ", ".join(f"{row} {microseconds:.0f}" for row, microseconds in results.items())
        what = f"microseconds per image with the interpreter's lock, one loader, batch {options.batch}"
        record("feed lock", what, text, ("methods/views", "suite/training/feed.py"))


class Steps(Dataset[object]):
    """The batch of every step, for the worker processes of a DataLoader."""

    def __init__(self, maker: ViewMaker, batch: int, steps: int) -> None:
        self.maker, self.batch, self.steps = maker, batch, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> object:
        """Crops and the random numbers of the colour changes."""
        indices = (torch.arange(self.batch) + step * self.batch) % len(self.maker.source)
        return self.maker.prepare(indices, generator(0, "views", step))


def processes(options: argparse.Namespace) -> None:
    """Part 3."""
    source = RandomImages()
    print(f"threads and processes, batch {options.batch}: images/s without a step, seconds to the first batch")
    print(
        f"{'row':12}"
        + "".join(f"{number} {kind:10}".rjust(22) for kind in ("threads", "processes") for number in (1, 2))
    )
    results: dict[str, str] = {}
    for row in options.rows:
        maker = views_of(row, source)
        steps = max(20, round(options.seconds * geometry_rate(maker, options.batch, 0.5) / options.batch))
        pairs = [
            max(drained(batches(Steps(maker, options.batch, steps), number)) for _ in range(options.repeats))
            for batches in (by_threads, by_processes)
            for number in (1, 2)
        ]
        cells = [f"{options.batch * rate:.0f} ({-wait:.2f} s)" for rate, wait in pairs]
        print(f"{row:12}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
        results[row] = ", ".join(cells)
    if options.record:
        text = "; ".join(f"{row} {result}" for row, result in results.items())
        what = (
            "images/s (seconds to the first batch) of 1 and 2 threads, and of 1 and 2 processes of torch's DataLoader"
        )
        record("feed processes", what, text, ("methods/views", "suite/training/feed.py"))


def by_threads(steps: Steps, number: int) -> Iterator[object]:
    """The loaders of the product."""
    with Ahead(steps.__getitem__, range(len(steps)), Loading(number)) as ahead:
        for _ in range(len(steps)):
            yield ahead.take()


def by_processes(steps: Steps, number: int) -> Iterator[object]:
    """Spawned, as a process with a CUDA context has to."""
    loader = DataLoader(steps, batch_size=None, num_workers=number, multiprocessing_context="spawn")
    yield from loader


def drained(batches: Iterator[object]) -> tuple[float, float]:
    """Batches per second after the first, and the seconds to the first one, negative: larger is better."""
    start = time.perf_counter()
    next(batches)
    first = time.perf_counter()
    count = sum(1 for _ in batches)
    return count / (time.perf_counter() - first), start - first


def overlap(maker: ViewMaker, batch: int, seconds: float, loaders: int, repeats: int) -> tuple[float, int]:
    """Best ratio of the repeats, and the most batches that were in memory at a time."""
    alive = Alive()
    best = float("inf")
    steps = max(10, round(seconds * geometry_rate(maker, batch, 0.5) / batch))
    for _ in range(repeats):
        views = loop_seconds(maker, batch, steps, loaders, 0.0, alive) / steps
        step = loop_seconds(maker, batch, steps, loaders, views, alive) / steps
        best = min(best, step / views)
    return best, alive.peak


def loop_seconds(maker: ViewMaker, batch: int, steps: int, loaders: int, sleep: float, alive: Alive) -> float:
    """Seconds of a loop whose step sleeps. The first batch is not counted: a loop of an epoch hides it."""

    def make(step: int) -> object:
        indices = (torch.arange(batch) + step * batch) % len(maker.source)
        return alive.track(maker.prepare(indices, generator(0, "views", step)))

    with Ahead(make, range(steps + 1), Loading(loaders)) as ahead:
        ahead.take()
        start = time.perf_counter()
        for _ in range(steps):
            ahead.take()
            time.sleep(sleep)
        return time.perf_counter() - start


class Alive:
    """Counts batches from the end of their making until nothing refers to them."""

    def __init__(self) -> None:
        self._lock, self._now, self.peak = threading.Lock(), 0, 0

    def track(self, prepared: object) -> object:
        """The batch in a holder that is counted."""
        with self._lock:
            self._now += 1
            self.peak = max(self.peak, self._now)
        return Holder(prepared, self)

    def release(self) -> None:
        """One batch less."""
        with self._lock:
            self._now -= 1


class Holder:
    """A batch that says when it is no longer referred to."""

    def __init__(self, prepared: object, alive: Alive) -> None:
        self.prepared, self._alive = prepared, alive

    def __del__(self) -> None:
        self._alive.release()


if __name__ == "__main__":
    main()
