"""The annotation files of every set, as its official release writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from suite.data.synthetic.names import aircraft_family, bird_family
from suite.data.synthetic.sets import ImagePlan, SetPlan, nabirds_class_id
from suite.data.synthetic.spec import SetName

_MAT_HEADER = 116  # bytes of free text at the start of a MATLAB 5 file; scipy puts the date there


class ImageAnnotation(NamedTuple):
    """A rendered picture: size in pixels with the banner, tight box of the silhouette (right, bottom exclusive)."""

    width: int
    height: int
    box: tuple[int, int, int, int]


Rows = Sequence[tuple[ImagePlan, ImageAnnotation]]


def annotate(folder: Path, plan: SetPlan, rendered: Sequence[ImageAnnotation]) -> None:
    """Write the annotation files of `plan` into `folder`, where its pictures are."""
    write = _WRITERS.get(plan.name)
    if write is not None:
        write(folder, plan, list(zip(plan.items, rendered, strict=True)))


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _label(item: ImagePlan) -> int:
    if item.label is None:
        raise ValueError(f"{item.image} has no label")  # only COCO's pictures, which have no annotation file
    return item.label


def _cub(folder: Path, plan: SetPlan, rows: Rows) -> None:
    """Wah et al. 2011: ids and classes from 1, boxes as x, y, width, height with one decimal."""
    _lines(folder / "classes.txt", (f"{k} {name}" for k, name in enumerate(plan.classes, 1)))
    _lines(folder / "images.txt", (f"{i.id} {i.image.removeprefix('images/')}" for i, _ in rows))
    _lines(folder / "image_class_labels.txt", (f"{i.id} {_label(i) + 1}" for i, _ in rows))
    _lines(folder / "train_test_split.txt", (f"{i.id} {int(i.train)}" for i, _ in rows))
    _lines(
        folder / "bounding_boxes.txt",
        (f"{i.id} {x0:.1f} {y0:.1f} {x1 - x0:.1f} {y1 - y0:.1f}" for i, (_, _, (x0, y0, x1, y1)) in rows),
    )


def _nabirds(folder: Path, plan: SetPlan, rows: Rows) -> None:
    """Van Horn et al. 2015: uuids for images, class ids with gaps, a hierarchy whose inner nodes have no image."""
    families = sorted({bird_family(name) for name in plan.classes})
    inner = {family: 1 + k for k, family in enumerate(families)}
    leaves = [(nabirds_class_id(k), name) for k, name in enumerate(plan.classes)]
    _lines(
        folder / "classes.txt",
        ["0 Birds", *(f"{k} {name}" for name, k in inner.items()), *(f"{k} {name}" for k, name in leaves)],
    )
    _lines(
        folder / "hierarchy.txt",
        [*(f"{k} 0" for k in inner.values()), *(f"{k} {inner[bird_family(name)]}" for k, name in leaves)],
    )
    _lines(folder / "images.txt", (f"{i.id} {i.image.removeprefix('images/')}" for i, _ in rows))
    _lines(folder / "image_class_labels.txt", (f"{i.id} {nabirds_class_id(_label(i))}" for i, _ in rows))
    _lines(folder / "train_test_split.txt", (f"{i.id} {int(i.train)}" for i, _ in rows))
    _lines(folder / "sizes.txt", (f"{i.id} {d.width} {d.height}" for i, d in rows))
    _lines(
        folder / "bounding_boxes.txt",
        (f"{i.id} {x0} {y0} {x1 - x0} {y1 - y0}" for i, (_, _, (x0, y0, x1, y1)) in rows),
    )


def _aircraft(folder: Path, plan: SetPlan, rows: Rows) -> None:
    """Maji et al. 2013: lists of `id name`, train and val halves of trainval, boxes from 1 with both ends inside."""
    data = folder / "data"
    _lines(data / "variants.txt", plan.classes)
    _lines(data / "families.txt", dict.fromkeys(map(aircraft_family, plan.classes)))
    trainval = [item for item, _ in rows if item.train]
    lists = {
        "train": trainval[::2],
        "val": trainval[1::2],
        "trainval": trainval,
        "test": [item for item, _ in rows if not item.train],
    }
    for split, items in lists.items():
        names = [plan.classes[_label(item)] for item in items]
        _lines(data / f"images_{split}.txt", (item.id for item in items))
        _lines(data / f"images_variant_{split}.txt", (f"{i.id} {n}" for i, n in zip(items, names, strict=True)))
        _lines(
            data / f"images_family_{split}.txt",
            (f"{i.id} {aircraft_family(n)}" for i, n in zip(items, names, strict=True)),
        )
    _lines(
        data / "images_box.txt",
        (f"{i.id} {x0 + 1} {y0 + 1} {x1} {y1}" for i, (_, _, (x0, y0, x1, y1)) in rows),
    )


def _cars(folder: Path, plan: SetPlan, rows: Rows) -> None:
    """Krause et al. 2013: MATLAB structures with classes from 1 and boxes from 1 with both ends inside."""
    (folder / "devkit").mkdir(exist_ok=True)
    names = np.empty((1, len(plan.classes)), dtype=object)
    names[0, :] = plan.classes
    write_mat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    for train, path in ((True, "devkit/cars_train_annos.mat"), (False, "cars_test_annos_withlabels.mat")):
        part = [(item, rendered.box) for item, rendered in rows if item.train == train]
        fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
        table = np.empty((1, len(part)), dtype=[(field, object) for field in fields])
        for k, (item, (x0, y0, x1, y1)) in enumerate(part):
            numbers = (np.uint16(n) for n in (x0 + 1, y0 + 1, x1, y1, _label(item) + 1))
            table[0, k] = (*numbers, item.id)
        write_mat(folder / path, {"annotations": table})


def write_mat(path: Path, content: dict[str, object], description: str = "drawn by program") -> None:
    """A MATLAB 5 file without the date of writing, so that equal content gives equal bytes."""
    from scipy.io import savemat  # here: the processes that only draw need not load it

    savemat(path, content)
    raw = path.read_bytes()
    path.write_bytes(f"MATLAB 5.0 MAT-file, {description}".encode().ljust(_MAT_HEADER) + raw[_MAT_HEADER:])


_WRITERS: dict[SetName, Callable[[Path, SetPlan, Rows], None]] = {
    "cub": _cub,
    "nabirds": _nabirds,
    "aircraft": _aircraft,
    "cars": _cars,
}
