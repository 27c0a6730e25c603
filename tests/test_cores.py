"""Cores: the affinity mask and the quotas of control groups of both versions, as their files say them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suite import cores as module
from suite.cores import cores, cpu_quotas


def machine(tmp_path: Path, cgroup: str, mountinfo: str) -> Path:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup, "ascii")
    (proc / "mountinfo").write_text(mountinfo.replace("AT", str(tmp_path / "sys")), "ascii")
    return proc


def write(tmp_path: Path, **files: str) -> None:
    for name, text in files.items():
        path = tmp_path / "sys" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "ascii")


V2 = "30 20 0:26 / AT rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"


def test_version_2_with_a_limit_on_a_group_above(tmp_path: Path) -> None:
    proc = machine(tmp_path, "0::/pods/mine\n", V2)
    write(tmp_path, pods__cpu_max="350000 100000\n", pods__mine__cpu_max="max 100000\n")
    assert list(cpu_quotas(proc)) == [3.5]


def test_version_2_in_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    proc = machine(tmp_path, "0::/docker/4f21\n", V2)
    write(tmp_path, cpu_max="200000 100000\n")
    assert list(cpu_quotas(proc)) == [2.0]


def test_version_1(tmp_path: Path) -> None:
    mount = "31 20 0:27 /docker/9a AT rw - cgroup cgroup rw,cpu,cpuacct\n"
    proc = machine(tmp_path, "4:cpu,cpuacct:/docker/9a\n3:memory:/docker/9a\n", mount)
    write(tmp_path, cpu_cfs_quota_us="150000", cpu_cfs_period_us="50000")
    assert list(cpu_quotas(proc)) == [3.0]
    write(tmp_path, cpu_cfs_quota_us="-1")
    assert list(cpu_quotas(proc)) == []


def test_nothing_is_known_outside_linux(tmp_path: Path) -> None:
    assert list(cpu_quotas(tmp_path)) == []


@pytest.mark.parametrize(("quotas", "expected"), [([], 6), ([2.0], 2), ([8.0, 3.9], 3), ([0.2], 1)])
def test_the_smallest_counts_and_there_is_always_one(
    quotas: list[float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(module, "cpu_quotas", lambda: iter(quotas))
    assert cores() == expected
