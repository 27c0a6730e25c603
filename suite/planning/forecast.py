"""Cost of a plan: hours, GPU-hours, disk, and the savings of shared stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from suite.cores import cores
from suite.data.catalogue import DATASETS
from suite.data.spec import DataSpec
from suite.grid.cell_jobs import CellJobs
from suite.grid.profile import Profile
from suite.jobs.identity import Job
from suite.kinds.base import DataJobSpec, MapsRead, Size
from suite.kinds.registry import TrainingSpec, kind_of
from suite.planning.costs import Costs, Estimate, Machine, rates, wall_clock
from suite.planning.plan import Plan
from suite.planning.throughput import read_speeds
from suite.store.store import Store

BOX_BYTES = 32  # of a salient box


@dataclass(frozen=True)
class StoreForecast:
    """The store that training reads a dataset's images from, and what is still to be written of it."""

    dataset: str
    ahead: bool  # decoded ahead of training; else on demand, from the original files
    bytes_to_write: int  # with the saliency maps in the store's sizes; their PNG files are not counted
    decoded_bytes: int  # of all images decoded, whether or not they are
    core_seconds: float  # to decode or check the images and compute their maps, where that is still to be done


@dataclass(frozen=True)
class Forecast:
    """Estimates for the jobs of a plan on a machine; those of cells whose data are missing are counted as well."""

    plan: Plan
    machine: Machine

    @cached_property
    def cells(self) -> list[CellJobs]:
        """Every cell's jobs, also where data are missing."""
        return [*self.plan.cell_jobs, *self.plan.unready]

    @cached_property
    def jobs(self) -> list[Job]:
        """Every distinct job, parents before children."""
        return list({job.key: job for cell in self.cells for job in cell.jobs}.values())

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Per key, for the whole job."""
        return {job.key: self._costs.estimate(job.spec) for job in self.jobs}

    @cached_property
    def remaining(self) -> dict[str, float]:
        """Seconds still to do per job that is not done; of an interrupted one, the epochs it has left."""
        store = self.plan.store
        started = store.started()
        return {
            job.key: self.estimates[job.key].seconds * (1 - (progress(store, job) if job.key in started else 0))
            for job in self.jobs
            if job.key not in started or not store.done(job.key)
        }

    @property
    def seconds(self) -> float:
        """All workers' time together."""
        return sum(self.remaining.values())

    @property
    def wall_seconds(self) -> float:
        """From start to end, with the machine's workers: the preparation of the data, then the jobs."""
        pending = [job for job in self.jobs if job.key in self.remaining]
        return self.preparation_seconds + wall_clock(pending, self.remaining, self.machine.workers)

    @property
    def preparation_seconds(self) -> float:
        """Decoding and saliency maps on all cores of this machine, before the first job."""
        return sum(store.core_seconds for store in self.stores) / cores()

    @property
    def gpu_seconds(self) -> float:
        """GPUs' time together; 0 on a CPU."""
        return self.seconds * self.machine.devices if self.machine.device == "cuda" else 0.0

    @property
    def disk_bytes(self) -> int:
        """Weights, image stores and saliency maps still to be written."""
        weights = sum(self._costs.bytes_of(job.spec) for job in self.jobs if job.key in self.remaining)
        return weights + sum(store.bytes_to_write for store in self.stores)

    @property
    def sources(self) -> Counter[str]:
        """Number of pending jobs by the source of their estimate: measured, benchmarked, calibrated or assumed."""
        return Counter(self.estimates[key].source for key in self.remaining)

    @property
    def alone(self) -> tuple[int, float]:
        """Jobs and seconds if every cell were run by itself."""
        return sum(len(cell.jobs) for cell in self.cells), self._sum(job for cell in self.cells for job in cell.jobs)

    @property
    def shared(self) -> tuple[int, float]:
        """Jobs and seconds as the suite runs them, each once."""
        return len(self.jobs), self._sum(self.jobs)

    def _sum(self, jobs: Iterable[Job]) -> float:
        return sum(self.estimates[job.key].seconds for job in jobs)

    @cached_property
    def _costs(self) -> Costs:
        return Costs(read_speeds(self.plan.workspace.runs), self.machine, self.sizes)

    @cached_property
    def sizes(self) -> dict[str, Size]:
        """Numbers of every dataset of the plan."""
        return sizes(self.plan)

    @cached_property
    def stores(self) -> list[StoreForecast]:
        """The image store of every dataset that pending jobs read, with the saliency maps beside it.

        By the sizes of a sample of the images; of a dataset that is not there, 4 : 3 with the store's short side.
        """
        pending = [job.spec for job in self.jobs if job.key in self.remaining]
        maps = {need: None for spec in pending for need in kind_of(spec).maps(spec)}
        return [
            self._store(data, [need for need in maps if need.data == data])
            for data in {spec.data: None for spec in pending if isinstance(spec, DataJobSpec)}
        ]

    def _store(self, data: DataSpec, maps: Iterable[MapsRead]) -> StoreForecast:
        from suite.data.decoded.images import store_folder
        from suite.data.decoded.saliency import map_folder_beside
        from suite.data.decoded.setting import assumed_sizes, decodes_ahead, sampled_sizes
        from suite.data.decoded.stores import expected_folder

        size, dataset, cache = self.sizes[data.name], self.plan.datasets.get(data.name), self.plan.workspace.cache
        folder = store_folder(cache, data.name, data.fingerprint, data.store_size)
        if dataset is None:
            images = assumed_sizes(size.train + size.test, data.store_size)
            ahead = decodes_ahead(DATASETS[data.name].labelled, images.decoded_bytes(data.store_size))
        else:
            images = sampled_sizes(dataset, data.fingerprint, cache)
            ahead = folder == (folder := expected_folder(dataset, data, cache))
        decoded = images.decoded_bytes(data.store_size)
        to_write = 0 if folder.is_dir() else decoded if ahead else images.index_bytes
        rate = rates().preparation
        each = rate.decode if ahead else rate.check
        core_seconds = 0.0 if folder.is_dir() else each * (size.train + size.test)
        for need in maps:
            if not map_folder_beside(folder, need.saliency, need.split).is_dir():
                count = getattr(size, need.split)
                core_seconds += count * rate.maps[need.saliency.detector]
                share = count / max(1, size.train + size.test)
                to_write += round(decoded / 3 * share) if ahead else count * BOX_BYTES
        return StoreForecast(data.name, ahead, to_write, decoded, core_seconds)


def progress(store: Store, job: Job) -> float:
    """Share of a job's epochs that are done and can be resumed from, 0 to 1."""
    if not isinstance(job.spec, TrainingSpec) or not (store.checkpoint(job.key) / "state.pt").is_file():
        return 0.0
    lines = store.metrics(job.key)
    return lines[-1]["epoch"] / job.spec.train.epochs if lines else 0.0


def sizes(plan: Plan) -> dict[str, Size]:
    """Numbers of every dataset of the plan: as it is, else as its synthetic form would be, else the official ones."""
    counts = {name: _synthetic(plan.profile, name) or _official(name) for cell in plan.cells for name in cell.data}
    for name, data in plan.datasets.items():
        counts[name] = Size(len(data.train), len(data.test), len(data.classes))
    return counts


def _synthetic(profile: Profile, name: str) -> Size | None:
    counts = None if profile.synthetic is None else getattr(profile.synthetic, name, None)
    if counts is None or isinstance(counts, int):
        return None if counts is None else Size(counts, 0, 0)
    return Size(counts.classes * counts.train, counts.classes * counts.test, counts.classes)


def _official(name: str) -> Size:
    info = DATASETS[name]
    return Size(info.train, info.test, info.classes)
