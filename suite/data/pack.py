"""`suite data pack`: a small class-balanced subset of a dataset, in the same official layout; a seed gives one subset.

Official ids, class ids and file names are kept and images are copied byte for byte: a pack is read as the dataset and
marked as a subset. The dataset's licence applies to it.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suite.atomic import atomic_folder
from suite.data.catalogue import DATASETS
from suite.data.datasets.load import load_dataset
from suite.data.record import Dataset, Record, Split
from suite.data.saliency.detectors import mask_places
from suite.errors import DataError, UsageError
from suite.progress import Progress

MARK = "PACK.json"  # in the dataset's folder; fetch, list and people read it
SYNTHETIC = "SYNTHETIC.json"
SPLITS: tuple[Split, Split] = ("train", "test")


@dataclass(frozen=True)
class SubsetSpec:
    """The subset to write: `per_class` training and as many test images of `classes` classes, sampled with `seed`."""

    classes: int
    per_class: int
    seed: int


def pack(name: str, data_root: Path, out: Path, subset_spec: SubsetSpec, progress: Progress) -> Dataset:
    """Write the subset of dataset `name` into the data root `out`; returns it as loaded from there.

    COCO's images have no classes here: `classes` is 1 and `per_class` the number of images. ImageNet's are its folders.
    The same source, subset and seed give the same bytes. If `out` has them already, nothing is written.

    Raises:
        UsageError: fewer classes than asked for have that many images.
        DataError: `out` holds other data.
    """
    source = load_dataset(name, data_root)
    chosen = choose(source, subset_spec)
    folder = out / DATASETS[name].folders[0]
    mark = json.dumps(
        {
            "statement": f"A subset of {source.info.label} made with `suite data pack`; ids and names are the official "
            "ones. Not the dataset: results on it compare with nothing published.",
            "dataset": name,
            "source": source.describe(),
            "classes": subset_spec.classes,
            "per_class": subset_spec.per_class,
            "seed": subset_spec.seed,
            "licence": source.info.licence,
        },
        indent=2,
    )  # fmt: skip
    if folder.exists():
        if not (folder / MARK).is_file() or (folder / MARK).read_text("utf-8") != mark:
            raise DataError(f"{folder} holds other data: give another --out, or delete that folder first.")
        return load_dataset(name, out)
    _keep_apart(source, data_root, out)
    records = (*chosen.train, *chosen.test)
    with atomic_folder(folder) as temporary:
        if source.info.subset_lists is not None:
            source.info.subset_lists(chosen, temporary)
        for done, record in enumerate(records, 1):
            masks = [place for place in mask_places(record, source) if place.is_file()] if source.info.labelled else []
            for file in (source.root / record.path, *masks):
                target = temporary / file.relative_to(source.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            progress(f"pack {name}", done, len(records))
        (temporary / MARK).write_text(mark, "utf-8")
    return load_dataset(name, out)


def choose(dataset: Dataset, subset_spec: SubsetSpec) -> Dataset:
    """The dataset restricted to the sampled records, in their original order. Labels and classes are unchanged."""
    splits = {split: dataset.split(split) for split in SPLITS if dataset.split(split)}  # first-stage sets: train only
    groups = {split: _by_class(records) for split, records in splits.items()}
    sizes = {name: min(len(groups[split].get(name, ())) for split in groups) for name in groups["train"]}
    fit = sorted(name for name, size in sizes.items() if size >= subset_spec.per_class)
    if len(fit) < subset_spec.classes:
        most = sorted(sizes.values(), reverse=True)[subset_spec.classes - 1] if subset_spec.classes <= len(sizes) else 0
        advice = (
            f"for {subset_spec.classes} classes --per-class can be at most {most}"
            if most
            else f"the dataset has {len(sizes)} classes"
        )
        raise UsageError(
            f"{dataset.describe()}: only {len(fit)} classes have {subset_spec.per_class} images in each split, but "
            f"{subset_spec.classes} are asked for; {advice}."
        )
    rng = random.Random(subset_spec.seed)
    kept: set[str] = set()
    for name in sorted(rng.sample(fit, subset_spec.classes)):
        for split in groups:
            kept |= set(rng.sample(sorted(record.path for record in groups[split][name]), subset_spec.per_class))
    train, test = (tuple(record for record in dataset.split(split) if record.path in kept) for split in SPLITS)
    return replace(dataset, train=train, test=test)


def _by_class(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by label; those without one by their folder."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[f"{record.label:06}" if record.label is not None else record.path.rpartition("/")[0]].append(record)
    return groups


def _keep_apart(source: Dataset, data_root: Path, out: Path) -> None:
    """Copy the mark of synthetic data to `out`; DataError if that would mix them with photographs."""
    if source.synthetic:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / SYNTHETIC).exists():
            if any(out.iterdir()):
                raise DataError(f"{out} holds other data: synthetic images must not mix with photographs.")
            shutil.copyfile(data_root / SYNTHETIC, out / SYNTHETIC)
    elif (out / SYNTHETIC).exists():
        raise DataError(f"{out} holds synthetic images: photographs must not mix with them, give another --out.")
