"""From a dataset's name to the checked Dataset: find its folder, read its lists, check that its images exist."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from suite.data.catalogue import DATASETS, DatasetInfo
from suite.data.datasets.annotations import obtain
from suite.data.datasets.names import composed
from suite.data.datasets.present import check_images
from suite.data.record import Dataset
from suite.errors import DataError, unknown


def load_dataset(name: str, data_root: Path) -> Dataset:
    """The dataset `name` below `data_root`, every list checked and every image present.

    Raises UsageError for an unknown name, DataError for a dataset that is missing or wrong.
    """
    name = composed(name)
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    listed_at = time.time_ns()
    dataset: Dataset = DATASETS[name].parse(find_folder(DATASETS[name], data_root))
    if not dataset.listed_from_disk:
        dataset = check_images(dataset)
    return replace(dataset, synthetic=is_synthetic(dataset.root, data_root), listed_at=listed_at)


def is_synthetic(root: Path, data_root: Path) -> bool:
    """Whether the dataset at `root` was rendered by `suite data synth` together with its data root."""
    return root.is_relative_to(data_root) and (data_root / "SYNTHETIC.json").exists()


def find_folder(info: DatasetInfo, data_root: Path) -> Path:
    """The dataset's folder, also where an archive was unpacked into a folder of its own name.

    Raises DataError, saying where it was looked for and where to get the dataset, if there is none.
    """
    places = [data_root / folder for folder in info.folders]
    nested = [place / folder for place in places for folder in info.folders]
    for place in (*places, *nested):
        if any((place / marker).exists() for marker in info.markers):
            return place
    for place in places:
        if place.is_dir():  # the folder without its lists: the loader names the missing ones
            return place
    wanted = " or ".join(str(place) for place in places)
    if any((data_root / marker).exists() for marker in info.markers):
        advice = f"{data_root} looks like the dataset itself: give the folder that holds {' or '.join(info.folders)}."
    else:
        missing = "" if data_root.is_dir() else f"The folder {data_root} does not exist. "
        advice = f"{missing}The data root is set with --data or the environment variable SUITE_DATA."
    raise DataError(f"{info.label} not found: looked for {wanted}. {advice} {obtain(info.name)}")
