"""Public first stages: the list, downloads from a local server, and files that are torn or something else."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from methods.registry import OBJECTIVES
from suite.data.download import public
from suite.data.download.public import PublicCheckpoint, defaults, fetch_public, find_public, public_checkpoints
from suite.errors import DataError

CONTENT = bytes(range(256)) * 40


class Server(BaseHTTPRequestHandler):
    """/<way>/weights.pth: the file, a web page, another file, or one that ends early."""

    requests: ClassVar[int] = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        way = self.path.split("/")[1]
        body = {"page": b"<html>sign in</html>", "other": CONTENT[::-1], "torn": CONTENT[:700]}.get(way, CONTENT)
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if way == "page" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def entry(url: str, kind: str = "sha256") -> PublicCheckpoint:
    digest = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()[:8]}"
    return PublicCheckpoint(name="x-9ep", objective="byol", epochs=9, batch=4, publisher="P", digest=digest, url=url)


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


def test_the_list() -> None:
    entries = public_checkpoints()
    assert len({one.file for one in entries.values()}) == len(entries)
    assert {"rel_loc", "rot_pred", "simclr", "moco_v2", "byol", "simsiam"} <= defaults().keys() & OBJECTIVES.keys()
    for one in entries.values():
        assert one.name.startswith(f"{one.objective}-{one.epochs}ep")
        if one.publisher == "OpenMMLab":  # the file's name states its digest
            assert one.file.endswith(f"-{one.digest.removeprefix('sha256:')}.pth")
    for objective, one in defaults().items():
        assert one is next(other for other in entries.values() if other.objective == objective)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_download_is_kept_and_recognised(kind: str, address: str, tmp_path: Path) -> None:
    wanted = entry(f"{address}/good/weights.pth?x=1", kind)
    path, digest = fetch_public(wanted, tmp_path / "data", tmp_path / "cache", quiet, pause=0)
    assert (path, path.read_bytes()) == (tmp_path / "data" / "stage1" / "weights.pth", CONTENT)
    assert digest == hashlib.sha256(CONTENT).hexdigest()  # the whole of it, whatever the publisher states
    before = Server.requests
    assert fetch_public(wanted, tmp_path / "data", tmp_path / "cache", quiet) == (path, digest)
    assert find_public(wanted, tmp_path / "data", tmp_path / "cache") == (path, digest)
    assert Server.requests == before


@pytest.mark.parametrize(
    ("way", "message"), [("page", "a web page"), ("other", "sent another file"), ("torn", "sent another file")]
)
def test_a_wrong_download_is_not_kept(way: str, message: str, address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{message}.*put it into .*--from FILE"):
        fetch_public(entry(f"{address}/{way}/weights.pth"), tmp_path, tmp_path / "cache", quiet, pause=0)
    assert not [file for file in (tmp_path / "stage1").iterdir() if file.suffix != ".lock"]


def test_a_file_at_hand_is_recognised_by_its_digest(tmp_path: Path) -> None:
    wanted = entry("http://127.0.0.1:9/weights.pth")
    (tmp_path / "other.bin").write_bytes(b"other")
    (tmp_path / "renamed.bin").write_bytes(CONTENT)
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch_public(wanted, tmp_path, tmp_path / "cache", quiet, [tmp_path / "other.bin"], pause=0)
    with pytest.raises(DataError, match=r"nothing\.bin: there is no such file"):
        fetch_public(wanted, tmp_path, tmp_path / "cache", quiet, [tmp_path / "nothing.bin"], pause=0)
    at_hand = [tmp_path / "other.bin", tmp_path / "renamed.bin"]
    path, _ = fetch_public(wanted, tmp_path, tmp_path / "cache", quiet, at_hand)
    assert path.name == "weights.pth"


def test_a_file_below_the_data_root_is_checked(tmp_path: Path) -> None:
    wanted = entry("http://127.0.0.1:9/weights.pth", "md5")
    with pytest.raises(DataError, match=r"x-9ep is not in .*stage1. Get it: suite data fetch stage1 x-9ep"):
        find_public(wanted, tmp_path, tmp_path / "cache")
    wanted.path(tmp_path).parent.mkdir()
    wanted.path(tmp_path).write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"10,239 bytes\) is not x-9ep: its md5 begins with .* cut off"):
        find_public(wanted, tmp_path, tmp_path / "cache")


def test_a_digest_needs_its_kind() -> None:
    with pytest.raises(ValueError, match="at least 8 hex digits"):
        PublicCheckpoint.model_validate({**entry("http://x/y").model_dump(), "digest": "de817331"})
    assert public.FILE.is_file()
