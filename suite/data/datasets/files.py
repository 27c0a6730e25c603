"""Image files: whether all of a dataset's are there and inside its folder, and decoding one to RGB pixels."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from suite.data.datasets.annotations import obtain, some
from suite.data.record import Dataset
from suite.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_PIXELS = 89_478_485  # Pillow's own limit for suspicion (a quarter GiB of RGB); it only warns, we refuse
SUFFIXES = (".jpg", ".jpeg", ".png")
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


def check_images(dataset: Dataset) -> None:
    """DataError unless every image is a file inside the dataset's folder. One directory scan per folder, no opening."""
    by_folder: dict[str, list[str]] = {}
    paths = [r.path for r in (*dataset.train, *dataset.test)]
    for path in paths:
        folder, _, file = path.rpartition("/")
        by_folder.setdefault(folder, []).append(file)
    inside = dataset.root.resolve()
    missing: list[str] = []
    for folder, files in by_folder.items():
        present = scan(dataset.root / folder, inside)
        missing += [f"{folder}/{f}" for f in files if f not in present]
    if missing:
        raise DataError(
            f"{dataset.root}: {len(missing):,} of {len(paths):,} listed images are missing, such as {some(missing)}. "
            f"The lists are there, so unpack or copy the images too. {obtain(dataset.name)}"
        )


def unlisted(dataset: Dataset) -> list[str]:
    """Image files beside the listed ones that no list names, relative to the dataset's folder."""
    listed = {record.path for record in (*dataset.train, *dataset.test)}
    folders = dict.fromkeys(path.rpartition("/")[0] for path in listed)
    inside = dataset.root.resolve()
    present = (f"{folder}/{name}".lstrip("/") for folder in folders for name in scan(dataset.root / folder, inside))
    return sorted(path for path in present if path not in listed and path.lower().endswith(SUFFIXES))


def scan(folder: Path, inside: Path) -> set[str]:
    """The names of the files in `folder`; DataError if it, or a link in it, leads out of the dataset's folder."""
    if not folder.is_dir():
        return set()
    check_inside(folder, inside)
    names = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                check_inside(Path(entry.path), inside)
            if entry.is_file():
                names.add(entry.name)
    return names


def check_inside(path: Path, inside: Path) -> None:
    """DataError if `path`, with links followed, is not below the resolved dataset folder `inside`."""
    target = path.resolve()
    if not target.is_relative_to(inside):
        raise DataError(
            f"{path} is a link to {target}, outside the dataset's folder {inside}. Copy the file there, or link the "
            f"dataset's whole folder instead of a part of it."
        )


def decode(path: Path) -> npt.NDArray[np.uint8]:
    """The picture as RGB, uint8 [H, W, 3]; see `decode_image`."""
    return np.array(decode_image(path))


def decode_image(path: Path, data: bytes | None = None) -> Image.Image:
    """The picture as RGB, upright by its EXIF orientation. `data`: the file's content, if it has been read already.

    Grey is repeated, 16 bits become 8 (v / 257, rounded), CMYK is converted (Pillow handles Adobe's inverted values),
    and transparency is laid over white. Raises DataError for anything that is not a whole image.
    """
    try:
        data = path.read_bytes() if data is None else data
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path} has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: it does not belong "
                    f"to a dataset of photographs. Replace it by a smaller copy."
                )
            image.load()
            if image.format == "JPEG" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
                raise OSError("JPEG without an end")  # a tail of zeros, which the decoder can take for grey
            return to_rgb(image, path)
    except DAMAGED as e:
        raise DataError(f"cannot decode {path}: {cause(data or b'', e)}. Fetch the file again, then retry.") from e


def to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """The loaded image as described for `decode_image`."""
    turn = UPRIGHT.get(orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if image.mode == "F":
        raise DataError(f"{path} has floating-point pixels of unknown range: save it with 8 bits per channel.")
    if image.mode.startswith("I"):  # "I;16", "I;16B", and "I" from formats that only have 16 bits
        grey = (np.asarray(upright, dtype=np.float64).clip(0, 65535) / 257).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        rgba = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; 1 also where the EXIF block is damaged, since the picture itself can still be good."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except DAMAGED:
        return 1


def cause(data: bytes, error: BaseException) -> str:
    """What is wrong with a file of this content, in words a user can act on."""
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
