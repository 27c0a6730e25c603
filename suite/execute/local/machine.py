"""GPUs and workers of this machine, without loading torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from suite.cores import cores
from suite.planning.costs import Machine

# Asks the CUDA driver, which reads CUDA_VISIBLE_DEVICES as torch does: UUIDs, MIG instances, repeated or invalid
# entries, an empty list. Run in a child process, so that this one gets no CUDA context.
_NAMES = """
import ctypes, json, sys
cuda = ctypes.CDLL("libcuda.so.1")
count, version, device = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
names = []
if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
    cuda.cuDriverGetVersion(ctypes.byref(version))
    for index in range(count.value if version.value // 1000 >= int(sys.argv[1]) else 0):
        name = ctypes.create_string_buffer(256)
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(name, 256, device)
        names.append(name.value.decode(errors="replace"))
print(json.dumps(names))
"""


def default_workers(devices: int = 1) -> int:
    """One per `devices` visible GPUs; on a CPU as many as keep up to four cores busy, since small jobs side by side
    are faster than one with threads."""
    return max(1, (gpu_count() or min(4, cores())) // devices)


def gpu_count() -> int:
    """The number of NVIDIA GPUs that torch would see here."""
    return len(gpu_names())


def gpu_names() -> tuple[str, ...]:
    """The NVIDIA GPUs that torch would see here, such as "NVIDIA H100 80GB HBM3". Takes no time where there is no
    NVIDIA device file, and is asked once per value of CUDA_VISIBLE_DEVICES."""
    if not glob("/dev/nvidia[0-9]*") and not Path("/dev/dxg").exists():  # noqa: PTH207
        return ()
    return _names(os.environ.get("CUDA_VISIBLE_DEVICES"))


@cache
def _names(visible: str | None) -> tuple[str, ...]:
    """Ask the driver in a child process; none where it does not answer, or torch cannot use it."""
    major = _cuda_of_torch()
    if major is None or visible == "":
        return ()
    try:
        command = [sys.executable, "-c", _NAMES, str(major)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return tuple(map(str, json.loads(done.stdout))) if done.returncode == 0 else ()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ()


@cache
def _cuda_of_torch() -> int | None:
    """Major version of CUDA that torch was built for; None for a build without CUDA. Reads a file of torch only."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    values: dict[str, object] = {}
    for line in (Path(spec.origin).parent / "version.py").read_text("utf-8").splitlines():
        name, _, value = line.partition("=")
        if name.partition(":")[0].strip() == "cuda":
            values["cuda"] = value.strip().strip("'\"")
    version = str(values.get("cuda", "None")).partition(".")[0]
    return int(version) if version.isdigit() else None


def machine(workers: int | None = None, devices: int = 1) -> Machine:
    """Workers, devices per job, and threads per process: the cores divided by the number of processes."""
    count = workers or default_workers(devices)
    kind: Literal["cpu", "cuda"] = "cuda" if gpu_count() else "cpu"
    return Machine(kind, count, max(1, cores() // (count * devices)), devices, next(iter(gpu_names()), ""))
