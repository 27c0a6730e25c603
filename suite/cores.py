"""The number of processor cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc/self")


def cores() -> int:
    """Cores this process may use, at least 1: the smaller of its affinity mask (Slurm, taskset) and its CPU quota
    (`docker run --cpus`, a pod's limit). Half cores of a quota are not counted."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *map(int, cpu_quotas())]))


def cpu_quotas(proc: Path = _PROC) -> Iterator[float]:
    """The CPU quotas, in cores, of this process's control group and of all groups above it (Linux).

    Args:
        proc: `/proc/self`, whose `cgroup` names the groups and whose `mountinfo` says where they are mounted.
    """
    with suppress(OSError, ValueError):
        mounts = list(_mounts(proc))
        for line in (proc / "cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for kind, options, mounted_root, mount in mounts:
                if kind == "cgroup2" and not controllers:
                    read = _quota_v2
                elif kind == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(","):
                    read = _quota_v1
                else:
                    continue
                for folder in _with_parents(mount, mounted_root, path):
                    if (quota := read(folder)) is not None:
                        yield quota


def _mounts(proc: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Mounted control groups: type, options, the group that the mount shows as its root, and the mount point."""
    for line in (proc / "mountinfo").read_text("utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            root, mount = (field.encode().decode("unicode_escape") for field in fields.split(" ")[3:5])
            yield kind, options, root, Path(mount)


def _with_parents(mount: Path, mounted_root: str, path: str) -> Iterator[Path]:
    """The group's folder and those above it. In a container the path may be the host's: then the mount's root."""
    below = path if mounted_root == "/" else path.removeprefix(mounted_root)
    folder = mount / below.lstrip("/")
    while not folder.is_dir() or ".." in folder.parts:
        if folder == mount:
            return
        folder = folder.parent
    while True:
        yield folder
        if folder == mount or mount not in folder.parents:
            return
        folder = folder.parent


def _quota_v2(folder: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text("ascii").split()
        return float(quota) / float(period) if quota != "max" else None
    return None


def _quota_v1(folder: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota = float((folder / "cpu.cfs_quota_us").read_text("ascii"))
        period = float((folder / "cpu.cfs_period_us").read_text("ascii"))
        return quota / period if quota > 0 and period > 0 else None
    return None
