"""File systems that lack calls: the weaker means work, and what cannot work is said in one sentence."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from filelock import Timeout

from suite import filesystem
from suite.atomic import atomic_folder, write_text
from suite.errors import StoreError
from suite.filesystem import describe_os_error, has_hard_links, open_to_group, publish, replace
from suite.locks import FileLock


def refusing(number: int) -> Callable[..., NoReturn]:
    def call(*_: Any, **__: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_locking", {})
    monkeypatch.setattr("fcntl.flock", refusing(errno.ENOLCK))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(number))
    assert not has_hard_links(tmp_path)
    (tmp_path / "draft").write_text("mine")
    publish(tmp_path / "draft", tmp_path / "name")
    assert (tmp_path / "name").read_text() == "mine"
    with pytest.raises(FileExistsError):
        publish(tmp_path / "draft", tmp_path / "name")


def test_without_chmod_and_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chmod", refusing(errno.EPERM))
    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    write_text(tmp_path / "a.txt", "plover")
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "b").touch()
    assert (tmp_path / "a.txt").read_text() == "plover"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_a_failed_fsync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(StoreError, match="cannot write"):
        write_text(tmp_path / "a.txt", "plover")
    assert list(tmp_path.iterdir()) == []


def test_without_replacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def strict(self: Path, target: Path) -> Path:
        if target.exists():
            raise OSError(errno.EEXIST, "exists")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", strict)
    for text in ("first", "second"):
        write_text(tmp_path / "a.txt", text)
        assert (tmp_path / "a.txt").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    monkeypatch.setattr(Path, "rename", refusing(errno.EACCES))
    (tmp_path / "new").touch()
    with pytest.raises(OSError, match="exists"):
        replace(tmp_path / "new", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "second"


def test_a_folder_that_cannot_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "rename", refusing(errno.ENOSYS))
    with pytest.raises(StoreError, match=r"cannot rename folders.*SUITE_CACHE"), atomic_folder(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_very_long_names(tmp_path: Path) -> None:
    write_text(tmp_path / ("a" * 250), "x")
    with pytest.raises(StoreError, match="cannot write"):
        write_text(tmp_path / ("a" * 300), "x")


@pytest.mark.usefixtures("no_locks")
def test_a_lock_without_file_locks(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "x.lock", [0], [0]

    def work() -> None:
        for _ in range(5):
            with FileLock(path, beat=0.05):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.002)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert list(tmp_path.iterdir()) == []
    with FileLock(path), pytest.raises(Timeout):
        FileLock(path).acquire(timeout=0.1)


@pytest.mark.usefixtures("no_locks")
def test_a_lock_whose_owner_died_is_taken_over_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with FileLock(path, beat=0.02, stale=0.3), pytest.raises(Timeout):
        FileLock(path, stale=0.3).acquire(timeout=0.8)
    held = FileLock(path, beat=1000, stale=0.3).acquire()
    with FileLock(path, stale=0.3):
        pass
    held.release()


def test_a_real_lock_excludes(tmp_path: Path) -> None:
    with FileLock(tmp_path / "x.lock"), pytest.raises(Timeout):
        FileLock(tmp_path / "x.lock").acquire(timeout=0.1)


def test_files_of_a_group(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        open_to_group(tmp_path)
        write_text(tmp_path / "private", "x")
        tmp_path.chmod(0o2770)
        open_to_group(tmp_path)
        write_text(tmp_path / "shared", "x")
        with FileLock(tmp_path / "x.lock"):
            pass
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert modes == {"private": "0o644", "shared": "0o664", "x.lock": "0o664"}


def test_system_errors_in_one_sentence() -> None:
    assert "SUITE_CACHE" in str(describe_os_error(OSError(errno.ENODEV, "No such device", "/mnt/x")))
    assert "shorter name" in str(describe_os_error(OSError(errno.ENAMETOOLONG, "File name too long", "/x")))
    assert "TMPDIR" in str(describe_os_error(FileNotFoundError(errno.ENOENT, "No usable temporary directory found")))
    assert describe_os_error(FileNotFoundError(errno.ENOENT, "No such file", "forgotten.py")) is None
