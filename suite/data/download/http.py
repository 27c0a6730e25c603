"""One file over HTTP, from the first mirror that has it: an interrupted download is resumed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite.data.download.manifest import Archive
from suite.errors import DataError

TRIES = 3  # connections in a row that may bring nothing before a mirror is given up
_CHUNK = 1 << 18
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class _Refused(OSError):
    """The mirror answers, but not with the file; asking again will not help."""


class _Dropped(OSError):
    """The connection ended early; what came is kept."""


def download(
    archive: Archive, folder: Path, progress: Callable[[int, int], None] | None = None, pause: float = 1.0
) -> Path:
    """The archive in `folder`, its checksum verified; a file that is there already is not loaded again.

    Args:
        archive: what to get, and where.
        folder: made where it is missing. Until it is complete the file is called `<name>.part`.
        progress: called with (bytes received, total bytes).
        pause: seconds before the first retry, doubled with every further one.

    Raises:
        DataError: no mirror has the right file; says what each of them answered.
    """
    import pooch
    import requests

    from suite.locks import FileLock

    pooch.get_logger().setLevel("ERROR")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{archive.file}.part"
    answers = []
    with FileLock(folder / f".{archive.file}.lock"):
        for url in archive.mirrors:
            for begun in dict.fromkeys((part.exists(), False)):  # what an earlier run left may be of another file
                try:
                    # pooch keeps the file only where the hash fits; a wrong file is deleted with its .part.
                    get = Connection(part, progress, pause, archive.bytes)
                    return Path(pooch.retrieve(url, archive.hash, fname=archive.file, path=folder, downloader=get))
                except ValueError as error:
                    found = re.search(r"got ([0-9a-f]{32,64})", str(error))
                    answers.append(f"{url} sent another file ({found[1] if found else 'other hash'})")
                except (requests.RequestException, OSError) as error:
                    answers.append(f"{url}: {error}")
                    break
                if not begun:
                    break
    tried = "".join(f"\n  {answer}" for answer in answers)
    raise DataError(f"{archive.file} could not be downloaded:{tried}")


class Connection:
    """A pooch downloader that continues `part`. `size` is the number of bytes expected, None if unknown."""

    def __init__(
        self, part: Path, progress: Callable[[int, int], None] | None, pause: float, size: int | None = None
    ) -> None:
        self.part, self.progress, self.pause, self.size = part, progress, pause, size

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        """Load `url` into `part`, over as many connections as bring something, and move it to `output_file`."""
        import requests
        import urllib3

        fruitless = 0
        while True:
            before = self._there()
            try:
                self._continue(url, before)
                break
            except (_Dropped, requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
                fruitless = 0 if self._there() > before else fruitless + 1
                if fruitless >= TRIES:
                    raise _Refused(f"no byte came in {TRIES} attempts ({error})") from error
                time.sleep(self.pause * 2 ** max(0, fruitless - 1))
        self.part.replace(output_file)

    def _there(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _continue(self, url: str, start: int) -> None:
        import requests

        if start and start == self.size:
            return
        # Not compressed on the way: some servers would mark a .tgz as such, and it would come unpacked.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=30) as response:
            if response.status_code == 416:  # longer than the file there: of no use
                self.part.unlink()
                raise _Dropped("the server has no more bytes than are here")
            if response.status_code in {429, 500, 502, 503, 504}:
                raise _Dropped(f"the server is busy ({response.status_code})")
            response.raise_for_status()
            start, total = self._span(response, start)
            with self.part.open("ab" if start else "wb") as file:
                done = start
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    done += len(chunk)
                    if total is not None and done > total:
                        raise _Refused(f"sends more than the {total:,} bytes expected")
                    file.write(chunk)
                    if self.progress is not None:
                        self.progress(done, total or 0)
        if total is not None and done < total:
            raise _Dropped(f"the connection ended after {done:,} of {total:,} bytes")

    def _span(self, response: Any, start: int) -> tuple[int, int | None]:
        """The first byte of the answer and the total number of bytes; _Refused if it cannot be the file."""
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _Refused("answers with a web page, not with the file")
        span = _RANGE.match(response.headers.get("Content-Range", ""))
        length = response.headers.get("Content-Length")
        if response.status_code == 206 and span is not None and int(span[1]) == start:
            total = None if span[2] == "*" else int(span[2])
        else:  # the whole file from its beginning
            start, total = 0, None if length is None else int(length)
        expected = self.size
        if expected is not None and total is not None and total != expected:
            raise _Refused(f"has a file of {total:,} bytes, expected {expected:,}")
        return start, total if total is not None else expected
