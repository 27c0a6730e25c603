"""Tests that need a CUDA device, skipped without one. `make test-gpu` runs them; meant for 8 minutes on one card.

SUITE_TEST_DEVICE=cpu runs those that can run on a CPU there, to check the tests themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

DEVICE = torch.device(os.environ.get("SUITE_TEST_DEVICE", "cuda"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = DEVICE.type == "cuda" and not torch.cuda.is_available()
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            if missing:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))


@pytest.fixture
def device() -> torch.device:
    """The device that is tested."""
    return DEVICE


@pytest.fixture
def cuda() -> torch.device:
    """The CUDA device; skips where another device is tested."""
    if DEVICE.type != "cuda":
        pytest.skip("only on a CUDA device")
    return DEVICE


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """Single precision without TF32, and memory given back afterwards."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield
    for backend, value in zip(backends, before, strict=True):
        backend.allow_tf32 = value
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
