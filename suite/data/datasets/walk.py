"""The image files below a folder, sub-folders included as in torchvision's ImageFolder, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from suite.data.datasets.annotations import some
from suite.data.datasets.formats import image_suffixes, is_companion, is_foreign_image, suffix_of
from suite.data.datasets.names import check_utf8
from suite.data.record import Finding
from suite.errors import DataError


@dataclass
class Listing:
    """Paths relative to the dataset's folder, with forward slashes."""

    images: list[str] = field(default_factory=list)
    companions: list[str] = field(default_factory=list)  # hidden and companion files and folders
    others: list[str] = field(default_factory=list)  # files without the suffix of an image
    folders: list[str] = field(default_factory=list)  # every folder that was looked into
    below: list[str] = field(default_factory=list)  # sub-folders that were not, where not recursive

    def findings(self) -> Iterator[Finding]:
        """The files that were left out, counted and named."""
        foreign = [path for path in self.others if is_foreign_image(path)]
        rest = [path for path in self.others if not is_foreign_image(path)]
        if foreign:
            yield Finding(
                "warning",
                f"{len(foreign):,} files are pictures or films in formats that Pillow does not read, and are left out "
                f"({_suffixes(foreign)}): {some(foreign)}. Convert them to PNG or JPEG to use them.",
            )
        if rest:
            yield Finding(
                "note",
                f"{len(rest):,} files do not have the suffix of an image and are left out ({_suffixes(rest)}): "
                f"{some(rest)}.",
            )
        if self.companions:
            yield Finding(
                "note", f"{len(self.companions):,} hidden or companion files are left out: {some(self.companions)}."
            )

    def add(self, other: Listing) -> None:
        """Append everything of another listing."""
        self.images += other.images
        self.companions += other.companions
        self.others += other.others
        self.folders += other.folders

    def left_out(self) -> str:
        """The same as half a sentence for an error message, or ''."""
        names = [*self.others, *self.companions]
        return f" ({len(names):,} other files are left out: {some(names)})" if names else ""


def walk(root: Path, folder: str, *, recursive: bool = True, links_anywhere: bool = False) -> Listing:
    """List `root`/`folder`.

    Args:
        root: the dataset's folder.
        folder: relative to it.
        recursive: also its sub-folders, at any depth.
        links_anywhere: links may lead out of the dataset's folder.

    Raises:
        DataError: a folder cannot be read, a link is broken, leads to one of its own parents or, unless
            `links_anywhere`, out of the dataset's folder; a name is not UTF-8.
    """
    listing = Listing()
    inside = None if links_anywhere else root.resolve()
    if inside is not None:
        check_inside(root / folder, inside)
    _walk(f"{root}/", folder, listing, inside, recursive, image_suffixes())
    listing.images.sort()
    return listing


def _walk(
    root: str, folder: str, listing: Listing, inside: Path | None, recursive: bool, suffixes: frozenset[str]
) -> None:
    listing.folders.append(folder)
    below: list[str] = []
    try:
        with os.scandir(root + folder) as entries:
            for entry in entries:
                name = entry.name
                path = f"{folder}/{name}"
                if not name.isascii():
                    check_utf8(name, root + folder)
                if is_companion(name):
                    listing.companions.append(path)
                    continue
                if entry.is_symlink():
                    _check_link(entry.path, inside)
                if entry.is_dir():
                    below.append(path)
                elif suffix_of(name) in suffixes and entry.is_file():
                    listing.images.append(path)
                else:
                    listing.others.append(path)
    except OSError as error:
        raise DataError(f"cannot list {error.filename or root + folder}: {error.strerror}.") from error
    if recursive:
        for path in sorted(below):
            _walk(root, path, listing, inside, recursive, suffixes)
    else:
        listing.below = sorted(below)


def _check_link(path: str, inside: Path | None) -> None:
    link = Path(path)
    if not link.exists():
        raise DataError(f"{link} is a link to {link.readlink()}, which does not exist. Remove it, or repair it.")
    if inside is not None:
        check_inside(link, inside)
    if link.parent.resolve().is_relative_to(link.resolve()):
        raise DataError(f"{link} is a link to {link.resolve()}, one of its own parent folders. Remove it.")


def check_inside(path: Path, inside: Path) -> None:
    """DataError if `path`, with links followed, is not below the resolved dataset folder `inside`."""
    target = path.resolve()
    if not target.is_relative_to(inside):
        raise DataError(
            f"{path} is a link to {target}, outside the dataset's folder {inside}. Copy the file there, or link the "
            f"dataset's whole folder instead of a part of it."
        )


def same_names(paths: Iterable[str]) -> Iterator[Finding]:
    """Images of one folder whose names differ in their suffix only: possibly one picture in two formats."""
    first: dict[str, str] = {}
    pairs = []
    for path in paths:
        stem = path.rpartition(".")[0]
        other = first.setdefault(stem, path)
        if other is not path:
            pairs.append(f"{other}' = '{path.rpartition('/')[2]}")
    if pairs:
        yield Finding(
            "warning",
            f"{len(pairs):,} x images of one folder differ in their suffix only: {some(pairs)}. Each counts as an "
            f"image; remove one of the two if they are one picture in two formats.",
        )


def _suffixes(paths: list[str]) -> str:
    counts = Counter(suffix_of(path.rpartition("/")[2]) or "none" for path in paths)
    return ", ".join(f"{suffix} {count:,}" for suffix, count in counts.most_common(5))
