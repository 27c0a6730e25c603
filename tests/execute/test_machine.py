"""How many GPUs a run may use, as the CUDA driver counts them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.execute.loaders import default_loaders, torch_threads
from suite.execute.local import machine as module
from suite.execute.local.machine import _cuda_of_torch as cuda_of_torch
from suite.execute.local.machine import gpu_count, machine
from suite.planning.costs import Machine

# In place of the driver: as many GPUs as CUDA_VISIBLE_DEVICES has valid entries up to the first invalid one.
DRIVER = """
import json, os
known = {"0", "1", "2", "GPU-8f6d", "MIG-11aa"}
entries = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1,2").split(",")
valid = []
for entry in entries:
    if entry not in known or entry in valid:
        break
    valid.append(entry)
print(json.dumps([f"card {entry}" for entry in valid]))
"""


@pytest.fixture(autouse=True)
def _driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "glob", lambda _: ["/dev/nvidia0"])
    monkeypatch.setattr(module, "_cuda_of_torch", lambda: 12)
    monkeypatch.setattr(module, "_NAMES", DRIVER)
    module._names.cache_clear()
    yield
    module._names.cache_clear()


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 3), ("", 0), ("0", 1), ("1,2", 2), ("-1", 0), ("NoDevFiles", 0), ("GPU-8f6d,MIG-11aa", 2), ("0,7,1", 1)],
)
def test_the_driver_counts(visible: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_count() == count
    assert machine().device == ("cuda" if count else "cpu")
    assert machine().card == (f"card {(visible or '0').split(',')[0]}" if count else "")


@pytest.mark.parametrize("script", ["raise SystemExit(1)", "import ctypes; ctypes.CDLL('libnothing.so')", "print('x')"])
def test_a_driver_that_fails_counts_none(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(module, "_NAMES", script)
    assert gpu_count() == 0


def test_it_is_asked_once_and_only_where_there_can_be_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_count() == 2
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: pytest.fail("asked again"))
    assert gpu_count() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    monkeypatch.setattr(module, "glob", lambda _: [])
    if not Path("/dev/dxg").exists():
        assert gpu_count() == 0


def test_a_torch_without_cuda_uses_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(module, "_cuda_of_torch", lambda: None)
    assert gpu_count() == 0


def test_torchs_version_of_cuda_is_read_without_loading_it() -> None:
    import torch

    version = torch.version.cuda
    assert cuda_of_torch() == (None if version is None else int(version.partition(".")[0]))


def test_loaders_by_default() -> None:
    """One on a CPU; beside GPUs the cores of the run, shared by its processes, less one each, from 1 to 16."""
    assert default_loaders(Machine("cpu", 2, 1, 1), available=64) == 1
    assert default_loaders(Machine("cuda", 4, 8, 1), available=32) == 7
    assert default_loaders(Machine("cuda", 2, 8, 2), available=6) == 1
    assert default_loaders(Machine("cuda", 1, 8, 1), available=128) == 16


def test_loaders_beside_a_gpu_have_one_thread_each() -> None:
    assert torch_threads("cuda", loaders=15, threads=16) == 1
    assert torch_threads("cuda", loaders=0, threads=16) == 16
    assert torch_threads("cpu", loaders=1, threads=2) == 2
