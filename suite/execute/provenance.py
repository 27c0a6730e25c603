"""The environment of a job: versions, processor, threads, commit."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from suite.execute.context import Device
from suite.execute.ddp.group import BACKENDS


def environment(device: Device) -> dict[str, Any]:
    """Provenance of a number: versions, processor, threads, commit."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": device.threads,
        "accelerator": device.accelerator,
        "devices": device.devices,
        "backend": BACKENDS[device.kind] if device.devices > 1 else None,
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
    """The checked-out commit of the suite, marked where files differ from it.

    Outside a checkout, such as in a container, $SUITE_COMMIT; None where that is not set either.
    """
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        described = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        described = ""
    return described or os.environ.get("SUITE_COMMIT", "").strip() or None
