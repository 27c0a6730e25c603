"""Public checkpoints in place of a first stage (stage1.yaml) and of reference rows (reference.yaml): find, download and
check them.

The files are in `<data root>/stage1/`. Most publishers state 8 hex digits of a digest, which finds torn downloads and
wrong files, but is no protection against a forged one; a file without a stated digest is taken as it is. Reading a
checkpoint executes nothing (suite.training.layouts). The full SHA-256 of the file enters the job's key.
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
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from suite.atomic import atomic_file
from suite.data.download.checkpoint import file_digest
from suite.errors import DataError, unknown
from suite.locks import FileLock
from suite.progress import Progress, megabytes

FILE = Path(__file__).with_name("stage1.yaml")
REFERENCES = Path(__file__).with_name("reference.yaml")
FOLDER = "stage1"  # below the data root
PREFIX = "public:"  # of a source that names one of these checkpoints
_DIGEST = re.compile(r"(sha256|md5):[0-9a-f]{8,64}")


class PublicCheckpoint(BaseModel):
    """One checkpoint that others trained: of a first stage, a ResNet-50 on ImageNet-1K; or of a reference row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  # for --stage1 OBJECTIVE=NAME, or public:NAME in a grid
    objective: str | None = None  # None: of a reference row
    epochs: int | None = None
    batch: int | None = None
    training: str | None = None  # of a reference row, in place of epochs and batch
    publisher: str
    digest: str | None = None  # sha256: or md5:, and the first digits; None: the publisher states none
    url: str

    @field_validator("digest")
    @classmethod
    def _known_kind(cls, text: str | None) -> str | None:
        if text is not None and not _DIGEST.fullmatch(text):
            raise ValueError(f"expected sha256: or md5: and at least 8 hex digits, got '{text}'")
        return text

    @model_validator(mode="after")
    def _training_stated(self) -> PublicCheckpoint:
        if (self.training is None) == (self.objective is None or self.epochs is None or self.batch is None):
            raise ValueError(f"{self.name}: expected objective, epochs and batch, or training")
        return self

    @property
    def trained(self) -> str:
        """How it was trained, in words."""
        return self.training or f"{self.epochs} epochs, batch {self.batch}"

    @property
    def file(self) -> str:
        """Name of the file at its source."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def facts(self) -> dict[str, str | int]:
        """The origin, for captions and model cards."""
        known = {"epochs": self.epochs, "batch": self.batch, "training": self.training}
        stated = {name: value for name, value in known.items() if value is not None}
        return {"publisher": self.publisher, "url": self.url, **stated}

    def path(self, data_root: Path) -> Path:
        """The file below a data root."""
        return data_root / FOLDER / self.file


@cache
def public_checkpoints() -> dict[str, PublicCheckpoint]:
    """Name -> checkpoint, in the order of stage1.yaml."""
    entries = [PublicCheckpoint.model_validate(entry) for entry in yaml.safe_load(FILE.read_text("utf-8"))]
    return {entry.name: entry for entry in entries}


@cache
def reference_checkpoints() -> dict[str, PublicCheckpoint]:
    """Name -> checkpoint of a reference row, in the order of reference.yaml."""
    entries = [PublicCheckpoint.model_validate(entry) for entry in yaml.safe_load(REFERENCES.read_text("utf-8"))]
    return {entry.name: entry for entry in entries}


def defaults() -> dict[str, PublicCheckpoint]:
    """Objective -> its first checkpoint in stage1.yaml."""
    return {str(entry.objective): entry for entry in reversed(public_checkpoints().values())}


def checkpoint_named(name: str) -> PublicCheckpoint:
    """The checkpoint of that name, of a first stage or of a reference row. UsageError for an unknown one."""
    entries = {**public_checkpoints(), **reference_checkpoints()}
    if name not in entries:
        raise unknown("public checkpoint", name, entries)
    return entries[name]


def of_source(source: str | None) -> PublicCheckpoint | None:
    """The public checkpoint of a cell's source; None for files, addresses and rows without a checkpoint."""
    return checkpoint_named(source.removeprefix(PREFIX)) if source is not None and source.startswith(PREFIX) else None


def find_public(checkpoint: PublicCheckpoint, data_root: Path, cache: Path) -> tuple[Path, str]:
    """The file below the data root and its SHA-256.

    Raises:
        DataError: not there, or another file than the published one.
    """
    path = checkpoint.path(data_root)
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
        progress: called during the download.
        handed: files on this machine, recognised by their digests.
        pause: seconds before a download is tried again.

    Raises:
        DataError: cannot be downloaded, or is another file; nothing is kept then.
    """
    import requests

    from suite.data.download.http import Connection

    path = checkpoint.path(data_root)
    if path.is_file():
        return find_public(checkpoint, data_root, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            own = next((file for file in handed if _is_it(checkpoint, file)), None)
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
    if checkpoint.digest is None:
        return
    kind = checkpoint.digest.partition(":")[0]
    if not _stated(checkpoint, found := file_digest(path, cache, kind)):
        raise DataError(
            f"{path} ({path.stat().st_size:,} bytes) is not {checkpoint.name}: its {kind} begins with {found[:8]}, "
            f"expected {checkpoint.digest.partition(':')[2]}. It may have been cut off. Delete it and type "
            f"`suite data fetch stage1 {checkpoint.name}`."
        )


def _is_it(checkpoint: PublicCheckpoint, file: Path) -> bool:
    """Whether a file on this machine is the checkpoint: by its digest, or without a stated one by its name."""
    digest = _hex(checkpoint, file)
    return file.name == checkpoint.file if checkpoint.digest is None else _stated(checkpoint, digest)


def _stated(checkpoint: PublicCheckpoint, found: str) -> bool:
    return checkpoint.digest is None or found.startswith(checkpoint.digest.partition(":")[2])


def _hex(checkpoint: PublicCheckpoint, file: Path) -> str:
    if not file.is_file():
        raise DataError(f"--from {file}: there is no such file.")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, (checkpoint.digest or "sha256:").partition(":")[0]).hexdigest()


def _by_hand(checkpoint: PublicCheckpoint, problem: str, data_root: Path) -> str:
    folder = checkpoint.path(data_root).parent
    return (
        f"{checkpoint.name} could not be downloaded: {problem}. Get {checkpoint.file} on a machine with a network and "
        f"put it into {folder}, or name it: `suite data fetch stage1 {checkpoint.name} --from FILE`."
    )
