"""Decoding an image file to RGB pixels, and saying what is wrong with one that cannot be decoded."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from suite.data.datasets.formats import readable_formats
from suite.data.datasets.integrity import check_whole, without_text
from suite.errors import ImageError

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_PIXELS = 89_478_485  # Pillow's own limit for suspicion (a quarter GiB of RGB); it only warns, we refuse
UPRIGHT = {  # EXIF orientation -> what turns the picture upright (CIPA DC-008)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises for damaged files: its own errors are OSErrors, the rest comes out of single format readers.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    Image.DecompressionBombError,
)


def decode(path: Path) -> npt.NDArray[np.uint8]:
    """The picture as RGB, uint8 [H, W, 3]; see `decode_image`."""
    return np.array(decode_image(path))


def decode_image(path: Path, data: bytes | None = None, *, checked: bool = False) -> Image.Image:
    """The picture as RGB, upright by its EXIF orientation. `data`: the file's content, if it has been read already.

    `checked`: this content has been decoded before; `check_whole`, which holds the interpreter's lock, is left out.

    Grey is repeated, 16 bits become 8 (v / 257, rounded), CMYK and CIELAB are converted (Pillow handles Adobe's
    inverted values), and transparency is laid over white. Of several pictures in one file (animations, motion photos,
    pages of a TIFF) it is the first. The content tells the format, not the file's name.

    Raises:
        ImageError: it is not a whole image.
    """
    try:
        data = path.read_bytes() if data is None else data
        if not checked:
            check_whole(data)
        try:
            return _decoded(data, path)
        except ValueError:  # among others Pillow's limits on texts and colour profiles, which are not used here
            bare = without_text(data)
            if bare == data:
                raise
            return _decoded(bare, path)
    except DAMAGED as e:
        raise ImageError(f"cannot decode {path}: {cause(data or b'', e)}. Fetch the file again, then retry.") from e


def _decoded(data: bytes, path: Path) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"{path} has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: it does not belong "
                f"to a dataset of photographs. Replace it by a smaller copy."
            )
        image.load()
        return to_rgb(image, path)


def to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """The loaded image as described for `decode_image`."""
    turn = UPRIGHT.get(orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if image.mode == "F":
        raise ImageError(f"{path} has floating-point pixels of unknown range: save it with 8 bits per channel.")
    if image.mode.startswith("I"):  # "I;16", "I;16B", and "I" from formats that only have 16 bits
        grey = (np.asarray(upright, dtype=np.float64).clip(0, 65535) / 257).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(upright)
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        rgba = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    if converted is None:
        raise OSError("its CIELAB colours cannot be converted")
    return converted


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; 1 also where the EXIF block is damaged, since the picture itself can still be good."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except DAMAGED:
        return 1


def cause(data: bytes, error: BaseException) -> str:
    """The fault of a file of this content, in words a user can act on."""
    head = data[:256].lstrip()
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be read ({error.strerror})"
    if not head:
        return "the file is empty (0 bytes), as an interrupted copy leaves it"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image (run git lfs pull)"
    if head[:1] == b"<":
        return "it is a web page or XML, not an image: the download was answered with a page"
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known image format"
    return f"it is damaged or cut off ({error})"
