"""Decoding: every kind of picture a dataset may hold becomes RGB, and everything else is an error with a reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from suite.data.datasets.files import decode
from suite.errors import DataError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        buffer, "JPEG", **options
    )
    return buffer.getvalue()


def test_rgb_and_grey(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "b.png")
    Image.fromarray(GREY > 100).save(tmp_path / "c.png")
    assert (decode(tmp_path / "a.png") == RGB).all()
    assert decode(tmp_path / "a.png").flags.writeable
    assert (decode(tmp_path / "b.png") == GREY[:, :, None]).all()
    assert (decode(tmp_path / "c.png")[..., 1] == np.where(GREY > 100, 255, 0)).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / f"a.{suffix}")
    assert (decode(tmp_path / f"a.{suffix}") == GREY[:, :, None]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_orientation(tmp_path, orientation, mode):
    image = Image.fromarray(RGB if mode == "RGB" else GREY.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    plain = Image.fromarray(RGB if mode == "RGB" else np.stack([GREY] * 3, axis=2))
    plain.getexif()[0x0112] = orientation
    assert (decode(tmp_path / "a.png") == np.asarray(ImageOps.exif_transpose(plain))).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_reason_to_lose_a_good_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"))
    assert decode(tmp_path / "a.jpg").shape == (64, 64, 3)


def test_cmyk(tmp_path):
    Image.fromarray(np.full((16, 16, 3), (200, 30, 40), dtype=np.uint8)).convert("CMYK").save(
        tmp_path / "a.jpg", quality=95
    )
    assert abs(decode(tmp_path / "a.jpg").astype(int) - (200, 30, 40)).max() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (4, 4), 1)
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.putpixel((0, 0), 0)
        image.info["transparency"] = 0
        image.save(tmp_path / "a.png", transparency=0)
    else:
        image.convert(mode).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png")
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [0, 0, 0]


def test_lab_and_colour_key(tmp_path):
    lab = ImageCms.applyTransform(
        Image.new("RGB", (4, 4), (200, 30, 40)),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    )
    lab.save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif").shape == (4, 4, 3)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "b.png", transparency=(1, 2, 3))
    assert (decode(tmp_path / "b.png") == 255).all()


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


WHOLE = jpeg()
BAD = {
    "cut in half": (WHOLE[: len(WHOLE) // 2], "cut off"),
    "last bytes lost": (WHOLE[:-2], "cut off"),
    "tail of zeros": (WHOLE[: len(WHOLE) // 2] + bytes(len(WHOLE) // 2), "cut off"),
    "progressive, cut": (jpeg(progressive=True)[:2000], "cut off"),
    "header only": (WHOLE[:20], "damaged|no known image format"),
    "noise": (bytes(range(1, 255)), "no known image format"),
    "web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "empty": (b"", "empty .0 bytes."),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "bomb": (bomb(), "60000 x 60000|decompression bomb"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_whole_image(tmp_path, case):
    content, message = BAD[case]
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.jpg.*({message})"):
        decode(tmp_path / "bad.jpg")


def test_large_but_below_pillows_error_limit(tmp_path):
    Image.new("1", (12_000, 9_000)).save(tmp_path / "big.png")
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DataError, match="12000 x 9000 pixels"):
        decode(tmp_path / "big.png")


def test_no_such_file_and_float_pixels(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        decode(tmp_path / "none.jpg")
    Image.fromarray(np.zeros((3, 3), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="floating-point"):
        decode(tmp_path / "f.tif")
