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

_BUSY = 5.0  # seconds between two looks at a job that another process works on
_REQUEUED = 120.0  # seconds for Slurm to end this process after it has accepted the requeue


class Order(BaseModel):
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


class Stop:
    """Whether, and by which signal, this process was asked to stop."""

    def __init__(self, save_and_requeue: str) -> None:
        self._again = signal.Signals[f"SIG{save_and_requeue}"]
        self._by: set[int] = set()
        self.told_to_leave = threading.Event()

    def listen(self) -> None:
        """Take both signals, in place of submitit's handlers, which would act in the middle of a step."""
        for number in (self._again, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _: object) -> None:
        self._by.add(number)
        if number == signal.SIGTERM:
            self.told_to_leave.set()

    def asked(self) -> bool:
        """By either signal."""
        return bool(self._by)

    @property
    def to_requeue(self) -> bool:
        """Whether this process is to requeue the Slurm job."""
        return self._again in self._by and not self.told_to_leave.is_set()


def run_task(order_json: str) -> str:
    """Run the job and return its outcome. Raises TrainingError if the jobs that depend on it must not start. An error
    before training begins goes to the Slurm job's log only, and is read from there when its record is settled."""
    secure_process()
    order = Order.model_validate_json(order_json)
    open_to_group(order.runs)
    stop = Stop(order.signal)
    stop.listen()
    load_plugins(order.plugins)
    outcome, error = _run(Job(_spec(order), order.name), order, stop)
    if outcome == "busy" or (outcome == "interrupted" and stop.to_requeue):
        _start_again(order, stop)
    if outcome not in {"done", "elsewhere"}:
        raise TrainingError(f"{order.name} ({order.key}) {outcome}: {error or 'stopped on request'}")
    return outcome


def _run(job: Job, order: Order, stop: Stop) -> tuple[str, str]:
    from suite.execute.ddp.group import Rank
    from suite.execute.ddp.launched import run_launched
    from suite.execute.loaders import steps_ahead

    rank = Rank.from_slurm(os.environ) if order.devices > 1 else Rank()
    accelerator: Literal["cpu", "cuda"] = "cuda" if order.gpu else "cpu"
    device = Device(
        accelerator,
        threads=order.threads,
        checkpoint_minutes=order.checkpoint_minutes,
        loaders=order.loaders,
        steps_ahead=steps_ahead(),
        online=order.online,
    )
    if order.gpu and device.kind != "cuda":
        return "failed", f"the site file asks for a GPU, but torch sees none on {os.uname().nodename}"
    # Wait while another process works on the job; usually the job is done then. Other ranks wait for rank 0.
    while rank.rank == 0 and Store(order.runs).status(job.key) == "running":
        if stop.told_to_leave.wait(_BUSY) or stop.asked():
            return "interrupted", "another process worked on it"
    paths = RunPaths(order.runs, order.cache, order.plugins)
    end = run_launched(job, JobContext(paths, device, stop.asked), rank)
    return end.outcome, end.error


def _start_again(order: Order, stop: Stop) -> None:
    """Requeue this job, and wait for Slurm to end this process. Returns only if the job is not requeued."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    try:
        if restarts >= order.requeues:
            raise TrainingError(
                f"requeued {restarts} times and still not finished; raise requeues or time in the site file"
            )
        if os.environ.get("SLURM_PROCID", "0") == "0":  # one of the job's processes does it for all
            requeue(os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{task}")
    except (TrainingError, QueueSilent) as error:
        Store(order.runs).fail(order.key, Failure(error=str(error), kind="killed", traceback=""))
        return
    stop.told_to_leave.wait(_REQUEUED)


def _spec(order: Order) -> JobSpec:
    """The submitted spec, if today's code would still train the same thing."""
    spec = parse_spec(order.spec)
    if (key := content_key(spec)) != order.key or (changed := next(_changed(spec), None)) is not None:
        what = f"its spec now reads as job {key}" if key != order.key else changed
        raise TrainingError(
            f"the code has changed since {order.name} was submitted as {order.key}: {what}. The same `suite run` "
            "submits the job with the present code."
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
