"""What it costs to decode a dataset into its store, and to know that a verified one has not changed.

    python tests/benchmarks/bench_data.py [--images 600] [--files 50000] [--repeats 5] [--imagenet 0]

Decoding: images of CUB's usual 500 x 375 into the store at 256 px, beside a bare parallel loop of Pillow that decodes
and resizes the same files and throws them away; the rates' ratio, median over alternating repeats. Reading: images per
second of a core of the same JPEGs decoded on demand, at 256 and at 512 px, beside images copied out of the decoded
store, and the gain of a thread on every core. Checking: seconds of `verify` for that many tiny images the second time,
and of the whole command; on a busy machine read those of a core.
Planning: `suite plan` with made-up folders of COCO (118,287 files) and ImageNet (`--imagenet 1281167`), the
first time and when everything is known; goals 1.5 s and 5 s.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from record import record

from suite.cores import cores
from suite.data.datasets.load import load_dataset
from suite.data.decoded.files import build_index, index_folder, open_index
from suite.data.decoded.images import build_store
from suite.data.decoded.split import SplitSource
from suite.data.record import Dataset
from suite.data.verify import verify
from suite.progress import preparation

SIZE = 256
CLASSES = 200


def write_cub(root: Path, count: int, content: Callable[[int], bytes]) -> None:
    """A data root whose CUB has `count` images over 200 classes, every other one for training."""
    folder = root / "CUB_200_2011"
    lists: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    }
    for number in range(count):
        label = number % CLASSES + 1
        path = f"{label:03}.Bird/{number:06}.jpg"
        (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / path).write_bytes(content(number))
        for name, value in zip(lists, (path, label, number // CLASSES % 2, "0 0 8 8"), strict=True):
            lists[name].append(f"{number + 1} {value}")
    lists["classes"] = [f"{label} {label:03}.Bird" for label in range(1, CLASSES + 1)]
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def photograph(number: int) -> bytes:
    """A JPEG of 500 x 375 with the size of a photograph: soft shapes and grain."""
    rng = np.random.default_rng(number)
    soft = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 6, (375, 500, 1))
    pixels = (np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def tiny(number: int) -> bytes:
    """A JPEG of 8 x 8, different for every number."""
    return TINY + number.to_bytes(4, "little")


def bare(dataset: Dataset) -> float:
    """Images per second of Pillow in as many threads as cores, nothing kept."""

    def load(path: Path) -> int:
        with Image.open(path) as image:
            scale = SIZE / min(image.size)
            small = image.convert("RGB").resize(
                (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
            )
            return np.asarray(small).size

    paths = [dataset.root / record.path for record in (*dataset.train, *dataset.test)]
    began = time.perf_counter()
    with ThreadPoolExecutor(cores()) as pool:
        sum(pool.map(load, paths))
    return len(paths) / (time.perf_counter() - began)


def stored(dataset: Dataset, cache: Path) -> float:
    """Images per second into the store, written and flushed to the disk, with progress."""
    began = time.perf_counter()
    with preparation() as progress:
        store = build_store(dataset, "f" * 64, SIZE, cache, lambda done, total: progress("decode cub", done, total))
    return len(store.paths) / (time.perf_counter() - began)


def reading(dataset: Dataset, cache: Path, size: int) -> tuple[float, float, float, float]:
    """Images per second of a core: from the decoded store, decoded on demand, indexed with and without the check.

    Seconds are those of the process, so that other work on the machine does not count.
    """

    def rate(run: Callable[[], object], rounds: int = 1) -> float:
        began = time.process_time()
        for _ in range(rounds):
            run()
        return rounds * count / (time.process_time() - began)

    ahead = SplitSource(build_store(dataset, "f" * 64, size, cache), "train")
    count = len(dataset.train) + len(dataset.test)
    checked = rate(lambda: build_index(dataset, "e" * 64, size, cache, verified=False))
    listed = rate(lambda: build_index(dataset, "f" * 64, size, cache, verified=True))
    demand = SplitSource(open_index(index_folder(cache, dataset.name, "f" * 64, size)), "train")
    count = len(ahead)
    from_store = rate(lambda: [ahead.image(i).contiguous() for i in range(count)], rounds=10)
    return from_store, rate(lambda: [demand.image(i).contiguous() for i in range(count)]), checked, listed


def speedup(source: SplitSource) -> float:
    """How much faster a thread on every core reads a split than one thread."""

    def seconds(threads: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(source.image, range(len(source))):
                pass
        return time.perf_counter() - began

    return statistics.median(seconds(1) / seconds(cores()) for _ in range(3))


def write_first_stages(root: Path, coco: int, imagenet: int) -> None:
    """Empty files in the layouts of COCO and ImageNet, in folders that look as if they had been there for a while."""
    for count, name, classes in ((coco, "coco/train2017", 1), (imagenet, "imagenet/train", 1000)):
        folders = [root / name / (f"n{k:08}" if classes > 1 else "") for k in range(classes if count else 0)]
        for folder in folders:
            folder.mkdir(parents=True)
        for number in range(count):
            folder = folders[number % classes]
            os.close(os.open(f"{folder}/{number:012}.jpg", os.O_CREAT))
        for folder in folders:
            os.utime(folder, (1e9, 1e9))
        if count:
            os.utime(root / name, (1e9, 1e9))


def plan_seconds(grid: str, data: Path, runs: Path) -> tuple[float, float]:
    """Wall clock and seconds of a core of `suite plan`."""
    command = [sys.executable, "-c", "from suite.cli import main; main()", "plan", "--grid", grid, "--method", "byol"]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--data", str(data), "--runs", str(runs)], check=False, capture_output=True)
    whole, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return whole, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600, help="400 or more: two per class")
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--imagenet", type=int, default=0, help="files of the made-up ImageNet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cub(folder / "photographs", options.images, photograph)
        dataset = load_dataset("cub", folder / "photographs")
        bare(dataset)  # the files are in memory from here on
        rates = [(stored(dataset, folder / f"cache{k}"), bare(dataset)) for k in range(options.repeats)]
        ratio = statistics.median(store / loop for store, loop in rates)
        store, loop = (statistics.median(values) for values in zip(*rates, strict=True))
        what = f"store of decoded images at {SIZE} px beside a bare parallel loop"
        record(
            "decoded store",
            what,
            f"{ratio:.2f} of its rate ({store:.0f} and {loop:.0f} images/s)",
            ("suite/data/decoded",),
        )
        print(f"store at {SIZE} px: {store:.0f} images/s; bare parallel loop: {loop:.0f} images/s; ratio {ratio:.2f}")

        for size in (SIZE, 512):
            kept, demand, checked, listed = (
                statistics.median(values)
                for values in zip(
                    *(reading(dataset, folder / f"read{size}{k}", size) for k in range(options.repeats)), strict=True
                )
            )
            index = open_index(index_folder(folder / f"read{size}0", "cub", "f" * 64, size))
            threads = speedup(SplitSource(index, "train"))
            text = (
                f"on demand {demand:.0f}, copied from the decoded store {kept:,.0f} images/s per core; {threads:.2f} "
                f"times as fast with {cores()} threads; check before training {checked:.0f}, headers only {listed:,.0f}"
            )
            record(f"on demand {size}", f"JPEGs of 500 x 375 at {size} px", text, ("suite/data/decoded",))
            print(f"at {size} px: {text}")

        write_cub(folder / "tiny", options.files, tiny)
        began = time.perf_counter()
        verify("cub", folder / "tiny", folder / "runs/cache", lambda *_: None)
        first = time.perf_counter() - began
        began, spent = time.perf_counter(), time.process_time()
        found = verify("cub", folder / "tiny", folder / "runs/cache", lambda *_: None)
        again, spent = time.perf_counter() - began, time.process_time() - spent
        command = [sys.executable, "-c", "from suite.cli import main; main()", "data", "verify", "cub"]
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--data", str(folder / "tiny"), "--runs", str(folder / "runs")], check=True,
                       capture_output=True)  # fmt: skip
        whole, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        what = f"cached check of {options.files:,} verified images"
        record("verify", what, f"{again:.2f} s; the whole command {whole:.2f} s", ("suite/data/verify.py",))
        print(
            f"{options.files:,} images verified in {first:.1f} s; again {again:.2f} s ({spent:.2f} s of a core; "
            f"cached: {found.cached}); the whole command {whole:.2f} s ({cpu:.2f} s of a core)."
        )

        write_first_stages(folder / "stages", 118_287, options.imagenet)
        for grid, stage in (("paper_table2", "COCO"), ("paper_table3", "ImageNet")):
            if stage == "ImageNet" and not options.imagenet:
                continue
            where = folder / "stages", folder / f"runs_{stage}"
            first_wall, _ = plan_seconds(grid, *where)
            known = [plan_seconds(grid, *where) for _ in range(options.repeats)]
            wall, core = (statistics.median(values) for values in zip(*known, strict=True))
            text = f"first {first_wall:.1f} s; known {wall:.2f} s ({core:.2f} s of a core)"
            what = f"`suite plan --grid {grid} --method byol` with as many files as {stage} has"
            record(f"plan with {stage}", what, text, ("suite/data", "suite/planning"))
            print(f"plan with {stage}: {text}")


with io.BytesIO() as _buffer:
    Image.new("RGB", (8, 8), (9, 90, 200)).save(_buffer, "JPEG")
    TINY = _buffer.getvalue()

if __name__ == "__main__":
    main()
