"""Public checkpoints in place of a first stage (stage1.yaml): find, download and check them.

The files are in `<data root>/stage1/`. Their publishers state 8 hex digits of a digest, which finds torn downloads and
wrong files, but is no protection against a forged one; reading a checkpoint executes nothing (suite.training.layouts).
The full SHA-256 of the file enters the job's key.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

from suite.atomic import atomic_file
from suite.data.download.checkpoint import file_digest
from suite.errors import DataError, unknown
from suite.locks import FileLock
from suite.progress import Progress, megabytes

FILE = Path(__file__).with_name("stage1.yaml")
FOLDER = "stage1"  # below the data root
PREFIX = "public:"  # of a source that names one of these checkpoints
_DIGEST = re.compile(r"(sha256|md5):[0-9a-f]{8,64}")


class PublicCheckpoint(BaseModel):
    """One checkpoint of a ResNet-50 that others pretrained on ImageNet-1K."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  # for --stage1 OBJECTIVE=NAME
    objective: str
    epochs: int
    batch: int
    publisher: str
    digest: str  # sha256: or md5:, and the first digits
    url: str

    @field_validator("digest")
    @classmethod
    def _known_kind(cls, text: str) -> str:
        if not _DIGEST.fullmatch(text):
            raise ValueError(f"expected sha256: or md5: and at least 8 hex digits, got '{text}'")
        return text

    @property
    def file(self) -> str:
        """Name of the file at its source."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def facts(self) -> dict[str, str | int]:
        """The origin, for captions and model cards."""
        return {"publisher": self.publisher, "url": self.url, "epochs": self.epochs, "batch": self.batch}

    def place(self, data_root: Path) -> Path:
        """The file below a data root."""
        return data_root / FOLDER / self.file


@cache
def public_checkpoints() -> dict[str, PublicCheckpoint]:
    """Name -> checkpoint, in the order of stage1.yaml."""
    entries = [PublicCheckpoint.model_validate(entry) for entry in yaml.safe_load(FILE.read_text("utf-8"))]
    return {entry.name: entry for entry in entries}


def defaults() -> dict[str, PublicCheckpoint]:
    """Objective -> its first checkpoint in stage1.yaml."""
    return {entry.objective: entry for entry in reversed(public_checkpoints().values())}


def checkpoint_named(name: str) -> PublicCheckpoint:
    """The checkpoint of that name. UsageError for an unknown one."""
    if name not in public_checkpoints():
        raise unknown("public checkpoint", name, public_checkpoints())
    return public_checkpoints()[name]


def of_source(source: str | None) -> PublicCheckpoint | None:
    """The public checkpoint of a cell's source; None for files, addresses and rows without a checkpoint."""
    return checkpoint_named(source.removeprefix(PREFIX)) if source is not None and source.startswith(PREFIX) else None


def find_public(checkpoint: PublicCheckpoint, data_root: Path, cache: Path) -> tuple[Path, str]:
    """The file below the data root and its SHA-256.

    Raises:
        DataError: not there, or another file than the published one.
    """
    path = checkpoint.place(data_root)
    if not path.is_file():
        raise DataError(
            f"the public checkpoint {checkpoint.name} is not in {path.parent}. Get it: "
            f"suite data fetch stage1 {checkpoint.name}"
        )
    _check(checkpoint, path, cache)
    return path, file_digest(path, cache)


def fetch_public(
    checkpoint: PublicCheckpoint,
    data_root: Path,
    cache: Path,
    progress: Progress,
    handed: Iterable[Path] = (),
    pause: float = 1.0,
) -> tuple[Path, str]:
    """The file below the data root and its SHA-256: the one that is there, a copy of a `handed` one, or a download.

    Args:
        checkpoint: to get.
        data_root: of the datasets.
        cache: keeps known digests.
        progress: hears of the download.
        handed: files on this machine, recognised by their digests.
        pause: seconds before a download is tried again.

    Raises:
        DataError: cannot be downloaded, or is another file; nothing is kept then.
    """
    import requests

    from suite.data.download.http import Connection

    path = checkpoint.place(data_root)
    if path.is_file():
        return find_public(checkpoint, data_root, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            own = next((file for file in handed if _stated(checkpoint, _hex(checkpoint, file))), None)
            if own is not None:
                with own.open("rb") as source, atomic_file(path) as copy:
                    shutil.copyfileobj(source, copy)
            else:
                part, whole = Path(f"{path}.part"), Path(f"{path}.whole")
                try:
                    get = Connection(part, megabytes(progress, f"download {checkpoint.file}"), pause)
                    get(checkpoint.url, str(whole), None)
                except (requests.RequestException, OSError) as error:
                    raise DataError(_by_hand(checkpoint, f"{checkpoint.url}: {error}", data_root)) from None
                if not _stated(checkpoint, found := _hex(checkpoint, whole)):
                    whole.unlink()
                    raise DataError(_by_hand(checkpoint, f"{checkpoint.url} sent another file ({found})", data_root))
                whole.replace(path)
    return find_public(checkpoint, data_root, cache)


def _check(checkpoint: PublicCheckpoint, path: Path, cache: Path) -> None:
    kind = checkpoint.digest.partition(":")[0]
    if not _stated(checkpoint, found := file_digest(path, cache, kind)):
        raise DataError(
            f"{path} ({path.stat().st_size:,} bytes) is not {checkpoint.name}: its {kind} begins with {found[:8]}, "
            f"expected {checkpoint.digest.partition(':')[2]}. It may have been cut off. Delete it and type "
            f"`suite data fetch stage1 {checkpoint.name}`."
        )


def _stated(checkpoint: PublicCheckpoint, found: str) -> bool:
    return found.startswith(checkpoint.digest.partition(":")[2])


def _hex(checkpoint: PublicCheckpoint, file: Path) -> str:
    if not file.is_file():
        raise DataError(f"--from {file}: there is no such file.")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, checkpoint.digest.partition(":")[0]).hexdigest()


def _by_hand(checkpoint: PublicCheckpoint, problem: str, data_root: Path) -> str:
    folder = checkpoint.place(data_root).parent
    return (
        f"{checkpoint.name} could not be downloaded: {problem}. Get {checkpoint.file} on a machine with a network and "
        f"put it into {folder}, or name it: `suite data fetch stage1 {checkpoint.name} --from FILE`."
    )
