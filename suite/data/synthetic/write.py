"""Writes a whole data root of synthetic sets, complete or not at all."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from suite.cores import cores
from suite.data.synthetic.layouts import ImageAnnotation, annotate
from suite.data.synthetic.sets import ImagePlan, SetPlan, plan
from suite.data.synthetic.spec import SyntheticSpec
from suite.errors import DataError
from suite.filesystem import rename_folder

VERSION = 1  # raised whenever the same spec gives other pictures
MANIFEST = "SYNTHETIC.json"
_STATEMENT = (
    "Every image in this folder was drawn by a program. None is a photograph, and no result on them says anything "
    "about the real datasets whose folder layout they borrow."
)
_FEW = 200  # below this many pictures, starting worker processes costs more than it saves


def write_synthetic(root: Path, spec: SyntheticSpec | None = None, workers: int | None = None) -> None:
    """Render the sets of `spec` (default: the demo's) into `root`, in the official layouts, with exact masks.

    Does nothing where `root` already holds this spec. The files appear all at once: they are rendered into a folder
    beside `root`, which is renamed at the end. `workers`: processes, default one per core; more than one needs the
    caller to be an importable module or guarded by ``if __name__ == "__main__"``. Raises DataError where `root`
    holds anything else.
    """
    spec = spec or SyntheticSpec()
    plans = [plan(name, spec) for name in spec.sets]
    manifest = _manifest(spec, plans)
    if _holds(root, manifest):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = root.parent / f".{root.name}.drawing-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write_sets(unfinished, plans, workers or cores())
        (unfinished / MANIFEST).write_text(manifest, encoding="utf-8", newline="\n")
        if root.exists():
            root.rmdir()  # empty, as _holds has made sure
        rename_folder(unfinished, root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _holds(root: Path, manifest: str) -> bool:
    """Whether `root` holds exactly this; False where there is nothing yet."""
    if root.is_dir() and not any(root.iterdir()):
        return False
    found = root / MANIFEST
    if found.is_file() and found.read_text(encoding="utf-8") == manifest:
        return True
    if root.exists():
        what = "synthetic data of another spec" if found.is_file() else "files that are not synthetic data"
        raise DataError(f"cannot render into {root}: it holds {what}. Name a new folder, or delete this one first.")
    return False


def _manifest(spec: SyntheticSpec, plans: list[SetPlan]) -> str:
    counts = {
        one.name: {
            "folder": one.folder,
            "classes": len(one.classes),
            **{"train" if train else "test": n for train, n in Counter(item.train for item in one.items).items()},
        }
        for one in plans
    }
    content = {"statement": _STATEMENT, "version": VERSION, "seed": spec.seed, "sets": counts}
    return json.dumps({**content, "spec": spec.model_dump(mode="json")}, indent=2, sort_keys=True) + "\n"


def _write_sets(root: Path, plans: list[SetPlan], workers: int) -> None:
    tasks = [(root / one.folder, item) for one in plans for item in one.items]
    for parent in {(folder / path).parent for folder, item in tasks for path in (item.image, item.mask)}:
        parent.mkdir(parents=True, exist_ok=True)
    if workers == 1 or len(tasks) < _FEW:
        rendered = [_write_picture(*task) for task in tasks]
    else:
        # spawn: the caller may hold threads (torch's, a database's) that do not survive a fork.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            rendered = list(pool.map(_write_picture, *zip(*tasks, strict=True), chunksize=32))
    rest = iter(rendered)
    for one in plans:
        annotate(root / one.folder, one, list(itertools.islice(rest, len(one.items))))


def _write_picture(folder: Path, item: ImagePlan) -> ImageAnnotation:
    """Render and save one picture and its mask. Runs in a worker."""
    image, mask, box = item.render()
    if item.banner:
        image = np.concatenate([image, _banner(image.shape[1], item)])
        mask = np.pad(mask, ((0, item.banner), (0, 0)))
    # Full chroma: the default halves it, which at this size would smear parts two pixels wide.
    Image.fromarray(image).save(folder / item.image, quality=92, subsampling=0)
    Image.fromarray(mask).save(folder / item.mask)
    return ImageAnnotation(image.shape[1], image.shape[0], box)


def _banner(width: int, item: ImagePlan) -> NDArray[np.uint8]:
    """[banner, W, 3]: the light strip with dark print below every Aircraft picture."""
    strip = Image.new("RGB", (width, item.banner), (238, 238, 232))
    draw = ImageDraw.Draw(strip)
    draw.text((3, item.banner // 2 - 6), "synthetic", fill=(40, 40, 48))
    return np.asarray(strip)
