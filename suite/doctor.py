"""`suite doctor`: check the environment and print a fix for every problem. Read-only."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from importlib import metadata, util
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from suite.cores import cores
from suite.filesystem import has_file_locks, has_hard_links
from suite.redact import redact
from suite.workspace import Workspace

State = Literal["ok", "missing", "broken"]
ROOM = 10e9  # bytes; CUB decoded at 256 px takes 3 GB, a ResNet-50's checkpoint with its target network 0.5
PACKAGES = ("torch", "torchvision", "lightning-fabric", "mlflow", "grad-cam", "pandas", "scipy", "pillow", "pooch")


@dataclass(frozen=True)
class Check:
    """One line: what is missing is optional, what is broken is not."""

    name: str
    state: State
    text: str
    fix: str = ""  # a command, or what to do


def examine(workspace: Workspace) -> list[Check]:
    """All checks, in the order in which one would fix them."""
    parts: tuple[Callable[[Workspace], Iterator[Check]], ...] = (
        _python, _torch, _solo_learn, _disk, _datasets, _saliency, _tracking, _tools,
    )  # fmt: skip
    return [check for part in parts for check in part(workspace)]


def _python(_: Workspace) -> Iterator[Check]:
    yield Check("Python", "ok", f"{platform.python_version()}, {sys.executable}")  # an older one cannot load this file
    missing = [name for name in PACKAGES if _version(name) is None]
    if missing:
        yield Check("packages", "broken", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    else:
        yield Check("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in PACKAGES[2:]))


def _torch(_: Workspace) -> Iterator[Check]:
    try:
        import torch
        import torchvision  # noqa: F401  (its compiled operators must fit torch)
    except Exception as error:  # noqa: BLE001  (a broken build raises whatever its libraries do)
        install = "pip install --force-reinstall torch torchvision"
        yield Check("torch", "broken", f"cannot be imported: {error}".splitlines()[0], install)
        return
    yield Check("torch", "ok", f"{torch.__version__}, torchvision {_version('torchvision')}")
    usable, threads = cores(), torch.get_num_threads()
    if threads < usable and "OMP_NUM_THREADS" in os.environ:
        yield Check("threads", "missing", f"OMP_NUM_THREADS limits torch to {threads} of {usable} cores",
                    "unset OMP_NUM_THREADS")  # fmt: skip
    else:
        yield Check("threads", "ok", f"{threads} threads on {usable} cores")
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for CPUs"
        yield Check("GPU", "missing", f"none is visible ({built}); the profile paper needs one",
                    "nvidia-smi, then pip install torch for that CUDA version (pytorch.org)")  # fmt: skip
        yield Check("precision", "ok", "32-true (on CPUs without AMX or AVX-512 lower precision is slower)")
        return
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield Check("GPU", "ok", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
    bf16 = torch.cuda.get_device_capability()[0] >= 8  # Ampere; older ones only imitate it
    best = "bf16-mixed, 16-mixed and 32-true" if bf16 else "16-mixed and 32-true (no bfloat16 in hardware)"
    yield Check("precision", "ok", f"{best}; the profile decides (--set pretrain.precision=...)")


def _solo_learn(_: Workspace) -> Iterator[Check]:
    try:
        import torch

        from methods import solo_learn

        solo_learn.byol_loss(torch.ones(1, 2), torch.ones(1, 2))
        yield Check("solo-learn", "ok", f"{solo_learn.VERSION}; its losses work")
    except Exception as error:  # noqa: BLE001  (its modules are of 2021, and torch may be broken)
        yield Check("solo-learn", "broken", str(error).splitlines()[0], "pip install --no-deps solo-learn==1.0.2")


def _disk(workspace: Workspace) -> Iterator[Check]:
    for name, folder in (("runs", workspace.runs), ("cache", workspace.cache)):
        place = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())
        if not writable(place):
            yield Check(name, "broken", f"{place} cannot be written", f"chmod u+w {place}, or --runs DIR ($SUITE_RUNS)")
            continue
        yield _file_system(name, place)
        free = shutil.disk_usage(place).free
        state: State = "ok" if free > ROOM else "missing"
        fix = "" if state == "ok" else "suite plan ... says what a grid needs; --runs DIR or $SUITE_CACHE elsewhere"
        yield Check(name, state, f"{free / 1e9:.0f} GB free at {folder}", fix)


def _file_system(name: str, folder: Path) -> Check:
    """Features that the file system lacks, and what the suite does instead; see docs/accepted.md."""
    lacks = []
    if not has_file_locks(folder):
        lacks.append("no file locks (claims by named files: after a kill, its jobs are free in 2 minutes)")
    if not has_hard_links(folder):
        lacks.append("no hard links (claims are created exclusively)")
    if lacks:
        return Check(f"{name} disk", "missing", "; ".join(lacks), "nothing has to be done; a local disk has both")
    return Check(f"{name} disk", "ok", "file locks and hard links")


def _datasets(workspace: Workspace) -> Iterator[Check]:
    from suite.data.catalogue import DATASETS
    from suite.data.overview import overview

    for name in DATASETS:
        dataset = overview(name, workspace.data, workspace.cache)
        if dataset.counts is None:
            why = "not there" if dataset.state == "missing" else f"broken: {dataset.problem}"
            yield Check(name, "missing", why.partition(". ")[0], f"suite data fetch {name}")
        else:
            counts = f"{dataset.counts.train[0]:,} train, {dataset.counts.test[0]:,} test images"
            if dataset.verified is None:
                yield Check(name, "missing", f"{dataset.state}, {counts}, not verified", f"suite data verify {name}")
            else:
                yield Check(name, "ok", f"{dataset.state}, {counts}, verified {dataset.verified[:10]}")


def _saliency(workspace: Workspace) -> Iterator[Check]:
    from suite.data.saliency.u2netp import URL, existing_weights

    if util.find_spec("onnxruntime") is None:
        yield Check("saliency", "missing", "onnxruntime is not installed: no u2netp", "pip install onnxruntime")
    elif (weights := existing_weights(workspace.data, workspace.cache)) is None:
        yield Check("saliency", "missing", "no u2netp.onnx yet; it is downloaded when needed",
                    f"curl -L --create-dirs -o {workspace.cache / 'models' / 'u2netp.onnx'} {URL}")  # fmt: skip
    else:
        yield Check("saliency", "ok", f"u2netp, {weights}")


def _tracking(workspace: Workspace) -> Iterator[Check]:
    from suite.tracking.address import sqlite_path, tracking_uri

    uri = tracking_uri(workspace.runs)
    shown = redact(uri)
    if urlsplit(uri).scheme not in {"http", "https"}:
        path = sqlite_path(uri)
        if path is not None and path.exists() and not writable(path):
            yield Check("MLflow", "missing", f"{path} cannot be written by this user",
                        f"chmod g+w {path}, by its owner; or MLFLOW_TRACKING_URI")  # fmt: skip
        else:
            yield Check("MLflow", "ok", f"mirror at {shown}")
        return
    address = re.sub(r"//[^/]*@", "//", uri).rstrip("/")  # urllib takes no user in an address
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=3):
            yield Check("MLflow", "ok", f"{shown} answers")
    except (OSError, ValueError, HTTPException) as error:
        text = f"{shown} does not answer ({redact(str(error))}); runs go on, `suite sync` replays what it missed"
        yield Check("MLflow", "missing", text, "mlflow server, or unset MLFLOW_TRACKING_URI")


def _tools(_: Workspace) -> Iterator[Check]:
    for name, programs, why, fix in (
        ("LaTeX", ("pdflatex", "lualatex", "xelatex"), "to typeset the tables; the report needs none",
         "apt-get install texlive-latex-recommended texlive-latex-extra"),
        ("Chromium", ("chromium", "chromium-browser", "google-chrome"), "only tests of the report's page need it",
         "apt-get install chromium"),
    ):  # fmt: skip
        place = next(filter(None, map(shutil.which, programs)), None)
        yield Check(name, "ok", place) if place else Check(name, "missing", f"not found; {why}", fix)
    if shutil.which("sbatch") is None:
        yield Check("Slurm", "missing", "no sbatch: jobs run on this machine only", "run on a cluster's login node")
        return
    try:
        asked = subprocess.run(["sinfo", "--noheader", "--format=%P %a %D"], capture_output=True, text=True, timeout=3,
                               check=True)  # fmt: skip
        partitions = len(asked.stdout.splitlines())
        yield Check("Slurm", "ok", f"answers, {partitions} partition{'s' * (partitions != 1)}")
    except (OSError, subprocess.SubprocessError):
        yield Check("Slurm", "missing", "sbatch is there, but the controller does not answer", "scontrol ping")


def writable(folder: Path) -> bool:
    """Whether this user may write there."""
    return os.access(folder, os.W_OK)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
