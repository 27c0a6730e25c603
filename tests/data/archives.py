"""Archives as they should be, and as nobody should send them."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    tar.addfile(info, io.BytesIO(content))


def tar_of(path: Path, *entries: tuple[str, bytes] | tuple[str, bytes, bytes, str]) -> Path:
    """A .tgz with the entry set/good.jpg first, then `entries` (name, content[, type, link])."""
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "set/good.jpg")
        for entry in entries:
            add(tar, *entry)
    return path


def zip_of(path: Path, *entries: tuple[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("set/good.jpg", b"x")
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            file.writestr(info, content)
    return path


def lying_tar(path: Path) -> Path:
    """A header that promises a terabyte."""
    info = tarfile.TarInfo("set/big.jpg")
    info.size = 10**12
    path.write_bytes(gzip.compress(info.tobuf() + b"x" * 512))
    return path


def lying_zip(path: Path) -> Path:
    """A zip whose directory claims 10 bytes for an entry of 50 million."""
    zip_of(path, ("set/big.jpg", bytes(50_000_000)))
    data = path.read_bytes()
    path.write_bytes(data.replace((50_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    return path


SYMLINK = stat.S_IFLNK | 0o777


def pack_folder(folder: Path, path: Path, stray: str = "attributes.txt") -> Path:
    """`folder` with its name as the top-level entry, and a file beside it, as in CUB's archive."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
        add(tar, stray)
    return path
