"""`suite doctor`: what this machine has and lacks, and the command that mends it. Looks only; changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from suite.cores import cores
from suite.workspace import Workspace

State = Literal["ok", "lacking", "broken"]
ROOM = 10e9  # bytes; CUB decoded at 256 px takes 3 GB, a ResNet-50's checkpoint with its target network 0.5
PACKAGES = ("torch", "torchvision", "lightning-fabric", "mlflow", "grad-cam", "pandas", "scipy", "pillow", "pooch")


@dataclass(frozen=True)
class Check:
    """One line: lacking is optional, broken is not."""

    name: str
    state: State
    text: str
    mend: str = ""  # a command, or what to do


def examine(workspace: Workspace) -> list[Check]:
    """All checks, in the order in which one would mend them."""
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
        yield Check("threads", "lacking", f"OMP_NUM_THREADS holds torch to {threads} of {usable} cores",
                    "unset OMP_NUM_THREADS")  # fmt: skip
    else:
        yield Check("threads", "ok", f"{threads} threads on {usable} cores")
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for CPUs"
        yield Check("GPU", "lacking", f"none is visible ({built}); the profile paper needs one",
                    "nvidia-smi, then pip install torch for that CUDA version (pytorch.org)")  # fmt: skip
        yield Check("precision", "ok", "32-true (on CPUs without AMX or AVX-512 lower precision is slower)")
        return
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield Check("GPU", "ok", f"{found.name}, {found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
    bf16 = torch.cuda.get_device_capability()[0] >= 8  # Ampere; older ones only imitate it
    best = "bf16-mixed, 16-mixed and 32-true" if bf16 else "16-mixed and 32-true (no bfloat16 in hardware)"
    yield Check("precision", "ok", f"{best}; the profile decides (--set pretrain.precision=...)")


def _solo_learn(_: Workspace) -> Iterator[Check]:
    try:
        import torch

        from methods import solo_learn

        solo_learn.byol_loss(torch.ones(1, 2), torch.ones(1, 2))
        yield Check("solo-learn", "ok", f"{solo_learn.VERSION}; losses and LARS work")
    except Exception as error:  # noqa: BLE001  (its modules are of 2021, and torch may be broken)
        yield Check("solo-learn", "broken", str(error).splitlines()[0], "pip install --no-deps solo-learn==1.0.2")


def _disk(workspace: Workspace) -> Iterator[Check]:
    for name, folder in (("runs", workspace.runs), ("cache", workspace.cache)):
        place = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())
        if not writable(place):
            yield Check(name, "broken", f"{place} cannot be written", f"chmod u+w {place}, or --runs DIR ($SUITE_RUNS)")
            continue
        free = shutil.disk_usage(place).free
        state: State = "ok" if free > ROOM else "lacking"
        mend = "" if state == "ok" else "suite plan ... says what a grid needs; --runs DIR or $SUITE_CACHE elsewhere"
        yield Check(name, state, f"{free / 1e9:.0f} GB free at {folder}", mend)


def _datasets(workspace: Workspace) -> Iterator[Check]:
    from suite.data.catalogue import DATASETS
    from suite.data.overview import overview

    for name in DATASETS:
        found = overview(name, workspace.data, workspace.cache)
        if found.counts is None:
            why = "not there" if found.state == "missing" else f"broken: {found.problem}"
            yield Check(name, "lacking", why.partition(". ")[0], f"suite data fetch {name}")
        else:
            counts = f"{found.counts.train[0]:,} train, {found.counts.test[0]:,} test images"
            if found.verified is None:
                yield Check(name, "lacking", f"{found.state}, {counts}, not verified", f"suite data verify {name}")
            else:
                yield Check(name, "ok", f"{found.state}, {counts}, verified {found.verified[:10]}")


def _saliency(workspace: Workspace) -> Iterator[Check]:
    from suite.data.saliency.u2netp import URL, existing_weights

    if util.find_spec("onnxruntime") is None:
        yield Check("saliency", "lacking", "onnxruntime is not installed: no u2netp", "pip install onnxruntime")
    elif (weights := existing_weights(workspace.data, workspace.cache)) is None:
        yield Check("saliency", "lacking", "no u2netp.onnx yet; it is downloaded when needed",
                    f"curl -L --create-dirs -o {workspace.cache / 'models' / 'u2netp.onnx'} {URL}")  # fmt: skip
    else:
        yield Check("saliency", "ok", f"u2netp, {weights}")


def _tracking(workspace: Workspace) -> Iterator[Check]:
    from suite.tracking.mirror import tracking_uri

    uri = tracking_uri(workspace.runs)
    if urlsplit(uri).scheme not in {"http", "https"}:
        yield Check("MLflow", "ok", f"mirror at {uri}")
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=3):
            yield Check("MLflow", "ok", f"{uri} answers")
    except OSError as error:
        text = f"{uri} does not answer ({error}); runs go on, `suite sync` replays what it missed"
        yield Check("MLflow", "lacking", text, "mlflow server, or unset MLFLOW_TRACKING_URI")


def _tools(_: Workspace) -> Iterator[Check]:
    for name, programs, why, mend in (
        ("LaTeX", ("pdflatex", "lualatex", "xelatex"), "to typeset the tables; the report needs none",
         "apt-get install texlive-latex-recommended texlive-latex-extra"),
        ("Chromium", ("chromium", "chromium-browser", "google-chrome"), "only tests of the report's page need it",
         "apt-get install chromium"),
    ):  # fmt: skip
        place = next(filter(None, map(shutil.which, programs)), None)
        yield Check(name, "ok", place) if place else Check(name, "lacking", f"not found; {why}", mend)
    if shutil.which("sbatch") is None:
        yield Check("Slurm", "lacking", "no sbatch: jobs run on this machine only", "run on a cluster's login node")
        return
    try:
        asked = subprocess.run(["sinfo", "--noheader", "--format=%P %a %D"], capture_output=True, text=True, timeout=3,
                               check=True)  # fmt: skip
        partitions = len(asked.stdout.splitlines())
        yield Check("Slurm", "ok", f"answers, {partitions} partition{'s' * (partitions != 1)}")
    except (OSError, subprocess.SubprocessError):
        yield Check("Slurm", "lacking", "sbatch is there, but the controller does not answer", "scontrol ping")


def writable(folder: Path) -> bool:
    """Whether this user may write there."""
    return os.access(folder, os.W_OK)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
