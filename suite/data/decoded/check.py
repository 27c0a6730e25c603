"""The size of an image, and whether it can be decoded, at less than the cost of decoding it."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from suite.data.datasets.files import DAMAGED, MAX_PIXELS, decode_image, orientation
from suite.data.datasets.formats import readable_formats
from suite.data.datasets.integrity import check_whole

TRANSPOSED = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange height and width


def image_size(path: Path) -> tuple[tuple[int, int], int]:
    """Height and width of the upright picture, and the file's length in bytes. Of a JPEG, the header is read.

    Files of other formats are decoded: some turn the picture while they load it.

    Raises:
        ImageError: it is no image.
    """
    try:
        with path.open("rb") as file, Image.open(file, formats=readable_formats()) as image:
            if _is_photograph(image):
                return _upright(image), file.seek(0, io.SEEK_END)
    except DAMAGED:  # the decoder itself says what is wrong, or that nothing is
        pass
    return _decoded(path, None)


def check_image(path: Path) -> tuple[tuple[int, int], int]:
    """As `image_size`, after reading all of the file and, of a JPEG, every coefficient.

    A JPEG is decoded at an eighth of its size, which leaves out most of the inverse cosine transform: a third of the
    time of decoding. Files of other formats are decoded.

    Raises:
        ImageError: it cannot be decoded.
    """
    data = None
    try:
        data = path.read_bytes()
        check_whole(data)
        with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
            if _is_photograph(image):
                shape = _upright(image)
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
                image.load()
                return shape, len(data)
    except DAMAGED:
        pass
    return _decoded(path, data)


def _is_photograph(image: Image.Image) -> bool:
    return image.format == "JPEG" and image.width * image.height <= MAX_PIXELS


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (width, height) if orientation(image) in TRANSPOSED else (height, width)


def _decoded(path: Path, data: bytes | None) -> tuple[tuple[int, int], int]:
    image = decode_image(path, data)
    return (image.height, image.width), path.stat().st_size if data is None else len(data)
