"""Stanford Cars (Krause et al. 2013), in the layout torchvision reads: devkit/, cars_train/, cars_test/.

Test labels come from `cars_test_annos_withlabels.mat`: the devkit's own test file has none. Train and test images
have the same file names, so image ids carry the folder: `cars_train/00001`. Re-packed copies nest their folders
(`cars_train/cars_train/`, `car_devkit/devkit/`), and one is known for a test file named `... (1).mat`.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.data.catalogue import DatasetInfo
from suite.data.datasets.aircraft import parse_inclusive
from suite.data.datasets.annotations import ListedImage, assemble, check_known_class, listed_path, obtain
from suite.data.datasets.names import normal
from suite.data.record import Dataset, Split
from suite.errors import DataError

DEVKITS = ("devkit/", "", "car_devkit/devkit/")
MARKERS = tuple(f"{place}cars_train_annos.mat" for place in DEVKITS)
TEST = "cars_test_annos_withlabels"
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def parse(root: Path) -> Dataset:
    """Read the .mat files in `root`; no image is opened. DataError for lists that do not fit each other."""
    import numpy as np

    meta, train, test = places(root)
    names = {i: normal(str(n)) for i, n in enumerate(np.atleast_1d(load_mat(meta, "class_names")), 1)}
    entries = read_split(train, "train", image_folder(root, "cars_train"), names)
    entries += read_split(test, "test", image_folder(root, "cars_test"), names)
    return assemble("cars", root, entries, names)


def places(root: Path) -> tuple[Path, Path, Path]:
    """The files with the class names, the training and the test annotations, wherever a copy has them."""
    meta = first_existing(root, *(f"{place}cars_meta.mat" for place in DEVKITS))
    test_folders = ("", "devkit/", "car_devkit/devkit/", "car_devkit/")
    test = first_existing(root, *(f"{place}{TEST}{copy}.mat" for copy in ("", " (1)") for place in test_folders))
    return meta, first_existing(root, *MARKERS), test


def read_split(file: Path, split: Split, folder: str, names: Mapping[int, str]) -> list[ListedImage]:
    """The annotations of one split; class ids are those of the devkit, from 1."""
    import numpy as np

    annotations = np.atleast_1d(load_mat(file, "annotations"))
    absent = [f for f in FIELDS if f not in (annotations.dtype.names or ())]
    if absent:
        raise DataError(
            f"{file}: no field {absent[0]}: expected {', '.join(FIELDS)}. The devkit's cars_test_annos.mat has no "
            f"labels; what is needed is cars_test_annos_withlabels.mat. {obtain('cars')}"
        )
    columns = [annotations[f].tolist() for f in FIELDS]
    entries = []
    for number, (x0, y0, x1, y1, class_id, fname) in enumerate(zip(*columns, strict=True), 1):
        location = f"{file} entry {number}"
        try:
            label, file_name = int(class_id), listed_path(normal(str(fname)))
            box = parse_inclusive(f"{x0} {y0} {x1} {y1}")
        except (ValueError, TypeError) as e:
            got = (x0, y0, x1, y1, class_id, fname)
            raise DataError(f"{location}: expected {', '.join(FIELDS)}, got {got} ({e})") from e
        if label not in names:
            check_known_class(label, names, location, file.parent / "cars_meta.mat")
        image = f"{folder.partition('/')[0]}/{Path(file_name).stem}"
        entries.append(ListedImage(image, f"{folder}/{file_name}", label, box, split, location))
    return entries


def load_mat(file: Path, variable: str) -> Any:
    """A variable of a MATLAB file; DataError if the file is missing, is no .mat file, or lacks the variable."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    foreign = (MatReadError, ValueError, TypeError, NotImplementedError, OSError, KeyError, zlib.error)
    try:
        return loadmat(str(file), squeeze_me=True)[variable]
    except FileNotFoundError as e:
        raise DataError(f"missing list {file}. {obtain('cars')}") from e
    except foreign as e:  # what scipy raises for files of another kind
        raise DataError(f"{file}: expected a MATLAB file with '{variable}', got something else ({e!r})") from e


def first_existing(root: Path, *places: str) -> Path:
    """The first of the places that exists, else the first, so that the error names the official one."""
    return next((root / p for p in places if (root / p).exists()), root / places[0])


def image_folder(root: Path, name: str) -> str:
    """`cars_train`, or `cars_train/cars_train` as in the common re-packed archives."""
    return f"{name}/{name}" if (root / name / name).is_dir() else name


def write_subset_lists(subset: Dataset, out: Path) -> None:
    """Write the MATLAB annotations of the images of `subset`, cut from those in `subset.root`, into `out`."""
    import numpy as np

    from suite.data.synthetic.layouts import write_mat

    meta, train, test = places(subset.root)
    (out / "devkit").mkdir(parents=True)
    shutil.copyfile(meta, out / "devkit/cars_meta.mat")
    for file, records, target in (
        (train, subset.train, "devkit/cars_train_annos.mat"),
        (test, subset.test, f"{TEST}.mat"),
    ):
        ids = {record.id.rpartition("/")[2] for record in records}
        table = np.atleast_1d(load_mat(file, "annotations"))
        kept = table[[Path(listed_path(normal(str(name)))).stem in ids for name in table["fname"]]]
        write_mat(out / target, {"annotations": kept[None]}, "a subset of the official annotations")


INFO = DatasetInfo(
    name="cars",
    label="Cars",
    folders=("stanford_cars",),
    markers=MARKERS,
    parse=parse,
    train=8144,
    test=8041,
    classes=196,
    licence="research use, as ImageNet's terms; images belong to their owners",
    source="the original host closed in 2023; the documentation of torchvision.datasets.StanfordCars names copies",
    subset_lists=write_subset_lists,
    depicts="cars",
)
