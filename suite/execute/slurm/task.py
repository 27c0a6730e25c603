"""The code of a Slurm task: run one job of the store from its spec as it was submitted.

SIGUSR1 (or the site's other signal; shortly before the time limit, or at preemption): save, requeue the Slurm job, and
exit; the next start resumes. SIGTERM (scancel, `scontrol requeue`, preemption): save and exit; Slurm decides whether
the job starts again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from methods.registry import ALIGNMENT, OBJECTIVES, VIEWS
from suite.environment import secure_process
from suite.errors import TrainingError
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.engine import QueueSilent
from suite.execute.slurm.queue import requeue
from suite.filesystem import open_to_group
from suite.jobs.identity import Job, JobSpec, content_key
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import parse_spec
from suite.plugin import load_plugins
from suite.store.store import Failure, Store
from suite.training.online import OnlineKnn

_BUSY_POLL_SECONDS = 5.0  # seconds between two looks at a job that another process works on
_REQUEUED = 120.0  # seconds for Slurm to end this process after it has accepted the requeue


class TaskParameters(BaseModel):
    """The arguments of a task. JSON, not a pickle of our classes: code may change while the job waits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    name: str
    spec: dict[str, Any]
    runs: Path
    cache: Path
    plugins: tuple[Path, ...]
    threads: int
    gpu: bool
    devices: int = 1
    loaders: int = 0
    checkpoint_minutes: float
    signal: str
    requeues: int
    online: OnlineKnn | None = None


class StopSignals:
    """Whether, and by which signal, this process was asked to stop."""

    def __init__(self, save_and_requeue: str) -> None:
        self._requeue_signal = signal.Signals[f"SIG{save_and_requeue}"]
        self._received: set[int] = set()
        self.termination = threading.Event()

    def listen(self) -> None:
        """Take both signals, in place of submitit's handlers, which would act in the middle of a step."""
        for number in (self._requeue_signal, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _: object) -> None:
        self._received.add(number)
        if number == signal.SIGTERM:
            self.termination.set()

    def requested(self) -> bool:
        """Whether either signal has come."""
        return bool(self._received)

    @property
    def to_requeue(self) -> bool:
        """Whether this process is to requeue the Slurm job."""
        return self._requeue_signal in self._received and not self.termination.is_set()


def run_task(parameters_json: str) -> str:
    """Run the job and return its outcome. Raises TrainingError if the jobs that depend on it must not start. An error
    before training begins goes to the Slurm job's log only, and is read from there when its record is settled."""
    secure_process()
    parameters = TaskParameters.model_validate_json(parameters_json)
    open_to_group(parameters.runs)
    stop = StopSignals(parameters.signal)
    stop.listen()
    load_plugins(parameters.plugins)
    outcome, error = _run(Job(_spec(parameters), parameters.name), parameters, stop)
    if outcome == "busy" or (outcome == "interrupted" and stop.to_requeue):
        _requeue(parameters, stop)
    if outcome not in {"done", "elsewhere"}:
        raise TrainingError(f"{parameters.name} ({parameters.key}) {outcome}: {error or 'stopped on request'}")
    return outcome


def _run(job: Job, parameters: TaskParameters, stop: StopSignals) -> tuple[str, str]:
    from suite.execute.ddp.group import Rank
    from suite.execute.ddp.launched import run_launched
    from suite.execute.loaders import steps_ahead

    rank = Rank.from_slurm(os.environ) if parameters.devices > 1 else Rank()
    accelerator: Literal["cpu", "cuda"] = "cuda" if parameters.gpu else "cpu"
    device = Device(
        accelerator,
        threads=parameters.threads,
        checkpoint_minutes=parameters.checkpoint_minutes,
        loaders=parameters.loaders,
        steps_ahead=steps_ahead(),
        online=parameters.online,
    )
    if parameters.gpu and device.kind != "cuda":
        return "failed", f"the site file asks for a GPU, but torch sees none on {os.uname().nodename}"
    # Wait while another process works on the job; usually the job is done then. Other ranks wait for rank 0.
    while rank.rank == 0 and Store(parameters.runs).status(job.key) == "running":
        if stop.termination.wait(_BUSY_POLL_SECONDS) or stop.requested():
            return "interrupted", "another process worked on it"
    paths = RunPaths(parameters.runs, parameters.cache, parameters.plugins)
    end = run_launched(job, JobContext(paths, device, stop.requested), rank)
    return end.outcome, end.error


def _requeue(parameters: TaskParameters, stop: StopSignals) -> None:
    """Requeue this job, and wait for Slurm to end this process. Returns only if the job is not requeued."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    try:
        if restarts >= parameters.requeues:
            raise TrainingError(
                f"requeued {restarts} times and still not finished; raise requeues or time in the site file"
            )
        if os.environ.get("SLURM_PROCID", "0") == "0":  # one of the job's processes does it for all
            requeue(os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{task}")
    except (TrainingError, QueueSilent) as error:
        Store(parameters.runs).fail(parameters.key, Failure(error=str(error), kind="killed", traceback=""))
        return
    stop.termination.wait(_REQUEUED)


def _spec(parameters: TaskParameters) -> JobSpec:
    """The submitted spec, if today's code would still train the same thing."""
    spec = parse_spec(parameters.spec)
    if (key := content_key(spec)) != parameters.key or (changed := next(_changed(spec), None)) is not None:
        what = f"its spec now reads as job {key}" if key != parameters.key else changed
        raise TrainingError(
            f"the code has changed since {parameters.name} was submitted as {parameters.key}: {what}. The same "
            "`suite run` submits the job with the present code."
        )
    return spec


def _changed(spec: JobSpec) -> Iterator[str]:
    """Components whose version or plugin file has changed since the job was submitted."""
    today = type(spec).model_fields["version"].default
    if spec.version != today:
        yield f"{spec.kind} is version {today} now, not {spec.version}"
    if not isinstance(spec, PretrainSpec):
        return
    blocks = [(spec.objective, OBJECTIVES), (spec.views, VIEWS), (spec.alignment, {"saliency": ALIGNMENT})]
    for block, registry in blocks:
        entry = None if block is None else registry.get(block.name)
        if block is not None and (entry is None or (entry.version, entry.sha256) != (block.version, block.code)):
            yield f"{block.name} is another version now"
