"""What runs inside a Slurm task: one job of the store, from its spec as it was submitted.

SIGUSR1 (or the site's other signal; shortly before the time limit, or at preemption): save, put the Slurm job back into
the queue, leave. The next start resumes. SIGTERM (scancel, `scontrol requeue`, preemption): save and leave; whether the
Slurm job comes back is Slurm's to decide.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from methods.registry import ALIGNMENT, OBJECTIVES, VIEWS
from suite.errors import TrainingError
from suite.execute.slurm.queue import QueueSilent, requeue
from suite.jobs.identity import Job, JobSpec, content_key
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import parse_spec
from suite.plugin import load_plugins
from suite.store.store import Failure, Store

_BUSY = 5.0  # seconds between two looks at a job that another process works on
_REQUEUED = 120.0  # seconds for Slurm to end this process after it has agreed to start it anew


class Order(BaseModel):
    """All that a task is told. JSON, not a pickle of our classes: code may change while the job waits."""

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
    checkpoint_minutes: float
    signal: str
    requeues: int


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
        """Whether the Slurm job is to be started again by this process's doing."""
        return self._again in self._by and not self.told_to_leave.is_set()


def run_task(order_json: str) -> str:
    """Do the job. Returns how it went; raises TrainingError where those that wait for it must not start. What is wrong
    before training begins goes to the Slurm job's log alone: whoever settles its record reads it there."""
    order = Order.model_validate_json(order_json)
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
    from suite.execute.ddp.group import Group
    from suite.execute.ddp.launched import run_started
    from suite.execute.places import Device, Places

    group = Group.from_slurm(os.environ) if order.devices > 1 else Group()
    device = Device("cuda" if order.gpu else "cpu", threads=order.threads, checkpoint_minutes=order.checkpoint_minutes)
    if order.gpu and device.kind != "cuda":
        return "failed", f"the site file asks for a GPU, but torch sees none on {os.uname().nodename}"
    # Another process works on it; mostly it is done then. The others of a group wait for process 0.
    while group.rank == 0 and Store(order.runs).status(job.key) == "running":
        if stop.told_to_leave.wait(_BUSY) or stop.asked():
            return "interrupted", "another process worked on it"
    places = Places(order.runs, order.cache, order.plugins)
    return run_started(job, places, device, stop.asked, lambda _: None, group)


def _start_again(order: Order, stop: Stop) -> None:
    """Have Slurm start this job anew, and wait to be ended by it. Returns only if it is not to be."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    try:
        if restarts >= order.requeues:
            raise TrainingError(f"requeued {restarts} times without an end; raise requeues or time in the site file")
        if os.environ.get("SLURM_PROCID", "0") == "0":  # one of the job's processes speaks for all
            requeue(os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{task}")
    except (TrainingError, QueueSilent) as error:
        Store(order.runs).fail(order.key, Failure(error=str(error), kind="killed", traceback=""))
        return
    stop.told_to_leave.wait(_REQUEUED)


def _spec(order: Order) -> JobSpec:
    """The submitted spec, if today's code would still train the very same thing."""
    spec = parse_spec(order.spec)
    if (key := content_key(spec)) != order.key or (changed := next(_changed(spec), None)) is not None:
        what = f"its spec now reads as job {key}" if key != order.key else changed
        raise TrainingError(
            f"the code has changed since {order.name} was submitted as {order.key}: {what}. The same `suite run` "
            "submits it as it is now."
        )
    return spec


def _changed(spec: JobSpec) -> Iterator[str]:
    """What has another version, or another plugin file, than when the job was submitted."""
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
