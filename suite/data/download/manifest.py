"""The download manifest, manifest.yaml: which archives a dataset comes in, where they are, how to know them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from suite.errors import unknown

FILE = Path(__file__).with_name("manifest.yaml")
_HASH = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")
_CLOSED = ConfigDict(extra="forbid", frozen=True)


class Archive(BaseModel):
    """One file to download, and what is kept of it."""

    model_config = _CLOSED

    file: str  # its name at the source
    hash: str  # sha256:<64 hex>, or md5:<32 hex> where the source publishes no more
    gives: str  # place below the data root; its last part is the entry of the archive, or the file itself
    bytes: int | None = Field(default=None, gt=0)  # None: the source does not say
    mirrors: tuple[str, ...] = ()  # tried in this order; none: only the user can get it

    @field_validator("hash")
    @classmethod
    def _known_hash(cls, text: str) -> str:
        if not _HASH.fullmatch(text):
            raise ValueError(f"expected sha256:<64 hex digits> or md5:<32>, got '{text}'")
        return text

    @property
    def member(self) -> str:
        """The entry of the archive that is kept."""
        return PurePosixPath(self.gives).name

    def describe(self) -> str:
        """File, size and checksum, for instructions."""
        size = "" if self.bytes is None else f"{self.bytes:,} bytes, "
        return f"{self.file} ({size}{self.hash.replace(':', ' ')})"


class Sources(BaseModel):
    """All archives of one dataset, what to do where they cannot be downloaded, and its official lists."""

    model_config = _CLOSED

    archives: tuple[Archive, ...] = ()
    manual: str = ""
    lists: dict[str, str] = {}  # path below the dataset's folder -> SHA-256 of the official file


@cache
def manifest() -> dict[str, Sources]:
    """Dataset -> its sources, read and checked once per process."""
    content = yaml.safe_load(FILE.read_text("utf-8"))
    return {name: Sources.model_validate(entry) for name, entry in content.items()}


def sources(name: str) -> Sources:
    """The sources of one dataset. UsageError for a name that is not in the manifest."""
    known = manifest()
    if name not in known:
        raise unknown("dataset", name, known)
    return known[name]
