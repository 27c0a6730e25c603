"""The image store of a dataset, in whichever form it is: decoded ahead, or the original files."""

from __future__ import annotations

from pathlib import Path

from suite.data.decoded.files import build_index, has_index, index_folder, open_index
from suite.data.decoded.images import Facts, ImageStore, build_store, open_store, read_facts, store_folder
from suite.data.decoded.setting import decodes_ahead, on_demand_only, sampled_sizes
from suite.data.record import Dataset
from suite.data.spec import DataSpec
from suite.data.verify import is_verified
from suite.progress import Progress, labelled_progress


def prepare_images(dataset: Dataset, data: DataSpec, cache: Path, progress: Progress | None = None) -> ImageStore:
    """The store of a dataset, built unless it is there. `$SUITE_DECODE` decides on its form.

    Raises:
        DataError: an image cannot be decoded.
        UsageError: `$SUITE_DECODE` holds something else than a form.
    """
    if will_decode_ahead(dataset, data, cache):
        count_progress = None if progress is None else labelled_progress(progress, f"decode {data.name}")
        return build_store(dataset, data.fingerprint, data.store_size, cache, count_progress)
    verified = is_verified(data.name, data.fingerprint, cache)
    count_progress = (
        None if progress is None else labelled_progress(progress, f"{'index' if verified else 'check'} {data.name}")
    )
    return build_index(dataset, data.fingerprint, data.store_size, cache, count_progress, verified=verified)


def will_decode_ahead(dataset: Dataset, data: DataSpec, cache: Path) -> bool:
    """Whether the store is the decoded one. An existing one is used unless images are to be decoded on demand."""
    if _decoded(cache, data).is_dir() and not on_demand_only():
        return True
    sizes = sampled_sizes(dataset, data.fingerprint, cache)
    return decodes_ahead(dataset.info.labelled, sizes.decoded_bytes(data.store_size))


def expected_folder(dataset: Dataset, data: DataSpec, cache: Path) -> Path:
    """Folder of the store that `prepare_images` builds or finds."""
    return (_decoded if will_decode_ahead(dataset, data, cache) else _index)(cache, data)


def open_images(cache: Path, data: DataSpec) -> ImageStore:
    """The finished store of a dataset.

    Raises:
        StoreError: there is none; says how to rebuild it.
    """
    index = _index(cache, data)
    return open_index(index) if images_folder(cache, data) == index else open_store(_decoded(cache, data))


def has_images(cache: Path, data: DataSpec) -> bool:
    """Whether there is a finished store that can be read."""
    return _decoded(cache, data).is_dir() or has_index(_index(cache, data))


def images_folder(cache: Path, data: DataSpec) -> Path | None:
    """Folder of the finished store that `open_images` opens; None where there is none."""
    decoded, index = _decoded(cache, data), _index(cache, data)
    order = (index, decoded) if on_demand_only() else (decoded, index)
    folders = [folder for folder in order if folder.is_dir()]
    # An index whose images have moved still has the facts about them, but a decoded store can also be read.
    return next((folder for folder in folders if folder == decoded or has_index(index)), next(iter(folders), None))


def image_facts(cache: Path, data: DataSpec) -> Facts | None:
    """The facts about its dataset that the finished store records; None if there is no store."""
    folder = images_folder(cache, data)
    return None if folder is None else read_facts(folder)


def _decoded(cache: Path, data: DataSpec) -> Path:
    return store_folder(cache, data.name, data.fingerprint, data.store_size)


def _index(cache: Path, data: DataSpec) -> Path:
    return index_folder(cache, data.name, data.fingerprint, data.store_size)
