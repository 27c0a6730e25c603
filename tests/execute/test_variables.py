"""Environment variables of processes that run jobs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from suite.errors import UsageError
from suite.execute.local.pool import _ChildEnvironment
from suite.execute.run import checkpoint_minutes
from suite.execute.variables import job_variables


def test_idle_threads_spin_briefly() -> None:
    """Threads, how long idle ones spin, and the allocator of CUDA."""
    assert job_variables(3, {}) == {
        "OMP_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "GOMP_SPINCOUNT": "10000",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_policy_of_the_user_is_kept(name: str) -> None:
    """Each of the three variables decides how long a thread spins."""
    assert "GOMP_SPINCOUNT" not in job_variables(2, {name: "1000"})


def test_an_allocator_setting_of_the_user_is_kept() -> None:
    """Under its old and its new name."""
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        assert not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & job_variables(2, {name: ""}).keys()


def test_a_child_gets_them_and_the_parent_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are set only while the child starts."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    before = dict(os.environ)
    show = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['GOMP_SPINCOUNT'])"
    with _ChildEnvironment(2):
        child = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["2", "10000"]
    assert dict(os.environ) == before


@pytest.mark.parametrize("text", ["soon", "nan", "-1", "0"])
def test_minutes_between_checkpoints_are_a_positive_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `nan` no checkpoint would ever be due."""
    monkeypatch.setenv("SUITE_CHECKPOINT_MINUTES", text)
    with pytest.raises(UsageError, match=f"expects a number of minutes above 0, got '{text}'"):
        checkpoint_minutes()
