"""From arrays of jobs to sbatch, by submitit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.errors import UsageError
from suite.execute.context import RunPaths
from suite.execute.slurm.arrays import Array, into_arrays
from suite.execute.slurm.queue import cancel
from suite.execute.slurm.records import SubmittedJob, folder, write_record
from suite.execute.slurm.site import Resources, Site
from suite.execute.slurm.task import TaskParameters, run_task
from suite.execute.variables import job_variables
from suite.jobs.identity import Job
from suite.store.store import Store
from suite.training.online import OnlineKnn


@dataclass(frozen=True)
class ResourceRequest:
    """The resources of each task of an array."""

    kind: str  # named in the queue
    resources: Resources
    minutes: int


@dataclass(frozen=True)
class Submission:
    """The settings of a submission to one cluster."""

    site: Site
    paths: RunPaths
    checkpoint_minutes: float
    at_once: int  # tasks of one array that run side by side
    online: OnlineKnn | None = None  # measured during pretraining

    def submit(
        self, jobs: Sequence[Job], seconds: Mapping[str, float], queued: Mapping[str, str]
    ) -> dict[str, SubmittedJob]:
        """Submit `jobs`, all or none, and record them.

        Args:
            jobs: parents before children; parents elsewhere are done or in `queued`.
            seconds: expected duration per key; decides time limits and which comes first.
            queued: Slurm job per key, of jobs that were submitted before.

        Raises:
            UsageError: sbatch refuses; says why.
        """
        requests = {
            job.key: ResourceRequest(
                job.spec.kind, self.site.resources(job.spec.kind), self.site.minutes(seconds.get(job.key, 0.0))
            )
            for job in jobs
        }
        arrays = into_arrays(jobs, requests, seconds, queued, self.site.array_largest)
        store, records, ids = Store(self.paths.runs), dict[str, SubmittedJob](), list[str]()
        slurm_ids = dict(queued)
        try:
            for array in arrays:
                submitted = self._sbatch(array, slurm_ids, ids)
                ids.append(submitted[0][0].partition("_")[0])
                for job, (slurm, log) in zip(array.jobs, submitted, strict=True):
                    slurm_ids[job.key] = slurm
                    records[job.key] = SubmittedJob(
                        job.key, job.name, slurm, log, time.time(), job.spec.model_dump(mode="json")
                    )
                    write_record(store, records[job.key])
        except BaseException:
            cancel(ids)
            raise
        return records

    def _sbatch(
        self, array: Array[ResourceRequest], slurm_ids: Mapping[str, str], ids: Sequence[str]
    ) -> list[tuple[str, str]]:
        """One call of sbatch. Returns, per job, Slurm's id and the file that its process prints to."""
        import submitit
        from submitit.core.utils import FailedJobError

        executor = submitit.SlurmExecutor(folder(Store(self.paths.runs)) / "files")
        waits = [f"afterok:{':'.join(slurm_ids[key] for key in array.afterok)}"] if array.afterok else []
        waits += [f"aftercorr:{ids[index]}" for index in array.aftercorr]
        executor.update_parameters(**self.parameters(array.request, waits))
        try:
            submitted = executor.map_array(run_task, [self._parameters_json(job, array.request) for job in array.jobs])
        except FailedJobError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UsageError(f"sbatch refuses {array.jobs[0].name}: {reason}. Nothing was submitted.") from None
        return [(str(job.job_id), str(job.paths.stderr)) for job in submitted]

    def parameters(self, request: ResourceRequest, waits: Sequence[str]) -> dict[str, Any]:
        """Arguments of submitit's `update_parameters`."""
        site, used = self.site, request.resources
        variables = [f"export {name}={value}" for name, value in job_variables(used.threads).items()]
        requested = {
            "job_name": f"suite-{request.kind}", "time": request.minutes, "nodes": used.nodes,
            "ntasks_per_node": used.tasks_per_node, "cpus_per_task": used.cpus_per_task,
            "gpus_per_node": used.gpus_per_node or None, "mem": f"{round(used.mem_gb * 1024)}M",
            "partition": used.partition, "account": used.account, "qos": used.qos, "constraint": used.constraint,
            "dependency": ",".join(waits) or None, "array_parallelism": self.at_once,
            "setup": [*variables, *site.setup],
            # Since 22.05 srun no longer takes this from sbatch. A requeued job appends to its log.
            # Where one process of a group fails, the others would wait for it.
            "srun_args": [f"--cpus-per-task={used.cpus_per_task}", "--open-mode=append", "--kill-on-bad-exit=1"],
        }  # fmt: skip
        always = {
            "signal": f"{site.signal}@{site.grace_seconds}", "requeue": True, "kill-on-invalid-dep": "yes",
            "open-mode": "append",
        }  # fmt: skip
        return {**requested, "wckey": None, "additional_parameters": {**always, **site.options}}

    def _parameters_json(self, job: Job, request: ResourceRequest) -> str:
        return TaskParameters(
            key=job.key,
            name=job.name,
            spec=job.spec.model_dump(mode="json"),
            runs=self.paths.runs,
            cache=self.paths.cache,
            plugins=self.paths.plugins,
            threads=request.resources.threads,
            gpu=request.resources.gpus_per_node > 0,
            devices=request.resources.devices,
            loaders=request.resources.loaders_per_task,
            checkpoint_minutes=self.checkpoint_minutes,
            signal=self.site.signal,
            requeues=self.site.requeues,
            online=self.online,
        ).model_dump_json()
