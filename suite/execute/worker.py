"""Runs one job in this process: claim it, open its data, train or measure, write the result."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import Timeout

from suite.errors import StoreError, TrainingError
from suite.execute.context import JobContext
from suite.execute.ddp.group import ProcessGroup, Rank, SingleProcess, fabric_of
from suite.execute.device_errors import breaks_process, explained
from suite.execute.device_memory import release_device_memory
from suite.execute.loaders import torch_threads
from suite.execute.provenance import environment
from suite.jobs.identity import Job
from suite.jobs.sections import Precision
from suite.kinds.base import DataJobSpec
from suite.kinds.registry import TrainingSpec, kind_of
from suite.output import RedactingFormatter
from suite.planning.costs import Speed, throughput_key
from suite.planning.throughput import record_speed
from suite.store.claim import ClaimLost
from suite.store.store import Failure, Result, Store, sha256
from suite.training.outcome import Outcome

log = logging.getLogger(__name__)


class JobEnd(NamedTuple):
    """The end of a job.

    Attributes:
        outcome: "busy": another process works on the job; "elsewhere": another has done it.
        error: of a failure, in one line.
        retire: the error leaves this process unable to run another job, as a broken CUDA context does.
    """

    outcome: Literal["done", "failed", "interrupted", "busy", "elsewhere"]
    error: str = ""
    retire: bool = False


def run_job(job: Job, context: JobContext, processes: ProcessGroup | None = None) -> JobEnd:
    """Run `job` unless it is done; its parents must be. Never raises for an error in training.

    Jobs with epochs are trained together with `processes`; others need one pass over the images and use one process.
    """
    if processes is None or not kind_of(job.spec).trains:
        context = replace(context, device=replace(context.device, devices=1))
        processes = SingleProcess()
    try:
        return _claim_and_run(job, Store(context.paths.runs), context, processes)
    except Timeout:
        return JobEnd("busy")
    except (OSError, StoreError) as error:  # nothing can be written into the store, not even the reason
        return JobEnd("failed", str(error))
    finally:
        release_device_memory(page_locked=True)  # the next job of this worker may be small


def _claim_and_run(job: Job, store: Store, context: JobContext, processes: ProcessGroup) -> JobEnd:
    from suite.training.session import Interrupted

    with store.claim(job.key).acquire() as claim:

        def should_stop() -> bool:
            claim.check_now_and_then()
            return context.should_stop()

        if store.result(job.key) is not None:
            return JobEnd("elsewhere")
        store.begin(job, environment(context.device))
        with _logging_to(store.folder(job.key) / "log.txt"):
            try:
                with processes.connect(job, context.paths) as rank:
                    result = _to_result(job, store, replace(context, should_stop=should_stop), rank)
                claim.check()
                store.finish(result)
            except ClaimLost:
                return JobEnd("busy")  # nothing is written: the folder belongs to another process now
            except Interrupted:
                log.info("stopped on request; the next run resumes here")
                store.fail(job.key, Failure(error="stopped on request", kind="killed", traceback=""))
                return JobEnd("interrupted")
            except Exception as error:  # the other jobs continue, and the reason is kept
                text, tail = f"{type(error).__name__}: {explained(error, job.spec)}", store.log_tail(job.key)
                log.exception("failed")
                store.fail(job.key, Failure(error=text, kind="failed", traceback=traceback.format_exc(), log=tail))
                return JobEnd("failed", text, breaks_process(error))
    _record_speed(store, job, context, result)
    return JobEnd("done")


def follow_job(job: Job, context: JobContext, rank: Rank) -> None:
    """The part of a rank other than 0 in a job that rank 0 runs with `run_job`. Writes nothing; errors are raised."""
    from suite.training.session import Interrupted

    with contextlib.suppress(Interrupted):
        _run_loop(job, Store(context.paths.runs), context, rank)


def _to_result(job: Job, store: Store, context: JobContext, rank: Rank) -> Result:
    outcome, seconds = _run_loop(job, store, context, rank)
    folder = store.folder(job.key)
    files = {path.name: sha256(path) for path in sorted((folder / "checkpoint").glob("*.safetensors"))}
    for reason in outcome.suspicious:
        log.warning("suspicious: %s", reason)
    log.info("done: %s", ", ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items()))
    return Result(
        key=job.key,
        name=job.name,
        metrics=outcome.metrics,
        counts=outcome.counts,
        files=files,
        suspicious=outcome.suspicious,
        seconds=seconds,
        images_per_second=outcome.images / outcome.seconds if outcome.seconds else 0.0,
    )


def _run_loop(job: Job, store: Store, context: JobContext, rank: Rank) -> tuple[Outcome, float]:
    """The loop's outcome (complete in rank 0 only), and the seconds spent, earlier attempts included."""
    import torch

    from suite.training.feed import Loading
    from suite.training.inputs import Inputs
    from suite.training.session import Session

    device = context.device
    torch.set_num_threads(torch_threads(device.accelerator, device.loaders, device.threads))
    spec, kind = job.spec, kind_of(job.spec)
    if not isinstance(spec, DataJobSpec) or not kind.loop:
        raise TrainingError(f"{job.name} has to be imported before other jobs start.")
    precision: Precision = spec.train.precision if isinstance(spec, TrainingSpec) else "32-true"
    if device.kind != "cuda" and precision == "16-mixed":
        raise TrainingError(
            "the recipe asks for 16-mixed precision, which needs a GPU, and none is visible. On a CPU use "
            "--set pretrain.precision=32-true --set finetune.precision=32-true (another recipe, hence other jobs)."
        )
    fabric = fabric_of(rank, device.kind, device.gpu, precision)
    session = Session(store.folder(job.key), fabric, device.checkpoint_minutes, context.should_stop, context.report)
    session.loading = Loading(device.loaders, device.steps_ahead)
    log.info(
        "%s (%s) on %s, %d threads, %d device(s)", job.name, job.key, fabric.device, device.threads, rank.world_size
    )
    module, _, function = kind.loop.partition(":")
    loop = getattr(import_module(module), function)
    outcome: Outcome = loop(spec, Inputs(spec, context.paths.cache, store, device.online), session)
    return outcome, session.seconds


def _record_speed(store: Store, job: Job, context: JobContext, result: Result) -> None:
    if result.images_per_second:
        import torch

        speed = result.images_per_second, kind_of(job.spec).macs(job.spec)
        key, device = throughput_key(job.spec), context.device
        card = torch.cuda.get_device_name() if device.kind == "cuda" else ""
        with contextlib.suppress(OSError):  # only estimates of time would miss it
            record_speed(store.root, Speed(key, device.kind, *speed, device.devices, card=card))


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk must not fill the terminal
    root = logging.getLogger("suite")
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
