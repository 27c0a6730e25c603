"""Runs one job in this process: claim it, map its data, train, write the result."""

from __future__ import annotations

import contextlib
import logging
import platform
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from suite.errors import TrainingError
from suite.grid.costs import Speed, likeness, multiply_adds_of
from suite.grid.jobs import (
    BackgroundSpec,
    FinetuneSpec,
    ImportSpec,
    Job,
    PretrainSpec,
    ProbeSpec,
    TrainingSpec,
    TunedReader,
)
from suite.grid.recipe import Precision
from suite.store.claim import ClaimLost
from suite.store.store import Failure, Result, Store, sha256
from suite.store.throughput import record_speed

log = logging.getLogger(__name__)

# "busy": another process works on the job. "elsewhere": another has done it.
Outcome = Literal["done", "failed", "interrupted", "busy", "elsewhere"]


@dataclass(frozen=True)
class Places:
    """Where things are on this machine; never part of a job's identity."""

    runs: Path
    cache: Path
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Device:
    """What one worker may use."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    gpu: int = 0  # index, where the accelerator is a GPU
    threads: int = 1
    checkpoint_minutes: float = 5.0

    @property
    def kind(self) -> Literal["cpu", "cuda"]:
        """What it comes down to on this machine."""
        import torch

        return "cuda" if self.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def run_job(
    job: Job,
    places: Places,
    device: Device,
    should_stop: Callable[[], bool],
    report: Callable[[dict[str, float]], None],
) -> tuple[Outcome, str]:
    """Do `job` unless it is done; its parents must be. Never raises for what goes wrong in training.

    Returns:
        The outcome and, for a failure, the error in one line.
    """
    from suite.training.session import Interrupted

    store = Store(places.runs)
    try:
        claim = store.claim(job.key).acquire()
    except Timeout:
        return "busy", ""

    def stopping() -> bool:
        claim.check_now_and_then()
        return should_stop()

    with claim:
        if store.result(job.key) is not None:
            return "elsewhere", ""
        store.begin(job, environment(device))
        with _logging_to(store.folder(job.key) / "log.txt"):
            try:
                result = _train(job, store, places, device, stopping, report)
                claim.check()
                store.finish(result)
            except ClaimLost:
                return "busy", ""  # nothing is written: the folder is another's now
            except Interrupted:
                log.info("stopped on request; the next run resumes here")
                store.fail(job.key, Failure(error="stopped on request", kind="killed", traceback=""))
                return "interrupted", ""
            except Exception as error:  # whatever it is, the other jobs go on and the cause is kept
                log.exception("failed")
                text = f"{type(error).__name__}: {error}"
                store.fail(job.key, Failure(error=text, kind="failed", traceback=traceback.format_exc()))
                return "failed", text
    if result.images_per_second:
        speed = result.images_per_second, multiply_adds_of(job.spec)
        with contextlib.suppress(OSError):  # only estimates would miss it
            record_speed(store.root, Speed(likeness(job.spec), device.kind, *speed))
    return "done", ""


def _train(
    job: Job,
    store: Store,
    places: Places,
    device: Device,
    should_stop: Callable[[], bool],
    report: Callable[[dict[str, float]], None],
) -> Result:
    import torch
    from lightning_fabric import Fabric

    from suite.training.session import Session

    torch.set_num_threads(device.threads)
    gpu = device.kind == "cuda"
    spec = job.spec
    if isinstance(spec, ImportSpec):
        raise TrainingError(f"{job.name} has to be imported before other jobs start.")
    precision: Precision = spec.train.precision if isinstance(spec, TrainingSpec) else "32-true"
    if not gpu and precision == "16-mixed":
        raise TrainingError(
            "the recipe asks for 16-mixed precision, which needs a GPU, and none is visible. On a CPU use "
            "--set pretrain.precision=32-true --set finetune.precision=32-true (another recipe, hence other jobs)."
        )
    fabric = Fabric(accelerator="cuda" if gpu else "cpu", devices=[device.gpu] if gpu else 1, precision=precision)
    folder = store.folder(job.key)
    session = Session(folder, fabric, device.checkpoint_minutes, should_stop, report)
    log.info("%s (%s) on %s, %d threads", job.name, job.key, fabric.device, device.threads)
    init = None
    if not isinstance(spec, BackgroundSpec) and spec.init is not None:
        init = store.weights(spec.init, "backbone.safetensors")
    if isinstance(spec, FinetuneSpec) and spec.choose_from:
        spec = with_best_lr(spec, store)
    if isinstance(spec, TunedReader):
        tuned = store.weights(spec.finetune, "model.safetensors")
        outcome, counts = _measure(spec, places, init, tuned, session)
    else:
        outcome, counts = _dispatch(spec, places, init, session)

    files = {path.name: sha256(path) for path in sorted((folder / "checkpoint").glob("*.safetensors"))}
    speed = outcome["images"] / outcome["seconds"] if outcome["seconds"] else 0.0
    for reason in outcome["suspicious"]:
        log.warning("suspicious: %s", reason)
    log.info("done: %s", ", ".join(f"{name} {value:.4g}" for name, value in outcome["metrics"].items()))
    return Result(
        key=job.key,
        name=job.name,
        metrics=outcome["metrics"],
        counts=counts,
        files=files,
        suspicious=outcome["suspicious"],
        seconds=session.seconds,
        images_per_second=speed,
    )


def with_best_lr(spec: FinetuneSpec, store: Store) -> FinetuneSpec:
    """The spec with the learning rate that was best on the held-out images; of equally good ones, the lowest."""
    found = []
    for key in spec.choose_from:
        trial, result = store.spec(key), store.result(key)
        if not isinstance(trial, FinetuneSpec) or result is None:
            raise TrainingError(f"job {key} should have tried a learning rate, but is not finished.")
        found.append((-result.metrics["held_out_top1"], trial.train.optimizer.base_lr))
    worst_first = ", ".join(f"{rate:g}: {-score:.2f}" for score, rate in sorted(found, reverse=True))
    chosen = min(found)[1]
    log.info("top-1 on held-out images by base learning rate: %s; chosen %g", worst_first, chosen)
    if chosen in {min(rate for _, rate in found), max(rate for _, rate in found)}:
        log.warning("the chosen learning rate is the lowest or highest candidate; others beyond it may be better")
    optimizer = spec.train.optimizer.model_copy(update={"base_lr": chosen})
    return spec.model_copy(update={"train": spec.train.model_copy(update={"optimizer": optimizer})})


def _measure(
    spec: TunedReader, places: Places, init: Path | None, tuned: Path, session: Any
) -> tuple[dict[str, Any], dict[str, int]]:
    """Map the decoded data and measure a fine-tuned network. Returns its outcome and the counts to record."""
    from suite.data.images import open_store, store_folder
    from suite.data.maps import open_maps
    from suite.data.source import SplitSource
    from suite.training.background import background
    from suite.training.localisation import localisation

    images = open_store(store_folder(places.cache, spec.data.name, spec.data.fingerprint, spec.data.store_size))
    classes = len(images.facts.classes)
    test = SplitSource(images, "test", open_maps(images, spec.saliency, "test"))
    if isinstance(spec, BackgroundSpec):
        outcome = background(spec, test, classes, tuned, session)
    else:
        train = SplitSource(images, "train", open_maps(images, spec.saliency))
        masks = None if spec.masks is None else SplitSource(images, "test", open_maps(images, spec.masks, "test"))
        outcome = localisation(spec, train, test, masks, classes, init, tuned, session)
    return outcome, outcome.pop("counts")


def _dispatch(
    spec: PretrainSpec | FinetuneSpec | ProbeSpec, places: Places, init: Path | None, session: Any
) -> tuple[dict[str, Any], dict[str, int]]:
    """Map the decoded data and call the loop of the job's kind. Returns its outcome and the counts to record."""
    from suite.data.images import open_store, store_folder
    from suite.data.maps import open_maps
    from suite.data.source import Part, SplitSource, held_out
    from suite.training.finetune import finetune
    from suite.training.pretrain import pretrain
    from suite.training.probe import probe
    from suite.training.schedule import generator

    images = open_store(store_folder(places.cache, spec.data.name, spec.data.fingerprint, spec.data.store_size))
    counts = {"n_train": len(images.indices("train"))}
    match spec:
        case PretrainSpec():
            maps = None if spec.saliency is None else open_maps(images, spec.saliency)
            if maps is not None:
                counts["saliency_fallbacks"] = sum(maps.fallbacks.values())
                log.info(
                    "saliency: %d images fall back to the whole image %s", counts["saliency_fallbacks"], maps.fallbacks
                )
            return pretrain(spec, SplitSource(images, "train", maps), init, session), counts
        case FinetuneSpec() if spec.held_out:
            whole = SplitSource(images, "train")
            fit_on, choose_on = held_out(whole.labels, spec.held_out, generator(spec.seed, "held-out"))
            parts = Part(whole, fit_on), Part(whole, choose_on)
            counts = {"n_train": len(parts[0]), "n_held_out": len(parts[1])}
            return finetune(spec, *parts, len(images.facts.classes), init, session), counts
        case FinetuneSpec() | ProbeSpec():
            train, test = SplitSource(images, "train"), SplitSource(images, "test")
            counts["n_test"] = len(test)
            classes = len(images.facts.classes)
            if isinstance(spec, ProbeSpec):
                return probe(spec, train, test, classes, init, session), counts
            outcome = finetune(spec, train, test, classes, init, session)
            if spec.choose_from:
                outcome["metrics"]["base_lr"] = spec.train.optimizer.base_lr
            return outcome, counts


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("suite")
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def environment(device: Device) -> dict[str, Any]:
    """What a reader needs to judge a number: versions, processor, threads, commit."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": device.threads,
        "accelerator": device.accelerator,
        "packages": package_versions(),
        "commit": commit(),
    }


@cache
def package_versions() -> dict[str, str]:
    """Of the libraries that numbers depend on, and of the suite."""
    versions = {}
    for package in ("torch", "torchvision", "lightning-fabric", "solo-learn", "numpy", "fgssl-suite"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


@cache
def commit() -> str | None:
    """The checked-out commit of the suite, marked where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
