"""What a file system can do, and the weaker means where it cannot: NFS without a lock daemon, FUSE, CIFS, exFAT,
buckets mounted as folders. File locks are decided once per mount; the rest is tried, call by call."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from suite.errors import StoreError

# A call that the file system refuses whatever the file is, as opposed to a full disk or a missing permission.
UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_NO_LINK = UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV}
_NO_REPLACE = UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EEXIST, errno.EBUSY, errno.ENOTEMPTY}
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EINTR}

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, or choose another folder with --runs or SUITE_CACHE.",
    errno.EDQUOT: "Your quota is used up: free some space, or choose another folder with --runs or SUITE_CACHE.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EROFS: "Choose a folder that can be written, with --runs or SUITE_CACHE.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n), or use fewer --workers.",
    errno.ENODEV: "The file system cannot map files into memory: set SUITE_CACHE to a folder on a local disk.",
}
_PERMISSIONS = "Check the permissions, or choose another folder with --runs."
_FILE_SYSTEM = "The file system lacks this operation or does not answer: choose a folder on another disk with --runs."
_FOR_THE_USER = {
    *_ADVICE,
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENOLCK, errno.ENOSYS),
    *(errno.ENOTSUP, errno.EOPNOTSUPP, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ELOOP, errno.ENXIO, errno.EXDEV),
    *(errno.EBUSY, errno.ETXTBSY, errno.EISDIR, errno.ENOTDIR, errno.EEXIST),
}

_locking: dict[int, bool] = {}  # by device number: whether flock works there


def describe_os_error(error: OSError) -> str | None:
    """One sentence on a system error that the user can act on; None where it rather is a fault of the program."""
    if isinstance(error, FileNotFoundError):  # Python says so itself where no temporary folder can be written
        return f"{error.strerror}. Set TMPDIR to a folder." if "temporary directory" in str(error.strerror) else None
    if error.errno not in _FOR_THE_USER:
        return None
    number = int(error.errno or 0)
    permission = number in {errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
    advice = _ADVICE.get(number, _PERMISSIONS if permission else _FILE_SYSTEM)
    return f"{error.strerror}: {error.filename or 'disk'}. {advice}"


def has_file_locks(folder: Path) -> bool:
    """Whether flock works in `folder`, which exists; asked once per mount and process."""
    try:
        import fcntl
    except ImportError:  # Windows: filelock has its own way there
        return True
    device = folder.stat().st_dev
    if device not in _locking:
        probe = folder / f".suite-lock-{uuid.uuid4().hex}"
        try:
            descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except OSError:  # nothing can be written there; the caller will hear why
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _locking[device] = True
        except OSError as error:
            _locking[device] = error.errno in _BUSY
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
    return _locking[device]


def has_hard_links(folder: Path) -> bool:
    """Whether hard links can be made in `folder`, which exists and can be written."""
    source = folder / f".suite-link-{uuid.uuid4().hex}"
    target = source.with_suffix(".2")
    try:
        source.touch()
        os.link(source, target)
    except OSError:
        return False
    finally:
        for path in (source, target):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return True


def publish(source: Path, target: Path) -> None:
    """Make the small file `source` appear as `target`, which must not exist: by a hard link, which is atomic on NFS
    too, else by creating it exclusively. A reader may find such a file empty for a moment.

    Raises:
        FileExistsError: `target` exists.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        with target.open("xb") as file:
            file.write(source.read_bytes())


def replace(source: Path, target: Path) -> None:
    """Rename the file `source` to `target`, which is replaced. Where a file system cannot replace, the old file is
    set aside first: for a moment there is none."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno not in _NO_REPLACE or not target.is_file():
            raise
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            target.rename(aside)
        except OSError:  # it is no question of replacing
            raise error from None
        try:
            source.rename(target)
        except OSError:
            aside.rename(target)
            raise
        aside.unlink(missing_ok=True)


def rename_folder(source: Path, target: Path) -> None:
    """Rename a finished folder to its name, at which point it counts as complete.

    Raises:
        StoreError: the file system cannot rename folders, such as a bucket mounted as a folder.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EPERM, errno.EXDEV} or target.exists():
            raise
        raise StoreError(
            f"the file system of {target.parent} cannot rename folders ({error.strerror}), and a folder that appears "
            "piece by piece could be read half. Choose a folder on another disk with SUITE_CACHE or --runs."
        ) from error


def flush_to_disk(descriptor: int) -> None:
    """Call fsync; do nothing where the file system does not support it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EROFS}:
            raise


def touch(path: Path) -> None:
    """Set the file's time to now; where that is refused, by writing its content again."""
    try:
        os.utime(path)
    except PermissionError:
        with path.open("r+b") as file:
            content = file.read()
            file.seek(0)
            file.write(content)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content alone: modes and times cannot be set everywhere."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def open_to_group(folder: Path) -> None:
    """If `folder` is group-writable, clear the group bits of the umask: new files of this process and its children are
    then group-writable, so that two users of one group can share a store."""
    with suppress(OSError):
        if folder.stat().st_mode & 0o020:
            mask = os.umask(0)
            os.umask(mask & ~0o060)
