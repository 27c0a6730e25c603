"""`suite data fetch`: from nothing, or from archives somebody downloaded, to a dataset that loads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from suite.atomic import write_bytes
from suite.data.catalogue import DATASETS
from suite.data.datasets.annotations import obtain
from suite.data.datasets.load import find_folder, load_dataset
from suite.data.download.http import download
from suite.data.download.manifest import Archive, sources
from suite.data.download.unpack import unpack
from suite.data.record import Dataset
from suite.errors import DataError, unknown
from suite.progress import Progress, megabytes

DOWNLOADS = "downloads"  # below the data root


def fetch(
    name: str, data_root: Path, progress: Progress, handed: Iterable[Path] = (), keep: bool = False, pause: float = 1.0
) -> Dataset:
    """The dataset below `data_root`: looked for, else unpacked from archives that are there or can be downloaded.

    Args:
        name: of the dataset.
        data_root: `handed` apart, archives are looked for here, in its `downloads` and in the dataset's own folder.
        progress: called during downloads, checks and unpacking.
        handed: paths of archives, recognised by their checksums, not by their names.
        keep: keep what was downloaded here; what the user brought is never removed.
        pause: seconds before a download is tried again.

    Raises:
        DataError: something is in the way, cannot be downloaded (says what to get and where to put it), or is wrong.
    """
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    if (data_root / "SYNTHETIC.json").exists():
        raise DataError(
            f"{data_root} holds synthetic images, which must not mix with photographs: give another --data."
        )
    if (there := _loaded(name, data_root)) is not None:
        return there
    known = sources(name)
    brought = _recognise(name, known.archives, handed)
    missing: list[Archive] = []
    failures: list[str] = []
    for archive in known.archives:
        target = data_root / archive.gives
        if target.exists():
            continue
        place = brought.get(archive.file) or _placed(archive, data_root)
        own = place is None
        if place is None and not archive.mirrors:
            missing.append(archive)
            continue
        if place is None:
            _check_space(archive, data_root)
            try:
                show = megabytes(progress, f"download {archive.file}")
                place = download(archive, data_root / DOWNLOADS, show, pause)
            except DataError as error:
                missing.append(archive)
                failures.append(str(error))
                continue
        if archive.member == archive.file:  # not packed
            write_bytes(target, place.read_bytes())
        else:
            unpack(place, target, megabytes(progress, f"unpack {archive.file}"))
        if own and not keep:
            place.unlink()
    if missing or not known.archives:
        raise DataError("\n".join([*failures, instructions(name, data_root, missing)]))
    return load_dataset(name, data_root)


def instructions(name: str, data_root: Path, missing: Iterable[Archive] = ()) -> str:
    """Instructions for a manual download: the files, their place and the next command."""
    lines = [f"{DATASETS[name].label} cannot be downloaded completely.", sources(name).manual or obtain(name)]
    missing = list(missing)
    if missing:
        lines.append(f"Missing below {data_root}:")
        lines += [f"  {archive.gives}, from {archive.describe()}" for archive in missing]
        lines.append(
            f"Put the archives into {data_root} and type `suite data fetch {name}` again, or name them: "
            f"`suite data fetch {name} --from FILE`. Unpacked files are checked by `suite data verify {name}`."
        )
    else:
        lines.append(f"Then: suite data verify {name}. Licence: {DATASETS[name].licence}.")
    return "\n".join(lines)


def _loaded(name: str, data_root: Path) -> Dataset | None:
    """The dataset if it is there; None if it is not there, or partly and the rest can still be unpacked beside it."""
    try:
        return load_dataset(name, data_root)
    except DataError as error:
        try:
            folder = find_folder(DATASETS[name], data_root)
        except DataError:
            return None  # nothing there
        places = [data_root / archive.gives for archive in sources(name).archives]
        if any(place.parent == folder and not place.exists() for place in places):
            return None  # the missing parts go beside those that are there
        raise DataError(
            f"{folder} exists, but is not in order: {error} Repair it, or move it away and type "
            f"`suite data fetch {name}` again."
        ) from error


def _recognise(name: str, archives: Iterable[Archive], handed: Iterable[Path]) -> dict[str, Path]:
    """{archive's official name: file} for files given by hand; DataError for one that is none of them."""
    found = {}
    known = list(archives)
    for file in handed:
        if not file.is_file():
            raise DataError(f"--from {file}: there is no such file.")
        match = next((a for a in known if a.bytes in {None, file.stat().st_size} and _fits(file, a)), None)
        if match is None:
            expected = " or ".join(a.describe() for a in known) or "no archive: it has to be unpacked by hand"
            raise DataError(
                f"{file} ({file.stat().st_size:,} bytes) is not an archive of {DATASETS[name].label} as published: "
                f"expected {expected}.{_looks_like(file)} A re-packed copy has to be unpacked by hand; then type "
                f"`suite data verify {name}`."
            )
        found[match.file] = file
    return found


def _placed(archive: Archive, data_root: Path) -> Path | None:
    """An archive that somebody put below the data root; DataError if it is not what it should be."""
    beside = (data_root / archive.gives).parent
    for place in (data_root / archive.file, data_root / DOWNLOADS / archive.file, beside / archive.file):
        if place.is_file():
            if not _fits(place, archive):
                raise DataError(
                    f"{place} ({place.stat().st_size:,} bytes) is not {archive.describe()}: cut off, or another file."
                    f"{_looks_like(place)} Delete it, or get it again."
                )
            return place
    return None


def _fits(file: Path, archive: Archive) -> bool:
    from pooch.hashes import hash_matches

    return archive.bytes in {None, file.stat().st_size} and bool(hash_matches(str(file), archive.hash))


def _looks_like(file: Path) -> str:
    with file.open("rb") as start:
        return " It is a web page." if start.read(256).lstrip()[:1] == b"<" else ""


def _check_space(archive: Archive, data_root: Path) -> None:
    """DataError if the archive and what it unpacks to will not fit."""
    data_root.mkdir(parents=True, exist_ok=True)
    part = data_root / DOWNLOADS / f"{archive.file}.part"
    there = part.stat().st_size if part.exists() else 0
    needed = 2 * (archive.bytes or 0) - there  # photographs hardly shrink in an archive
    free = shutil.disk_usage(data_root).free
    if needed > free:
        raise DataError(
            f"{data_root} has {free / 1e9:.1f} GB free, and {archive.file} needs {needed / 1e9:.1f} GB, packed and "
            f"unpacked. Free space, or give another data root with --data."
        )
