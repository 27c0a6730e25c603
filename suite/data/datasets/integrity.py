"""Whether the bytes of a JPEG or PNG file are all there, where Pillow's decoders would not notice.

libjpeg fills what is missing with grey and takes any bytes after a torn place for pixels; Pillow stops reading a PNG
once it has its rows and does not compare checksums. Bytes after the end of an image (the video of a motion photo,
further images of an MPO file) are not part of it and are not checked.
"""

from __future__ import annotations

import re
import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_END, _SCAN = 0xD9, 0xDA
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # in a scan: all but stuffed bytes and restart markers
_IN_SCAN = frozenset({0xC4, _END, _SCAN, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)})  # may follow a scan's pixels


def check_whole(data: bytes) -> None:
    """OSError if `data` is a JPEG or PNG file that is cut off or damaged; nothing for other formats."""
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(PNG_SIGNATURE):
        _check_png(data)


def _check_jpeg(data: bytes) -> None:
    """Follow the segments (ITU-T T.81, annex B) from the start of the image to its end marker."""
    position, scans = 2, 0
    while True:
        while data[position : position + 2] == b"\xff\xff":  # fill bytes
            position += 1
        if len(data) < position + 2:
            raise OSError("the JPEG has no end")
        if data[position] != 0xFF:  # stray bytes between segments: decoders skip them
            position = data.find(b"\xff", position)
            if position < 0:
                raise OSError("the JPEG has no end")
            continue
        kind = data[position + 1]
        if kind == _END:
            if not scans:
                raise OSError("the JPEG ends before its pixels")
            return
        if kind in {0x00, 0x01} or 0xD0 <= kind <= 0xD8:  # no length follows
            position += 2
            continue
        if len(data) < position + 4:
            raise OSError("the JPEG has no end")
        position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
        if kind == _SCAN:
            scans += 1
            marker = _MARKER.search(data, position)
            if marker is None:
                raise OSError("the JPEG has no end")
            position = marker.end() - 2
            if data[position + 1] not in _IN_SCAN:
                raise OSError(f"the JPEG's pixel data break off at byte {position:,}")


def _check_png(data: bytes) -> None:
    """Every chunk up to IEND is there, and those that hold pixels have the right checksum."""
    position = len(PNG_SIGNATURE)
    while True:
        if len(data) < position + 12:
            raise OSError("the PNG has no end")
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 8 + length
        if len(data) < end + 4:
            raise OSError("the PNG has no end")
        if kind in {b"IHDR", b"PLTE", b"IDAT"} and zlib.crc32(memoryview(data)[position + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            raise OSError(f"the PNG's checksum at byte {position:,} is wrong")
        if kind == b"IEND":
            return
        position = end + 4


def without_text(data: bytes) -> bytes:
    """The PNG file without texts and colour profile, which Pillow refuses above 1 MiB; other data as they are."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind not in _TEXT:
            kept.append(data[position : position + 12 + length])
        position += 12 + length
    return b"".join(kept)
