"""One normal form for the text of lists and for names on the disk and the command line."""

from __future__ import annotations

import re
import unicodedata

from suite.errors import DataError


def composed(text: str) -> str:
    """Unicode NFC: the composed and the decomposed spelling of a letter become one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def normal(text: str) -> str:
    """`composed`, without blanks at either end."""
    return composed(text).strip()


def folded(text: str) -> str:
    """`normal` without capitalisation, to find the file that a list means."""
    return normal(composed(text).casefold())


def dataset_name(folder: str) -> str:
    """The name of a dataset from that of its folder: lower case, letters and digits of any script, else `_`.

    `My Birds` becomes `my_birds`, `Öl` becomes `öl`, `鳥` stays. Empty if the name has no letter and no digit.
    """
    text = composed(composed(folder).lower())
    kept = (c if c.isalnum() or unicodedata.category(c).startswith("M") else "_" for c in text)
    return re.sub("_+", "_", "".join(kept)).strip("_")


def check_utf8(name: str, where: str) -> None:
    """DataError for a name on the disk that is not UTF-8: it could be neither printed nor recorded."""
    if name.isascii():
        return
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raw = name.encode("utf-8", "surrogateescape")
        raise DataError(
            f"{where}: the name {raw!r} is not UTF-8. Rename it, or convert all names of the folder: "
            f"convmv -r -f latin1 -t utf8 --notest FOLDER."
        ) from error
