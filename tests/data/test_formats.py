"""Which files are images, what is decoded whole and what is damaged, and which names mean the same."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from suite.data.datasets.annotations import decoded_lines, listed_path, parts
from suite.data.datasets.files import decode_image
from suite.data.datasets.formats import image_suffixes, is_companion, is_image_name, readable_formats
from suite.data.datasets.names import dataset_name, folded, normal
from suite.errors import DataError

HERE = Path("picture")


def photo(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 9, size[0]), np.linspace(0, 7, size[1]))
    grain = np.random.default_rng(5).normal(0, 20, (size[1], size[0], 3))
    pixels = 128 + 90 * np.sin(x + y)[..., None] + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_suffixes_are_those_of_formats_that_pillow_decodes() -> None:
    suffixes = image_suffixes()
    assert {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".jp2"} <= suffixes
    assert not {".mpg", ".eps", ".h5", ".wmf", ".pdf", ".txt", ".csv", ""} & suffixes
    assert "EPS" not in readable_formats()
    assert is_image_name("a.JPG")
    assert is_image_name("b.Tif")
    assert not is_image_name("._b.jpg")
    assert not is_image_name("jpg")


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", "__MACOSX", "._x.jpg", "Thumbs.db", "Desktop.ini", ".DS_Store", "@eaDir", "x.jpg~", "~$b"],
)
def test_companions(name: str) -> None:
    assert is_companion(name)


@pytest.mark.parametrize("name", ["auk", "x.jpg", "001.Black_footed_Albatross", "_x", "n01440764", "鳥"])
def test_no_companions(name: str) -> None:
    assert not is_companion(name)


TRAILER = b"\x00\x00\x00\x18ftypmp42" + b"\xff\xda\x11\xff\xda\x00" * 40  # a film whose bytes look like a scan


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"optimize": True}])
def test_a_jpeg_with_something_behind_it_is_whole(mode: str, options: dict[str, object]) -> None:
    data = encoded(photo(mode), "JPEG", **options)
    alone = np.asarray(decode_image(HERE, data))
    assert np.array_equal(np.asarray(decode_image(HERE, data + TRAILER)), alone)
    assert np.array_equal(np.asarray(decode_image(HERE, data + data)), alone)


def test_of_several_pictures_it_is_the_first() -> None:
    first, second = photo(), photo().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for kind, close in (("MPO", 40), ("GIF", 60), ("WEBP", 40), ("PNG", 0)):
        many = encoded(first, kind, save_all=True, append_images=[second])
        pixels = np.asarray(decode_image(HERE, many)).astype(int)
        assert np.abs(pixels - np.asarray(first)).mean() <= close, kind


def test_a_jpeg_with_a_preview_inside_is_judged_by_its_own_end() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 20
    preview = encoded(photo(size=(32, 24)), "JPEG")
    data = encoded(photo(), "JPEG", exif=exif.tobytes() + preview)
    decode_image(HERE, data)
    for share in (0.9, 0.6, 0.4):
        with pytest.raises(DataError, match="cannot decode"):
            decode_image(HERE, data[: int(len(data) * share)])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
@pytest.mark.parametrize("behind", [b"", b"\0" * 5000, TRAILER, b"\xff\xd8" + b"junk" * 99])
def test_a_torn_jpeg_is_found_whatever_follows(options: dict[str, object], behind: bytes) -> None:
    data = encoded(photo(), "JPEG", **options)
    for share in (0.3, 0.6, 0.95):
        torn = data[: int(len(data) * share)]
        with pytest.raises(DataError, match="cannot decode"):
            decode_image(HERE, torn + behind)
    with pytest.raises(DataError, match="cannot decode"):
        decode_image(HERE, data[:-2] + behind)


def png(**options: object) -> bytes:
    return encoded(photo(), "PNG", **options)


def test_a_png_with_large_texts_and_profile_is_whole() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "n" * 3_000_000, zip=True)
    late = PngImagePlugin.PngInfo()
    late.add_itxt("later", "n" * 3_000_000, zip=True)
    plain = np.asarray(photo())
    behind = with_chunk(png(), b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000)))
    for data in (png(pnginfo=text), png(icc_profile=bytes(2_500_000)), behind):
        assert np.array_equal(np.asarray(decode_image(HERE, data)), plain)
    assert np.array_equal(np.asarray(decode_image(HERE, png(pnginfo=late) + b"more")), plain)


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """The chunk just before the end of a PNG."""
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:-12] + chunk + data[-12:]


def test_a_damaged_png_is_found() -> None:
    data = png()
    for end in (len(data) // 2, len(data) - 30, len(data) - 12, len(data) - 1):
        with pytest.raises(DataError, match="cannot decode"):
            decode_image(HERE, data[:end])
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    with pytest.raises(DataError, match="checksum"):
        decode_image(HERE, bytes(flipped))


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "TGA"])
def test_other_formats_whole_and_cut(kind: str) -> None:
    data = encoded(photo(), kind)
    assert decode_image(HERE, data).size == (96, 64)
    with pytest.raises(DataError, match="cannot decode"):
        decode_image(HERE, data[: len(data) * 6 // 10])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "LAB", "YCbCr"])
def test_modes(mode: str) -> None:
    grey = photo("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else photo("RGB")
    if mode == "LAB":
        image = Image.merge("LAB", (grey, Image.new("L", grey.size, 128), Image.new("L", grey.size, 128)))
    elif mode != "I;16":
        image = image.convert(mode)
    pixels = np.asarray(decode_image(HERE, encoded(image, "PNG" if mode in {"1", "LA", "P", "RGBA"} else "TIFF")))
    assert pixels.shape == (64, 96, 3)
    if mode == "I;16":
        assert np.array_equal(pixels[..., 0], np.asarray(grey))


def test_a_palette_with_transparency_lies_on_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([200, 0, 0] + [0] * 765)
    pixels = np.asarray(decode_image(HERE, encoded(image, "GIF", transparency=0)))
    assert (pixels == 255).all()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("My Birds", "my_birds"),
        ("鳥", "鳥"),
        ("Öl", "öl"),
        ("O\u0308l", "öl"),
        ("a__b-", "a_b"),
        ("पक्षी", "पक्षी"),
        ("!!", ""),
    ],
)
def test_dataset_names(folder: str, name: str) -> None:
    assert dataset_name(folder) == name


def test_text_of_lists() -> None:
    assert parts("12\t  001.Auk/a b.jpg \t") == ("12", "001.Auk/a b.jpg")
    assert decoded_lines("\ufeff1 M\u006f\u0308we\r\n2 x\r".encode()) == ["1 Möwe", "2 x", ""]
    assert decoded_lines("1 Möwe\r\n".encode("utf-16")) == ["1 Möwe", ""]
    assert listed_path("001.Auk\\a.jpg") == listed_path("./001.Auk//a.jpg") == "001.Auk/a.jpg"
    for text in ("..\\a.jpg", "C:\\a.jpg", "\\a.jpg", "/a.jpg", "a/../b.jpg", "", "."):
        with pytest.raises(ValueError, match="inside"):
            listed_path(text)
    assert normal(" Mo\u0308we ") == "Möwe"
    assert folded("STRASSE") == folded("straße")
