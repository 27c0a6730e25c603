"""Everything between a selection of cells and training: load, check, fingerprint, saliency, decoded stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from suite.cores import cores
from suite.data.detectors import DETECTORS, make_detector, mask_places
from suite.data.find import fingerprint
from suite.data.record import Dataset, Split
from suite.data.saliency import SaliencyMaps, compute_saliency
from suite.data.synthetic.spec import SyntheticSpec
from suite.errors import SuiteError
from suite.grid.jobs import (
    BackgroundSpec,
    DataSpec,
    FinetuneSpec,
    ImportSpec,
    Job,
    JobSpec,
    LocalisationSpec,
    PretrainSpec,
    SaliencySpec,
    content_key,
)

Progress = Callable[[str, int, int], None]  # what, done, total

_ADVICE = (
    " These maps are for localisation and background reliance alone; to run without those: "
    "--set localisation=null --set background=null"
)
DETECTOR_IDENTITIES = {name: (info.version, info.weights_sha256) for name, info in DETECTORS.items()}


def synthetic_root(spec: SyntheticSpec, cache: Path) -> Path:
    """Where the drawn datasets of a spec are, whether or not they have been drawn."""
    from suite.data.synthetic.write import VERSION

    return cache / "synthetic" / f"{content_key(spec)[:12]}-v{VERSION}"


def draw_synthetic(spec: SyntheticSpec, cache: Path) -> Path:
    """Draw the datasets of a spec unless that has been done. Returns the data root."""
    from filelock import FileLock

    from suite.data.synthetic.write import write_synthetic

    root = synthetic_root(spec, cache)
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{root}.lock"):
        write_synthetic(root, spec)
    return root


def fingerprints(datasets: Mapping[str, Dataset], cache: Path) -> dict[str, str]:
    """Content hash per dataset."""
    return {name: fingerprint(dataset, cache) for name, dataset in datasets.items()}


def prepare(
    jobs: Iterable[Job], datasets: Mapping[str, Dataset], data_root: Path, cache: Path, progress: Progress
) -> None:
    """Decode what the jobs read and compute the saliency maps they need, each only once.

    Raises:
        DataError: an image that cannot be decoded, or weights or maps that are missing; before any training.
    """
    from suite.data.images import build_store
    from suite.data.maps import build_maps

    jobs = list(jobs)
    saliency_needs = {need: None for job in jobs for need in _map_needs(job.spec)}
    trained = {need for job in jobs if isinstance(job.spec, PretrainSpec) for need in _map_needs(job.spec)}
    maps = {}
    for need in saliency_needs:
        data, saliency, split = need
        dataset = datasets[data.name]
        if (dataset.name, saliency.detector, split) not in maps:
            try:
                found = saliency_maps(dataset, saliency, data_root, cache, progress, split)
            except SuiteError as error:
                raise type(error)(f"{error}{'' if need in trained else _ADVICE}") from error
            maps[dataset.name, saliency.detector, split] = found
    for data in {job.spec.data: None for job in jobs if not isinstance(job.spec, ImportSpec)}:
        dataset = datasets[data.name]
        store = build_store(dataset, data.fingerprint, data.store_size, cache, _named(progress, f"decode {data.name}"))
        for needed, saliency, split in saliency_needs:
            if needed == data:
                found = maps[dataset.name, saliency.detector, split]
                build_maps(store, dataset, saliency, found, _named(progress, f"saliency store {data.name}"), split)


def _map_needs(spec: JobSpec) -> Iterator[tuple[DataSpec, SaliencySpec, Split]]:
    """Which maps a job reads, of which images. What is trained reads none of test images."""
    match spec:
        case PretrainSpec() if spec.saliency is not None:
            yield spec.data, spec.saliency, "train"
        case LocalisationSpec():
            yield spec.data, spec.saliency, "train"
            yield spec.data, spec.saliency, "test"
            if spec.masks is not None:
                yield spec.data, spec.masks, "test"
        case BackgroundSpec():
            yield spec.data, spec.saliency, "test"


def undecoded(jobs: Iterable[Job], cache: Path) -> list[Job]:
    """Fine-tuning jobs whose decoded images are not in the cache."""
    from suite.data.images import store_folder

    return [
        job
        for job in jobs
        if isinstance(job.spec, FinetuneSpec)
        and not store_folder(cache, job.spec.data.name, job.spec.data.fingerprint, job.spec.data.store_size).is_dir()
    ]


def saliency_maps(
    dataset: Dataset,
    saliency: SaliencySpec,
    data_root: Path,
    cache: Path,
    progress: Progress | None = None,
    split: Split = "train",
) -> SaliencyMaps:
    """Maps of one split's images, computed where they are missing."""
    maps, records = SaliencyMaps.of(dataset, DETECTORS[saliency.detector], cache), dataset.split(split)
    if not maps.missing(records):
        return maps
    detector = make_detector(saliency.detector, data_root, cache)
    named = None if progress is None else _named(progress, f"saliency {dataset.name} {split}")
    return compute_saliency(dataset, records, detector, cache, cores(), progress=named)


def masked(datasets: Iterable[Dataset]) -> set[str]:
    """Names of the datasets that come with official masks, as the first test image tells."""
    return {
        dataset.name
        for dataset in datasets
        if dataset.test and any(place.is_file() for place in mask_places(dataset.test[0], dataset))
    }


def _named(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)
