"""`suite data fetch`: a local server that drops connections, lies and hides; archives brought by hand."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from suite.data.catalogue import DATASETS
from suite.data.datasets.load import load_dataset
from suite.data.download import fetch as module
from suite.data.download.fetch import fetch
from suite.data.download.http import download
from suite.data.download.manifest import Archive, Sources, manifest
from suite.errors import DataError, UsageError

from .archives import pack_folder


class Handler(BaseHTTPRequestHandler):
    """/<way>/<file>: serves `content` in one of many ways."""

    content: ClassVar[bytes] = b""
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        way = self.path.split("/")[1]
        asked = self.headers.get("Range")
        self.asked.append((way, asked))
        body = self.content
        start = int(asked.split("=")[1].rstrip("-")) if asked and way != "norange" else 0
        if way == "404" or (way == "busy" and len(self.asked) < 3):
            self.send_error(404 if way == "404" else 503)
            return
        if way == "page":
            body, start = b"<html>please log in</html>", 0
        if way == "wrong":
            body = bytes(len(body))
        if way == "short":
            body = body[:-10]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if way == "page" else "application/x-gzip")
        if way == "encoded":
            self.send_header("Content-Encoding", "gzip")
        if start:
            first = start + 1 if way == "shifted" else start
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if way != "unsized":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        piece = len(body) // 3
        end = start + piece if way in {"drop", "unsized", "shifted"} else len(body)
        if way == "silent":
            end = start
        self.wfile.write(body[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def quiet(what: str, done: int, total: int) -> None:
    pass


def archive(server: str, *ways: str) -> Archive:
    content = Handler.content
    digest = hashlib.sha256(content).hexdigest()
    mirrors = tuple(f"{server}/{way}/set.tgz" for way in ways)
    return Archive(file="set.tgz", hash=f"sha256:{digest}", gives="set", bytes=len(content), mirrors=mirrors)


def ways() -> list[str]:
    return [way for way, _ in Handler.asked]


@pytest.fixture
def payload() -> bytes:
    Handler.content = bytes(range(256)) * 2000
    return Handler.content


@pytest.mark.parametrize("way", ["fine", "drop", "busy", "norange", "unsized", "encoded"])
def test_one_mirror_is_enough(way: str, server: str, payload: bytes, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    path = download(archive(server, way), tmp_path, lambda *step: heard.append(step), pause=0)
    assert path.read_bytes() == payload
    assert heard[-1] == (len(payload), len(payload))
    assert not list(tmp_path.glob("*.part"))
    if way in {"drop", "unsized"}:  # goes on where it stopped, each third once
        third = len(payload) // 3
        assert [asked for _, asked in Handler.asked] == [
            None,
            f"bytes={third}-",
            f"bytes={2 * third}-",
            f"bytes={3 * third}-",
        ][: len(Handler.asked)]
    count = len(Handler.asked)
    assert download(archive(server, way), tmp_path) == path
    assert len(Handler.asked) == count  # once there it is not asked for again


@pytest.mark.parametrize(
    ("bad", "answer"),
    [("404", "404"), ("page", "web page"), ("wrong", "sent another file"), ("short", "511,990 bytes, expected 512,000"),
     ("silent", "no byte came in 3 attempts")],
)  # fmt: skip
def test_the_next_mirror_is_asked(bad: str, answer: str, server: str, payload: bytes, tmp_path: Path) -> None:
    path = download(archive(server, bad, "drop"), tmp_path, pause=0)
    assert path.read_bytes() == payload
    assert ways()[0] == bad
    path.unlink()
    with pytest.raises(DataError, match=f"set.tgz could not be downloaded:\n.*/{bad}/set.tgz.*{answer}"):
        download(archive(server, bad), tmp_path, pause=0)
    assert not path.exists()


def test_an_earlier_run_is_continued_even_by_another_mirror(server: str, payload: bytes, tmp_path: Path) -> None:
    part = tmp_path / "set.tgz.part"
    part.write_bytes(payload[:100_000])
    assert download(archive(server, "fine"), tmp_path, pause=0).read_bytes() == payload
    assert Handler.asked == [("fine", "bytes=100000-")]


@pytest.mark.parametrize("left", [b"of another file" * 999, bytes(600_000)], ids=["other bytes", "longer"])
def test_what_was_left_may_be_of_another_file(left: bytes, server: str, payload: bytes, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(left)
    assert download(archive(server, "fine"), tmp_path, pause=0).read_bytes() == payload


def test_a_server_that_cannot_continue_begins_again(server: str, payload: bytes, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(payload[:100_000])
    assert download(archive(server, "norange"), tmp_path, pause=0).read_bytes() == payload
    assert Handler.asked == [("norange", "bytes=100000-")]


def test_a_server_that_continues_elsewhere_is_not_believed(server: str, payload: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not be downloaded"):
        download(archive(server, "shifted"), tmp_path, pause=0)
    assert not (tmp_path / "set.tgz").exists()


@pytest.fixture
def served(layouts, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny CUB in an archive like the official one, and a manifest that knows it. Returns the archive."""
    packed = pack_folder(layouts.cub(), tmp_path / "birds.tgz")
    Handler.content = packed.read_bytes()
    known = archive(server, "404", "page", "drop").model_copy(update={"gives": "CUB_200_2011"})
    monkeypatch.setattr(module, "sources", lambda name: Sources(archives=(known,)))
    return packed


def test_from_nothing_to_a_dataset(served: Path, tmp_path: Path) -> None:
    root = tmp_path / "new"
    heard: list[str] = []
    found = fetch("cub", root, lambda what, *_: heard.append(what), pause=0)
    assert (len(found.train), len(found.test)) == (4, 2)
    assert ways()[:3] == ["404", "page", "drop"]
    assert list(dict.fromkeys(heard)) == ["download set.tgz, MB", "unpack set.tgz, MB"]
    assert {path.name for path in root.iterdir()} == {"CUB_200_2011", "downloads"}
    assert not list((root / "downloads").glob("*.tgz"))
    count = len(Handler.asked)
    assert fetch("cub", root, quiet).train == found.train
    assert len(Handler.asked) == count


@pytest.mark.parametrize("how", ["handed", "data root", "downloads"])
def test_an_archive_brought_by_hand(how: str, served: Path, tmp_path: Path) -> None:
    root = tmp_path / "new"
    (root / "downloads").mkdir(parents=True)
    place = {"handed": served, "data root": root / "set.tgz", "downloads": root / "downloads/set.tgz"}[how]
    place.write_bytes(Handler.content)
    found = fetch("cub", root, quiet, [place] if how == "handed" else [])
    assert len(found.train) == 4
    assert place.exists()  # what the user brought stays
    assert not Handler.asked


def test_a_wrong_archive_brought_by_hand(served: Path, tmp_path: Path) -> None:
    root = tmp_path / "new"
    root.mkdir()
    other = tmp_path / "kaggle.zip"
    other.write_bytes(b"<html>log in</html>")
    with pytest.raises(DataError, match=r"kaggle.zip \(19 bytes\) is not an archive of CUB.*set.tgz.*It is a web page"):
        fetch("cub", root, quiet, [other])
    with pytest.raises(DataError, match="no such file"):
        fetch("cub", root, quiet, [tmp_path / "nothing"])
    (root / "set.tgz").write_bytes(Handler.content[:50])
    with pytest.raises(
        DataError, match=r"set.tgz \(50 bytes\) is not set.tgz \([\d,]+ bytes, sha256 .*cut off.*Delete"
    ):
        fetch("cub", root, quiet)
    assert not Handler.asked


def test_what_is_in_the_way_is_not_touched(served: Path, layouts, tmp_path: Path) -> None:
    (layouts.root / "CUB_200_2011/images.txt").unlink()
    with pytest.raises(DataError, match=r"CUB_200_2011 exists, but is not in order: missing list.*move it away"):
        fetch("cub", layouts.root, quiet)
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn/SYNTHETIC.json").write_text("{}")
    with pytest.raises(DataError, match="synthetic images, which must not mix"):
        fetch("cub", tmp_path / "drawn", quiet)
    with pytest.raises(UsageError, match="did you mean 'cub'"):
        fetch("cubs", tmp_path, quiet)


def test_too_little_room(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(DataError, match=r"0.0 GB free, and set.tgz needs"):
        fetch("cub", tmp_path / "new", quiet)
    assert not Handler.asked


def test_cars_says_what_to_obtain_and_takes_each_part(layouts, server: str, tmp_path: Path, monkeypatch) -> None:
    """Parts come one by one: what is unpacked stays, and the instructions name the rest."""
    cars = layouts.cars()
    train = pack_folder(cars / "cars_train", tmp_path / "mine.tgz")
    test = pack_folder(cars / "cars_test", tmp_path / "other.tgz")
    labels = cars / "cars_test_annos_withlabels.mat"
    kit = pack_folder(cars / "devkit", tmp_path / "kit.tgz")

    def known(file: Path, name: str, gives: str, mirrors: tuple[str, ...] = ()) -> Archive:
        content = file.read_bytes()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return Archive(
            file=name, hash=f"md5:{md5}", gives=f"stanford_cars/{gives}", bytes=len(content), mirrors=mirrors
        )

    Handler.content = kit.read_bytes()
    parts = (
        known(kit, "car_devkit.tgz", "devkit", (f"{server}/fine/kit.tgz",)),
        known(labels, "cars_test_annos_withlabels.mat", "cars_test_annos_withlabels.mat"),
        known(train, "cars_train.tgz", "cars_train"),
        known(test, "cars_test.tgz", "cars_test"),
    )
    monkeypatch.setattr(module, "sources", lambda name: Sources(archives=parts, manual="Look on Kaggle."))
    root = tmp_path / "new"
    with pytest.raises(DataError, match=r"(?s)Look on Kaggle.*cars_train.tgz.*--from FILE") as caught:
        fetch("cars", root, quiet, [labels])
    assert "from car_devkit.tgz" not in str(caught.value)
    assert "from cars_test_annos" not in str(caught.value)
    with pytest.raises(DataError, match=r"Missing below .*new:\n  stanford_cars/cars_test, from"):
        fetch("cars", root, quiet, [train])
    (root / "cars_test.tgz").write_bytes(test.read_bytes())
    assert len(fetch("cars", root, quiet).test) == 2


def test_cars_as_kaggle_nests_it(layouts) -> None:
    root = layouts.cars()
    for part in ("cars_train", "cars_test"):
        (root / part).rename(root / "inner")
        (root / part).mkdir()
        (root / "inner").rename(root / part / part)
    (root / "car_devkit").mkdir()
    (root / "devkit").rename(root / "car_devkit/devkit")
    (root / "cars_test_annos_withlabels.mat").rename(root / "cars_test_annos_withlabels (1).mat")
    assert len(fetch("cars", layouts.root, quiet).test) == 2
    root.rename(root.with_name("x"))
    root.mkdir()
    root.with_name("x").rename(root / "stanford_cars")
    assert load_dataset("cars", layouts.root).train[0].path == "cars_train/cars_train/00001.jpg"


def test_the_manifest_fits_the_catalogue() -> None:
    assert manifest().keys() == DATASETS.keys()
    for name, sources in manifest().items():
        places = [archive.gives.split("/")[0] for archive in sources.archives]
        assert set(places) <= set(DATASETS[name].folders)
        assert sources.manual or all(archive.mirrors for archive in sources.archives)
        assert all(re.match(r"https?://", url) for archive in sources.archives for url in archive.mirrors)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in sources.lists.values())
