"""Runs one job in this process: claim it, map its data, train, write the result."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Literal

from filelock import Timeout

from suite.errors import StoreError, TrainingError
from suite.execute.ddp.group import Alone, Crew, Group, fabric_of
from suite.execute.places import Device, Places
from suite.execute.provenance import environment
from suite.jobs.identity import Job
from suite.jobs.sections import Precision
from suite.kinds.base import DataJobSpec
from suite.kinds.registry import TrainingSpec, kind_of
from suite.planning.costs import Speed, throughput_key
from suite.planning.throughput import record_speed
from suite.store.claim import ClaimLost
from suite.store.store import Failure, Result, Store, sha256
from suite.training.outcome import Outcome

log = logging.getLogger(__name__)

# "busy": another process works on the job. "elsewhere": another has done it.
End = Literal["done", "failed", "interrupted", "busy", "elsewhere"]


def run_job(
    job: Job,
    places: Places,
    device: Device,
    should_stop: Callable[[], bool],
    report: Callable[[dict[str, float]], None],
    crew: Crew | None = None,
) -> tuple[End, str]:
    """Do `job` unless it is done; its parents must be. Never raises for what goes wrong in training.

    What has epochs is trained together with `crew`. Probes are not: one pass over the images is soon over.

    Returns:
        The outcome and, for a failure, the error in one line.
    """
    if crew is None or not kind_of(job.spec).trains:
        device, crew = replace(device, devices=1), Alone()
    try:
        return _claim_and_run(job, Store(places.runs), places, device, crew, should_stop, report)
    except Timeout:
        return "busy", ""
    except (OSError, StoreError) as error:  # nothing can be written into the store, not even why
        return "failed", str(error)


def _claim_and_run(
    job: Job,
    store: Store,
    places: Places,
    device: Device,
    crew: Crew,
    should_stop: Callable[[], bool],
    report: Callable[[dict[str, float]], None],
) -> tuple[End, str]:
    from suite.training.session import Interrupted

    with store.claim(job.key).acquire() as claim:

        def stopping() -> bool:
            claim.check_now_and_then()
            return should_stop()

        if store.result(job.key) is not None:
            return "elsewhere", ""
        store.begin(job, environment(device))
        with _logging_to(store.folder(job.key) / "log.txt"):
            try:
                with crew.at_work(job, places) as group:
                    result = _to_result(job, store, places, device, group, stopping, report)
                claim.check()
                store.finish(result)
            except ClaimLost:
                return "busy", ""  # nothing is written: the folder is another's now
            except Interrupted:
                log.info("stopped on request; the next run resumes here")
                store.fail(job.key, Failure(error="stopped on request", kind="killed", traceback=""))
                return "interrupted", ""
            except Exception as error:  # whatever it is, the other jobs go on and the cause is kept
                text, tail = f"{type(error).__name__}: {error}", store.log_tail(job.key)
                log.exception("failed")
                store.fail(job.key, Failure(error=text, kind="failed", traceback=traceback.format_exc(), log=tail))
                return "failed", text
    if result.images_per_second:
        speed = result.images_per_second, kind_of(job.spec).macs(job.spec)
        with contextlib.suppress(OSError):  # only estimates would miss it
            record_speed(store.root, Speed(throughput_key(job.spec), device.kind, *speed, device.devices))
    return "done", ""


def follow_job(job: Job, places: Places, device: Device, group: Group) -> None:
    """Another process's share of a job that process 0 does with `run_job`. Writes nothing, raises what goes wrong."""
    from suite.training.session import Interrupted

    with contextlib.suppress(Interrupted):
        _run_loop(job, Store(places.runs), places, device, group)


def _to_result(
    job: Job,
    store: Store,
    places: Places,
    device: Device,
    group: Group,
    should_stop: Callable[[], bool],
    report: Callable[[dict[str, float]], None],
) -> Result:
    outcome, seconds = _run_loop(job, store, places, device, group, should_stop, report)
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


def _run_loop(
    job: Job,
    store: Store,
    places: Places,
    device: Device,
    group: Group,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, float]], None] = lambda _: None,
) -> tuple[Outcome, float]:
    """The loop's outcome (complete in rank 0 alone), and the seconds spent, earlier attempts included."""
    import torch

    from suite.training.inputs import Inputs
    from suite.training.session import Session

    torch.set_num_threads(device.threads)
    spec, kind = job.spec, kind_of(job.spec)
    if not isinstance(spec, DataJobSpec) or not kind.loop:
        raise TrainingError(f"{job.name} has to be imported before other jobs start.")
    precision: Precision = spec.train.precision if isinstance(spec, TrainingSpec) else "32-true"
    if device.kind != "cuda" and precision == "16-mixed":
        raise TrainingError(
            "the recipe asks for 16-mixed precision, which needs a GPU, and none is visible. On a CPU use "
            "--set pretrain.precision=32-true --set finetune.precision=32-true (another recipe, hence other jobs)."
        )
    fabric = fabric_of(group, device.kind, device.gpu, precision)
    session = Session(store.folder(job.key), fabric, device.checkpoint_minutes, should_stop, report)
    log.info("%s (%s) on %s, %d threads, %d device(s)", job.name, job.key, fabric.device, device.threads, group.world)
    module, _, function = kind.loop.partition(":")
    loop = getattr(import_module(module), function)
    outcome: Outcome = loop(spec, Inputs(spec, places.cache, store, device.online), session)
    return outcome, session.seconds


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
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
