"""A claim is held by one at a time: among processes of a machine, and among machines that share files only."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from filelock import Timeout

from suite import filesystem
from suite.locks import ClaimOwner, read_owner
from suite.store.claim import Claim, ClaimLost, is_claimed


def elsewhere(folder: Path, age: float) -> ClaimOwner:
    """The claim of another machine, last touched `age` seconds ago."""
    holder = replace(ClaimOwner.current(), host="node7", boot="another")
    path = folder / "claim.json"
    path.write_text(json.dumps(asdict(holder)), "utf-8")
    then = time.time() - age
    os.utime(path, (then, then))
    return holder


def test_one_at_a_time(tmp_path: Path) -> None:
    with Claim(tmp_path).acquire() as first:
        assert is_claimed(tmp_path)
        with pytest.raises(Timeout):
            Claim(tmp_path).acquire(timeout=0.1)
        first.check()
    assert not is_claimed(tmp_path)
    with Claim(tmp_path).acquire():
        pass
    assert not (tmp_path / "claim.json").exists()


def test_a_killed_holder_is_followed_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from suite.store.claim import Claim\n"
        "claim = Claim(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert is_claimed(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "claim.json").exists()
    assert not is_claimed(tmp_path)
    with Claim(tmp_path).acquire() as claim:
        claim.check()


def test_another_machines_claim_counts_while_it_is_touched(tmp_path: Path) -> None:
    elsewhere(tmp_path, age=20)
    assert is_claimed(tmp_path)
    with pytest.raises(Timeout):
        Claim(tmp_path).acquire(timeout=0.1)
    elsewhere(tmp_path, age=200)
    assert not is_claimed(tmp_path)
    with Claim(tmp_path).acquire() as claim:
        claim.check()
        assert is_claimed(tmp_path)


def test_a_holder_that_was_given_up_for_dead_notices(tmp_path: Path) -> None:
    claim = Claim(tmp_path, beat=0.05).acquire()
    other = elsewhere(tmp_path, age=0)
    with pytest.raises(ClaimLost):
        claim.check()
    time.sleep(0.2)
    touched = (tmp_path / "claim.json").stat().st_mtime_ns
    time.sleep(0.2)
    assert (tmp_path / "claim.json").stat().st_mtime_ns == touched  # it does not keep the other's claim alive
    claim.release()
    assert read_owner(tmp_path / "claim.json") == other


def test_a_holder_keeps_its_claim_fresh(tmp_path: Path) -> None:
    with Claim(tmp_path, beat=0.05).acquire():
        os.utime(tmp_path / "claim.json", (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / "claim.json").stat().st_mtime < 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_file_locks_the_named_file_decides(error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(filesystem, "_locking", {})
    monkeypatch.setattr("fcntl.flock", refuse)
    with Claim(tmp_path).acquire():
        with pytest.raises(Timeout):
            Claim(tmp_path).acquire(timeout=0.1)
        assert is_claimed(tmp_path)
    with Claim(tmp_path).acquire():
        pass
    elsewhere(tmp_path, age=200)
    with Claim(tmp_path, stale=100).acquire():
        pass


def test_a_torn_name_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "claim.json").write_text('{"host": "no', "utf-8")
    assert read_owner(tmp_path / "claim.json") is None
    assert not is_claimed(tmp_path)
    with Claim(tmp_path).acquire() as claim:
        claim.check()
