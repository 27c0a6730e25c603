"""Recognise what came in place of a file: a web page, a git-lfs pointer, an archive."""

from __future__ import annotations

from pathlib import Path

_STARTS = {
    b"<!doctype": "It is a web page, not the file: look at the address it came from.",
    b"<html": "It is a web page, not the file: look at the address it came from.",
    b"version https://git-lfs": "It is a git-lfs pointer, not the file: fetch the file with `git lfs pull`.",
    b"<?xml": "It is an XML message of a server, not the file: look at the address it came from.",
    b"\x1f\x8b": "It is compressed by gzip: unpack it first.",
    b"\x89hdf": "It is an HDF5 file.",
    b"7z\xbc\xaf": "It is a 7z archive: unpack it first.",
    b"{": "It is a JSON file, such as an index or an error message of a server.",
}


def describe_content(path: Path) -> str:
    """One sentence on a file that is not what was expected; empty where its first bytes are not known."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "The file is empty."
    beginning = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for known, sentence in _STARTS.items():
        if beginning.startswith(known):
            return sentence
    return "It is a web page, not the file: look at the address it came from." if b"<html" in beginning else ""
