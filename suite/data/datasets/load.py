"""From a dataset's name to the checked Dataset: find the folder, read the lists, look whether the images exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from suite.data.catalogue import DATASETS, DatasetInfo
from suite.data.datasets import aircraft, cars, cub, nabirds, unlabelled
from suite.data.datasets.annotations import obtain
from suite.data.datasets.files import check_images
from suite.data.datasets.fingerprint import fingerprint
from suite.data.record import Dataset
from suite.errors import DataError, unknown

__all__ = ["find_folder", "fingerprint", "load_dataset"]

LOADERS: dict[str, tuple[Callable[[Path], Dataset], tuple[str, ...]]] = {  # parse, files or folders that mark the root
    "cub": (cub.parse, (cub.MARKER,)),
    "nabirds": (nabirds.parse, (nabirds.MARKER,)),
    "aircraft": (aircraft.parse, (aircraft.MARKER,)),
    "cars": (cars.parse, cars.MARKERS),
    "coco": (unlabelled.parse_coco, unlabelled.FOLDERS["coco"]),
    "imagenet": (unlabelled.parse_imagenet, unlabelled.FOLDERS["imagenet"]),
}


def load_dataset(name: str, data_root: Path) -> Dataset:
    """The dataset `name` below `data_root`, every list checked and every image present.

    Raises UsageError for an unknown name, DataError for a dataset that is missing or wrong.
    """
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    parse, _ = LOADERS[name]
    dataset = parse(find_folder(DATASETS[name], data_root))
    check_images(dataset)
    drawn = dataset.root.is_relative_to(data_root) and (data_root / "SYNTHETIC.json").exists()
    return replace(dataset, synthetic=drawn)


def find_folder(info: DatasetInfo, data_root: Path) -> Path:
    """The dataset's folder, also where an archive was unpacked into a folder of its own name.

    Raises DataError, saying where it was looked for and where to get the dataset, if there is none.
    """
    markers = LOADERS[info.name][1]
    places = [data_root / folder for folder in info.folders]
    nested = [place / folder for place in places for folder in info.folders]
    for place in (*places, *nested):
        if any((place / marker).exists() for marker in markers):
            return place
    for place in places:
        if place.is_dir():  # there but without its lists: the loader says which are missing
            return place
    wanted = " or ".join(str(place) for place in places)
    if any((data_root / marker).exists() for marker in markers):
        advice = f"{data_root} looks like the dataset itself: give the folder that holds {' or '.join(info.folders)}."
    else:
        advice = "The data root is set with --data or the environment variable SUITE_DATA."
    raise DataError(f"{info.label} not found: looked for {wanted}. {advice} {obtain(info.name)}")
