"""Image stores that decode the original files on demand: an index beside the dataset, and no copy of the pixels.

The index holds the size of every image in the store's pixels, labels and boxes: some 100 bytes an image. Loaders decode
in their threads; the pixels are the same bits as those of the decoded store.

Checked when the index is built: every image can be decoded to its end, unless `suite data verify` has found that
before. Checked when an image is read: its file has the length that it had then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from suite.atomic import atomic_folder, write_json
from suite.data.decoded.check import check_image, image_size
from suite.data.decoded.images import FORMAT as IMAGES_FORMAT
from suite.data.decoded.images import Facts, ImageStore, label_array, read_facts
from suite.data.decoded.parallel import parallel
from suite.data.decoded.pixels import Pixels, load_resized, refuse_banner_only, scaled_box
from suite.data.decoded.shape import resized_shape
from suite.data.record import Dataset, Record
from suite.errors import ImageError, StoreError
from suite.locks import FileLock
from suite.progress import CountProgress

FORMAT = 1
ARRAYS = ("shapes", "labels", "boxes", "lengths")


@dataclass(frozen=True)
class FileStore(ImageStore):
    """Images decoded on demand."""

    root: Path  # the dataset's folder
    banner: int  # rows at the bottom of every file that are no picture
    lengths: NDArray[np.int64]  # [N] of the files, bytes

    def image(self, index: int) -> Pixels:
        """See ImageStore."""
        path = self.root / self.paths[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImageError(
                f"cannot read {path}: {error.strerror}. Its dataset is decoded on demand, so its files are read during "
                "training: put the file back, then give the same command again."
            ) from error
        if len(data) != self.lengths[index]:
            raise ImageError(
                f"{path} has {len(data):,} bytes, but had {self.lengths[index]:,} when the dataset was checked. "
                f"Restore the file, or check all of them: suite data verify {self.facts.dataset} --again"
            )
        image, _ = load_resized(path, self.banner, self.facts.size, data, checked=True)
        pixels = np.array(image)
        height, width = self.shapes[index]
        if pixels.shape[:2] != (height, width):
            raise ImageError(
                f"{path} is {pixels.shape[1]} x {pixels.shape[0]} px at the store's size, but was {width} x {height} "
                f"when the dataset was checked. Check all files: suite data verify {self.facts.dataset} --again"
            )
        return pixels


class Paths(Sequence[str]):
    """Many paths in one memory-mapped file, so that they cost a job no memory of its own."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start = 0 if index == 0 else int(self._ends[index - 1])
        return self._text[start : self._ends[index]].tobytes().decode("utf-8", "surrogateescape")


def index_folder(cache: Path, dataset: str, fingerprint: str, size: int) -> Path:
    """Folder of the index of a dataset's content at a size, whether or not it has been built."""
    return cache / "images" / f"{dataset}-{fingerprint[:16]}-{size}px-files-v{IMAGES_FORMAT}.{FORMAT}"


def open_index(folder: Path) -> FileStore:
    """Map a finished index copy-on-write.

    Raises:
        StoreError: it is not there; says how to rebuild it.
    """
    if not folder.is_dir():
        raise StoreError(f"index of images not found: {folder}. Re-run the same `suite run` command to rebuild it.")
    where = _where(folder)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in ARRAYS}
    text = np.memmap(folder / "paths.txt", np.uint8, mode="c")
    paths = Paths(text, np.load(folder / "path_ends.npy", mmap_mode="c"))
    return FileStore(
        folder, read_facts(folder), paths=paths, train_count=where["train_count"], root=Path(where["root"]),
        banner=where["banner"], **arrays,
    )  # fmt: skip


def has_index(folder: Path) -> bool:
    """Whether there is an index whose dataset is where it was."""
    return folder.is_dir() and Path(_where(folder)["root"]).is_dir()


def build_index(
    dataset: Dataset, fingerprint: str, size: int, cache: Path, progress: CountProgress | None = None, *, verified: bool
) -> FileStore:
    """Index a dataset's files unless that has been done; note where they are now. Safe to call from several processes.

    Args:
        dataset: to index.
        fingerprint: of its content.
        size: short side of the images in training at most, px.
        cache: folder of derived data.
        progress: called with (done, total).
        verified: every image of this content has been decoded before, so that reading the headers is enough.

    Raises:
        DataError: an image cannot be decoded; nothing is left behind.
    """
    folder = index_folder(cache, dataset.name, fingerprint, size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with atomic_folder(folder) as temporary:
                _write(dataset, fingerprint, size, temporary, progress, verified)
        else:
            where = _where(folder)
            if where["root"] != str(dataset.root.absolute()):  # the same content at another place
                write_json(folder / "where.json", {**where, "root": str(dataset.root.absolute())})
    return open_index(folder)


def _where(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "where.json").read_text("utf-8"))
    return content


def _write(
    dataset: Dataset, fingerprint: str, size: int, folder: Path, progress: CountProgress | None, verified: bool
) -> None:
    records = (*dataset.train, *dataset.test)

    def look(record: Record) -> tuple[tuple[int, int], int]:
        path = dataset.root / record.path
        (height, width), length = (image_size if verified else check_image)(path)
        refuse_banner_only(path, height, dataset.banner)
        return (height - dataset.banner, width), length

    shapes, boxes, lengths, ends = [], [], [], []
    position = 0
    with (folder / "paths.txt").open("wb") as file:
        for done, (record, (original, length)) in enumerate(zip(records, parallel(look, records), strict=True), 1):
            shapes.append(resized_shape(*original, size))
            boxes.append(scaled_box(record, original, shapes[-1]))
            lengths.append(length)
            position += file.write(record.path.encode("utf-8", "surrogateescape"))
            ends.append(position)
            if progress is not None:
                progress(done, len(records))
    arrays: dict[str, NDArray[Any]] = {
        "shapes": np.array(shapes, np.int64).reshape(-1, 2),
        "labels": label_array(records),
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "lengths": np.array(lengths, np.int64),
        "path_ends": np.array(ends, np.int64),
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    where = {"root": str(dataset.root.absolute()), "banner": dataset.banner, "train_count": len(dataset.train)}
    write_json(folder / "where.json", where)
    write_json(folder / "facts.json", asdict(Facts.of(dataset, fingerprint, size)))
