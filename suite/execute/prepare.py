"""Prepare the data of a run before training: decoded images and saliency maps, each made once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from suite.data.record import Dataset
from suite.data.saliency.maps import _named, saliency_maps
from suite.errors import ImageError, SuiteError
from suite.jobs.identity import Job
from suite.kinds.base import DataJobSpec
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.registry import kind_of
from suite.progress import Progress

_ADVICE = (
    " These maps are for localisation and background reliance alone; to run without those: "
    "--set localisation=null --set background=null"
)


def prepare(
    jobs: Iterable[Job], datasets: Mapping[str, Dataset], data_root: Path, cache: Path, progress: Progress
) -> None:
    """Decode what the jobs read and compute the saliency maps they need, each only once.

    Raises:
        DataError: an image that cannot be decoded, or weights or maps that are missing; before any training.
    """
    from suite.data.decoded.images import build_store
    from suite.data.decoded.saliency import build_maps

    jobs = list(jobs)
    saliency_needs = {need: None for job in jobs for need in kind_of(job.spec).maps(job.spec)}
    trained = {need for job in jobs if kind_of(job.spec).trains for need in kind_of(job.spec).maps(job.spec)}
    maps = {}
    for need in saliency_needs:
        saliency, split = need.saliency, need.split
        dataset = datasets[need.data.name]
        if (dataset.name, saliency.detector, split) not in maps:
            try:
                maps_folder = saliency_maps(dataset, saliency, data_root, cache, progress, split)
            except ImageError:
                raise
            except SuiteError as error:
                raise type(error)(f"{error}{'' if need in trained else _ADVICE}") from error
            maps[dataset.name, saliency.detector, split] = maps_folder
    for data in {job.spec.data: None for job in jobs if isinstance(job.spec, DataJobSpec)}:
        dataset = datasets[data.name]
        store = build_store(dataset, data.fingerprint, data.store_size, cache, _named(progress, f"decode {data.name}"))
        for need in saliency_needs:
            if need.data == data:
                maps_folder = maps[dataset.name, need.saliency.detector, need.split]
                named = _named(progress, f"saliency store {data.name}")
                build_maps(store, dataset, need.saliency, maps_folder, named, need.split)


def undecoded(jobs: Iterable[Job], cache: Path) -> list[Job]:
    """Fine-tuning jobs whose decoded images are not in the cache."""
    from suite.data.decoded.images import store_folder

    return [
        job
        for job in jobs
        if isinstance(job.spec, FinetuneSpec)
        and not store_folder(cache, job.spec.data.name, job.spec.data.fingerprint, job.spec.data.store_size).is_dir()
    ]
