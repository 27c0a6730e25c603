"""Archives that want out of their folder, or to fill the disk."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.data.download.unpack import Limits, unpack
from suite.errors import DataError

from .archives import SYMLINK, lying_tar, lying_zip, tar_of, zip_of

LIMITS = Limits(growth=4, allowance=100_000, files=50)
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "tar ..": (lambda p: tar_of(p, ("set/../../evil", b"x")), "leaves its folder"),
    "tar absolute": (lambda p: tar_of(p, ("/tmp/evil", b"x")), "leaves its folder"),
    "tar backslash": (lambda p: tar_of(p, ("set\\..\\evil", b"x")), "leaves its folder"),
    "tar symlink": (lambda p: tar_of(p, ("set/evil", b"", tarfile.SYMTYPE, "/etc")), "link or device"),
    "tar inner symlink": (lambda p: tar_of(p, ("set/evil", b"", tarfile.SYMTYPE, "good.jpg")), "link or device"),
    "tar hard link": (lambda p: tar_of(p, ("set/evil", b"", tarfile.LNKTYPE, "../../etc/passwd")), "link or device"),
    "tar device": (lambda p: tar_of(p, ("set/evil", b"", tarfile.CHRTYPE, "")), "link or device"),
    "tar fifo": (lambda p: tar_of(p, ("set/evil", b"", tarfile.FIFOTYPE, "")), "link or device"),
    "tar bomb": (lambda p: tar_of(p, ("set/big", bytes(50_000_000))), "unpacks to more than"),
    "tar bomb beside": (lambda p: tar_of(p, ("other/big", bytes(50_000_000))), "unpacks to more than"),
    "tar that lies": (lying_tar, "unpacks to more than"),
    "tar of many": (lambda p: tar_of(p, *((f"set/{n}", b"") for n in range(60))), "more than 50 entries"),
    "tar twice": (lambda p: tar_of(p, ("set/good.jpg", b"y")), "damaged"),
    "tar file as folder": (lambda p: tar_of(p, ("set/good.jpg/evil", b"y")), "damaged"),
    "zip ..": (lambda p: zip_of(p, ("set/../../evil", b"x")), "leaves its folder"),
    "zip absolute": (lambda p: zip_of(p, ("/tmp/evil", b"x")), "leaves its folder"),
    "zip symlink": (lambda p: zip_of(p, ("set/evil", b"/etc"), mode=SYMLINK), "link or device"),
    "zip bomb": (lambda p: zip_of(p, ("set/big", bytes(50_000_000))), "unpacks to more than"),
    "zip that lies": (lying_zip, "damaged|more than"),
    "empty": (lambda p: p.write_bytes(b"") or p, "neither a tar nor a zip"),
    "page": (lambda p: p.write_bytes(b"<html>log in</html>") and p, "neither a tar nor a zip"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_leave_nothing(case: str, tmp_path: Path) -> None:
    make, message = HOSTILE[case]
    archive = make(tmp_path / "archive")
    root = tmp_path / "inner" / "data"
    with pytest.raises(DataError, match=message):
        unpack(archive, root / "set", limits=LIMITS)
    assert not list(root.iterdir())
    assert {path.name for path in tmp_path.rglob("*")} == {"archive", "inner", "data"}


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_good_archive_and_a_cut_one(make: Callable[..., Path], tmp_path: Path) -> None:
    entries = (("./set/deep/er/photo.jpg", b"photo" * 9000), ("beside.txt", b"y"))
    archive = make(tmp_path / "archive", *entries)
    heard: list[tuple[int, int]] = []
    unpack(archive, tmp_path / "data/set", progress=lambda *step: heard.append(step))
    kept = {path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.*")}
    assert kept == {"set/good.jpg", "set/deep/er/photo.jpg"}
    assert (tmp_path / "data/set/deep/er/photo.jpg").read_bytes() == entries[0][1]
    assert heard[-1] == (archive.stat().st_size,) * 2
    cut = tmp_path / "cut"
    cut.write_bytes(archive.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"damaged|neither"):
        unpack(cut, tmp_path / "other/set")
    with pytest.raises(DataError, match="no folder cub/"):
        unpack(archive, tmp_path / "other/cub")
    assert not list((tmp_path / "other").iterdir())
