"""Prepare the data of a run before training: image stores and saliency maps, each built once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from suite.data.record import Dataset, Split
from suite.data.saliency.maps import SaliencyMaps, saliency_maps
from suite.errors import ImageError, SuiteError
from suite.jobs.identity import Job
from suite.kinds.base import DataJobSpec, MapsRead
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.registry import kind_of
from suite.progress import Progress, labelled_progress

_ADVICE = (
    " These maps are for localisation and background reliance alone; to run without those: "
    "--set localisation=null --set background=null"
)


def prepare(
    jobs: Iterable[Job], datasets: Mapping[str, Dataset], data_root: Path, cache: Path, progress: Progress
) -> None:
    """Build the image stores that the jobs read and compute the saliency maps they need, each only once.

    `suite.data.decoded.setting` has the rule by which a dataset is decoded here or during training. Either way every
    image is known to be decodable before the first job starts. The map files of a large dataset that is recognised by
    the times of its folders are not looked at again once its boxes are in the cache.

    Raises:
        DataError: an image that cannot be decoded, or weights or maps that are missing; before any training.
    """
    from suite.data.decoded.saliency import build_maps
    from suite.data.decoded.stores import prepare_images

    jobs = list(jobs)
    needs = {need: None for job in jobs for need in kind_of(job.spec).maps(job.spec)}
    trained = {need for job in jobs if kind_of(job.spec).trains for need in kind_of(job.spec).maps(job.spec)}
    unfinished = [need for need in needs if not _finished(need, datasets[need.data.name], cache)]
    data_read = {job.spec.data: None for job in jobs if isinstance(job.spec, DataJobSpec)}
    # Before the maps, which take a hundred times as long: a damaged image is found at once.
    stores = {data: prepare_images(datasets[data.name], data, cache, progress) for data in data_read}
    maps: dict[tuple[str, str, Split], SaliencyMaps] = {}
    for need in unfinished:
        dataset, saliency = datasets[need.data.name], need.saliency
        if (dataset.name, saliency.detector, need.split) not in maps:
            try:
                computed = saliency_maps(dataset, saliency, data_root, cache, progress, need.split)
            except ImageError:
                raise
            except SuiteError as error:
                raise type(error)(f"{error}{'' if need in trained else _ADVICE}") from error
            maps[dataset.name, saliency.detector, need.split] = computed
    for need in unfinished:
        dataset = datasets[need.data.name]
        computed = maps[dataset.name, need.saliency.detector, need.split]
        count_progress = labelled_progress(progress, f"saliency store {dataset.name}")
        build_maps(stores[need.data], dataset, need.saliency, computed, count_progress, need.split)


def _finished(need: MapsRead, dataset: Dataset, cache: Path) -> bool:
    """Whether a recognised dataset's maps have been brought into the sizes of its finished image store."""
    from suite.data.decoded.saliency import map_folder_beside
    from suite.data.decoded.stores import expected_folder

    if dataset.known_fingerprint is None:
        return False
    images = expected_folder(dataset, need.data, cache)
    return images.is_dir() and map_folder_beside(images, need.saliency, need.split).is_dir()


def undecoded(jobs: Iterable[Job], cache: Path) -> list[Job]:
    """Fine-tuning jobs whose image stores are not in the cache, or whose files are no longer where they were."""
    from suite.data.decoded.stores import has_images

    return [job for job in jobs if isinstance(job.spec, FinetuneSpec) and not has_images(cache, job.spec.data)]
