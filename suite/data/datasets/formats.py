"""Which files are images: every format that the installed Pillow decodes, recognised by suffix in any capitalisation.

The list is Pillow's own. Left out are stubs, which recognise a format and cannot decode it (HDF5, WMF), and formats
that Pillow itself announces as something else than an image (PostScript, MPEG).
"""

from __future__ import annotations

import mimetypes
from functools import cache

_COMPANIONS = frozenset(
    {
        "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS, in archives and on shares
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information",
        "@eadir", "@__thumb", "@recycle", "#recycle", "#snapshot", "@tmp",  # network storage (Synology, QNAP)
        "lost+found", "__pycache__", "picasa.ini",
    }
)  # fmt: skip


@cache
def readable_formats() -> tuple[str, ...]:
    """The names of the formats, as `PIL.Image.open` takes them."""
    from PIL import Image, ImageFile

    Image.init()
    with_suffix = set(Image.registered_extensions().values())
    names = []
    for name, (factory, _) in Image.OPEN.items():
        stub = isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)
        is_image = Image.MIME.get(name, "image/").startswith("image/")
        if name in with_suffix and is_image and not stub:
            names.append(name)
    common = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # tried first
    return tuple(sorted(names, key=lambda name: common.index(name) if name in common else len(common)))


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of these formats, in lower case and with their dot."""
    from PIL import Image

    formats = set(readable_formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def suffix_of(name: str) -> str:
    """The suffix of a file name in lower case with its dot, or ''."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return suffix_of(name) in image_suffixes() and not is_companion(name)


def is_companion(name: str) -> bool:
    """Whether a file or folder of this name accompanies the data and is no part of them.

    Hidden names (a leading dot: `.ipynb_checkpoints`, `._x.jpg`, `.DS_Store`), editors' backups and locks (`x.jpg~`,
    `~$x`), and the names that operating systems and network storage leave in every folder.
    """
    return name.startswith((".", "~$")) or name.endswith("~") or name.lower() in _COMPANIONS


def is_foreign_image(name: str) -> bool:
    """Whether the suffix is that of a picture or film in a format that is not read, such as `.heic`."""
    kind = mimetypes.guess_type(f"x{suffix_of(name)}")[0] or ""
    return kind.startswith(("image/", "video/"))
