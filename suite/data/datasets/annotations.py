"""Reading a dataset's text lists, and the checks that the lists of every dataset must pass.

No image file is opened here. Every error is a DataError that names the file, and the line where there is one.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from suite.data.catalogue import DATASETS
from suite.data.datasets.names import composed
from suite.data.record import Box, Dataset, Record, Split
from suite.errors import DataError

V = TypeVar("V")


class ListedImage(NamedTuple):
    """One image as listed, before labels are remapped."""

    id: str
    path: str  # relative to the dataset's folder
    class_id: int  # the official one: any integer
    box: Box | None
    split: Split
    location: str  # file and line of the entry, for errors


def obtain(name: str) -> str:
    """Advice on how to obtain dataset `name`, for the end of an error message."""
    from suite.data.download.manifest import manifest

    info = DATASETS[name]
    typed = f"`suite data fetch {name}` downloads it, or says what to obtain by hand. " if name in manifest() else ""
    return f"{typed}{info.label} is from {info.source}. Licence: {info.licence}."


def read_lines(file: Path, name: str) -> list[str]:
    """The lines of a list of dataset `name`; DataError if it is missing or is not text."""
    try:
        return decoded_lines(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as e:
        raise DataError(
            f"missing list {file}, which is part of {DATASETS[name].label}: unpack the archive again. {obtain(name)}"
        ) from e
    except UnicodeDecodeError as e:
        raise DataError(
            f"{file} is not text (byte {e.start} is not {e.encoding.upper()}): expected a list in UTF-8. {obtain(name)}"
        ) from e
    except OSError as e:
        raise DataError(f"cannot read {file}: {e.strerror}") from e


def decoded_lines(content: bytes) -> list[str]:
    """The lines of a text file, in Unicode NFC: UTF-8 or UTF-16 with or without a mark, any kind of line end."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if utf16 else "utf-8-sig")
    return composed(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")


def read_table(file: Path, name: str, expected: str, parse: Callable[[str], V]) -> dict[str, V]:
    """A list of lines `<id> <rest>`, as {id: parse(rest)} in the file's order; blank lines are skipped.

    Blanks or tabs separate the two; those at the ends of a line do not count.

    `parse` raises ValueError for a rest that is not `expected`. DataError: a malformed line, an id given twice.
    """
    table: dict[str, V] = {}
    for number, line in enumerate(read_lines(file, name), 1):
        key, rest = parts(line)
        if not key:
            continue
        try:
            if not rest:
                raise ValueError("nothing after the id")
            value = parse(rest)
        except ValueError as e:
            raise DataError(f"{file}:{number}: expected '<id> {expected}', got '{line[:120]}' ({e})") from e
        if key in table:
            first, was = line_of(file, key), table[key]
            differs = "" if was == value else f", there with '{was}', here with '{value}'"
            raise DataError(f"{file}:{number}: id '{key}' is already on {first}{differs}: one line per id is expected")
        table[key] = value
    if not table:
        raise DataError(f"{file} has no entries: expected lines '<id> {expected}'. {obtain(name)}")
    return table


def parts(line: str) -> tuple[str, str]:
    """The first word of a line and the rest, both without blanks around them."""
    words = line.split(None, 1)
    return (words[0], words[1].rstrip()) if len(words) == 2 else ("".join(words), "")


def line_of(file: Path, key: str) -> str:
    """`line N` of the first line of `file` that starts with `key`. For errors: it reads the file again."""
    for number, line in enumerate(decoded_lines(file.read_bytes()), 1):
        if parts(line)[0] == key:
            return f"line {number}"
    return "no line"


def listed_path(text: str) -> str:
    """An image path of a list in its one spelling: `/` between folders, no `./`. ValueError as `parse_path`."""
    path = text.replace("\\", "/")
    if re.match("[A-Za-z]:/", path):
        raise ValueError("image paths must lie inside the dataset's folder: no drive letter")
    kept = [part for part in path.lstrip("/").split("/") if part not in {"", "."}]
    return parse_path("/" * path.startswith("/") + "/".join(kept))


def parse_path(text: str) -> str:
    """A path inside a folder; ValueError if it could leave the dataset's folder or has two spellings."""
    if text.startswith("/") or "\\" in text or "\0" in text or not {"", ".", ".."}.isdisjoint(text.split("/")):
        raise ValueError("image paths must lie inside the dataset's folder: no leading /, no .., no backslash")
    return text


def parse_xywh(text: str) -> Box:
    """`x y width height` in pixels as a Box; ValueError for anything else or an area of zero."""
    x, y, width, height = (float(part) for part in text.split())
    return checked_box(x, y, x + width, y + height)


def checked_box(x0: float, y0: float, x1: float, y1: float) -> Box:
    """The Box; ValueError if it has no area or is not finite."""
    if not (math.isfinite(x0 + y0 + x1 + y1) and x0 < x1 and y0 < y1):
        raise ValueError("a box needs finite numbers and a positive width and height")
    return Box(x0, y0, x1, y1)


def parse_split(text: str) -> Split:
    """`1` is train, `0` is test; ValueError for anything else."""
    if text not in ("0", "1"):
        raise ValueError("the split is 1 for train or 0 for test")
    return "train" if text == "1" else "test"


def check_same_ids(images: Collection[str], listed_in: str, other: Mapping[str, object], file: Path) -> None:
    """DataError unless `other`, read from `file`, has exactly the ids of `images`."""
    if images == other.keys():
        return
    absent = [i for i in images if i not in other]
    extra = [i for i in other if i not in images]
    if absent:
        raise DataError(
            f"{file}: no entry for {len(absent)} of the {len(images)} images in {listed_in}, such as {some(absent)}. "
            f"The lists must be of one release."
        )
    raise DataError(
        f"{file}: {line_of(file, extra[0])} has the unknown image id '{extra[0]}' ({len(extra)} such ids): it is not "
        f"in {listed_in}. The lists must be of one release."
    )


def check_known_class(class_id: object, class_ids: Collection[object], location: str, class_file: Path) -> None:
    """DataError if a label is outside the class list."""
    if class_id not in class_ids:
        raise DataError(f"{location}: class '{class_id}' is not one of the {len(class_ids)} classes in {class_file}")


def check_no_empty_class(used: Collection[int], listed: Mapping[int, str], class_file: Path) -> None:
    """DataError if a listed class has no image at all: the image list or the class list is incomplete."""
    empty = [name for class_id, name in listed.items() if class_id not in used]
    if empty:
        raise DataError(
            f"{class_file}: {len(empty)} of {len(listed)} classes have no image, such as {some(empty)}. "
            f"For a subset, list only the classes it uses."
        )


def check_no_repeats(entries: Iterable[ListedImage]) -> None:
    """DataError if an id or a path comes twice, saying so if that puts an image into both splits."""
    for field in ("id", "path"):
        seen: dict[str, ListedImage] = {}
        for entry in entries:
            key: str = getattr(entry, field)
            first = seen.setdefault(key, entry)
            if first is not entry:
                fault = "is listed twice" if first.split == entry.split else "is in both splits, train and test"
                raise DataError(
                    f"image {field} '{key}' {fault}: {first.location} and {entry.location}. "
                    "Remove one of the two entries."
                )


def check_splits(entries: Sequence[ListedImage], names: Mapping[int, str], root: Path) -> None:
    """DataError for an empty split, or a class in use that has no training or no test image."""
    classes = {split: {e.class_id for e in entries if e.split == split} for split in ("train", "test")}
    for split, present in classes.items():
        if not present:
            raise DataError(f"{root}: the {split} split is empty ({len(entries)} images in all): check the split list")
    for split, other in (("train", "test"), ("test", "train")):
        absent = [names[c] for c in sorted(classes[other] - classes[split])]
        if absent:
            raise DataError(
                f"{root}: {len(absent)} of {len(classes['train'] | classes['test'])} classes have {other} images but "
                f"no {split} image, such as {some(absent)}. Remove them from the lists, or complete the split list."
            )


def assemble(
    name: str, root: Path, entries: Sequence[ListedImage], names: Mapping[int, str], banner: int = 0
) -> Dataset:
    """The Dataset of checked entries; label = rank of the official class id among those in use."""
    check_no_repeats(entries)
    check_splits(entries, names, root)
    used = sorted({e.class_id for e in entries})
    label = {class_id: rank for rank, class_id in enumerate(used)}
    records: dict[Split, list[Record]] = {"train": [], "test": []}
    for e in entries:
        records[e.split].append(Record(e.id, e.path, label[e.class_id], e.box))
    classes = tuple(names[c] for c in used)
    return Dataset(name, root, tuple(records["train"]), tuple(records["test"]), classes, banner=banner)


def filter_list(source: Path, target: Path, keep: Callable[[str], bool]) -> None:
    """Copy the lines of a list that are kept; nothing where there is no such list."""
    if not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = decoded_lines(source.read_bytes())
    target.write_text("".join(f"{line}\n" for line in lines if line and keep(line)), "utf-8", newline="\n")


def starts_with(ids: Collection[str]) -> Callable[[str], bool]:
    """Whether a line of a list belongs to one of the ids."""
    return lambda line: parts(line)[0] in ids


def some(names: Sequence[str], at_most: int = 3) -> str:
    """The first few names, quoted."""
    return ", ".join(f"'{n}'" for n in names[:at_most]) + (", ..." if len(names) > at_most else "")
