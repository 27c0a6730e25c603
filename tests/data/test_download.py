"""Files by path or address, against a server that also misbehaves."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from suite.data.download.checkpoint import obtain_file
from suite.errors import DataError, UsageError

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        if self.path == "/missing.pth":
            self.send_error(404)
            return
        body = b"<html>please log in</html>" if self.path == "/login.pth" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/torn.pth" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.requests = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_is_loaded_once(server: str, tmp_path: Path) -> None:
    source = f"{server}/r50.pth#sha256={DIGEST.upper()}"
    path, digest = obtain_file(source, tmp_path)
    assert (path.read_bytes(), digest) == (CONTENT, DIGEST)
    assert path.name.endswith("-r50.pth")
    assert obtain_file(source, tmp_path) == (path, digest)
    assert Handler.requests == 1


def test_a_plan_asks_no_server(server: str, tmp_path: Path) -> None:
    path, digest = obtain_file(f"{server}/r50.pth#sha256={DIGEST}", tmp_path, download=False)
    assert (digest, path.exists(), Handler.requests) == (DIGEST, False, 0)


@pytest.mark.parametrize(
    ("name", "message"), [("missing.pth", "404"), ("login.pth", "is not the expected file: SHA-256 [0-9a-f]{64}"),
                          ("torn.pth", "cannot be downloaded|is not the expected file")],
)  # fmt: skip
def test_what_is_wrong_is_named_and_not_kept(name: str, message: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        obtain_file(f"{server}/{name}#sha256={DIGEST}", tmp_path)
    assert not [path for path in (tmp_path / "downloads").glob("*") if path.suffix != ".lock"]


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give its path instead"):
        obtain_file(f"http://127.0.0.1:9/r50.pth#sha256={DIGEST}", tmp_path)


def test_an_address_needs_a_hash(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="#sha256=<64 hex digits>"):
        obtain_file("https://example.org/r50.pth", tmp_path)
    with pytest.raises(UsageError, match="64 hexadecimal digits, got 'abc'"):
        obtain_file("https://example.org/r50.pth#sha256=abc", tmp_path)


def test_a_local_file_is_hashed_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(CONTENT)
    assert obtain_file(str(path), tmp_path / "cache") == (path, DIGEST)
    assert obtain_file(f"{path}#sha256={DIGEST}", tmp_path / "cache") == (path, DIGEST)
    path.write_bytes(b"changed")
    assert obtain_file(str(path), tmp_path / "cache")[1] == hashlib.sha256(b"changed").hexdigest()
    with pytest.raises(DataError, match=f"expected {DIGEST}"):
        obtain_file(f"{path}#sha256={DIGEST}", tmp_path / "cache")
    with pytest.raises(DataError, match="does not exist"):
        obtain_file(str(tmp_path / "nothing.pth"), tmp_path / "cache")
