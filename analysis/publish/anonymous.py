"""Take what belongs to a machine or a person out of published text: paths, user and host names, secrets.

Absolute paths become `[path]/NAME`, where NAME is the last part. The published page leaves out the logs of jobs.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from markupsafe import Markup

from suite.errors import StoreError
from suite.redact import MASK, redact, secret_values

T = TypeVar("T")

_SHORTEST = 4  # characters; shorter names of users and hosts occur in ordinary text too
_GENERIC = {"root", "user", "admin", "ubuntu", "debian", "runner", "nobody", "home", "suite", "jovyan", "localhost"}
# An absolute path of at least two parts. Not part of an address, a relative path, a fraction or a closing tag.
_POSIX = re.compile(r"(?<![\w./:~\]-])(?:(?:file|sqlite)://+)?/(?:[\w.@%+~#=-]+/)+[\w.@%+~#=-]*")
_HOME = re.compile(r"(?<![\w/])~[\w-]*/[\w.@%+~#=/-]+")
_WINDOWS = re.compile(r"(?<![\w])[A-Za-z]:[\\/]+(?:[\w.@ %+~-]+[\\/]+)+[\w.@%+~-]*")


@dataclasses.dataclass(frozen=True)
class Anonymiser:
    """Replaces the given folders and names.

    folders: absolute paths that text may quote, also ones with spaces; the longest first.
    names: of users and hosts, replaced where they stand as words.
    """

    folders: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of_machine(cls, folders: Iterable[Path] = ()) -> Anonymiser:
        """For this user on this machine.

        folders: further ones, such as the result store and the data root.
        """
        paths = {str(path) for folder in (*folders, Path.cwd()) for path in (folder.absolute(), folder.resolve())}
        long_enough = [path for path in paths if len(Path(path).parts) > 2]
        with suppress(RuntimeError):
            long_enough += [str(Path.home())] * (len(Path.home().parts) > 1)
        names = {name for name in _machine_names() if len(name) >= _SHORTEST and name.lower() not in _GENERIC}
        return cls(tuple(sorted(long_enough, key=len, reverse=True)), tuple(sorted(names, key=len, reverse=True)))

    def text(self, text: str) -> str:
        """`text` without paths, names and secrets.

        >>> Anonymiser((), ("kestrel-7",)).text("cannot read /srv/cub/a.jpg on kestrel-7")
        'cannot read [path]/a.jpg on ***'
        """
        text = redact(text)
        for folder in self.folders:
            rest = r"(?![\w-])(?P<rest>(?:/[^\s'\",;:<>|]*)?)"
            text = re.sub(rf"(?<![\w.])(?:(?:file|sqlite)://+)?{re.escape(folder)}{rest}", _shortened, text)
        for pattern in (_POSIX, _HOME, _WINDOWS):
            text = pattern.sub(_shortened, text)
        for name in self.names:
            text = re.sub(rf"(?<![\w]){re.escape(name)}(?![\w])", MASK, text)
        return text

    def tree(self, value: T) -> T:
        """`value` with every text in it replaced: dataclasses, mappings, lists and tuples of any depth. `Markup`, which
        the suite has made itself from numbers, and bytes stay."""
        result: Any = value
        if isinstance(value, Markup):
            return value
        if isinstance(value, str):
            result = self.text(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = {part.name: self.tree(getattr(value, part.name)) for part in dataclasses.fields(value) if part.init}
            result = dataclasses.replace(value, **parts)
        elif isinstance(value, Mapping):
            result = {self.tree(key): self.tree(part) for key, part in value.items()}
        elif isinstance(value, (list, tuple)):
            result = type(value)(self.tree(part) for part in value)
        return result  # type: ignore[no-any-return]

    def check(self, folder: Path) -> None:
        """Search every file of a folder, whatever its type, for this machine's folders, names and secrets.

        Raises:
            StoreError: one was found; names the file and the kind of text, not the text.
        """
        wanted = [(text.encode(), rb"\w+/", "the path of a folder of this machine") for text in self.folders]
        wanted += [(text.encode(), b"", "a password or token") for text in secret_values()]
        names = [(text.encode(), rb"\w+", "the name of a user or host") for text in self.names]
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            content = path.read_bytes()
            texts = [*wanted, *names] if path.suffix in _TEXT else wanted
            found = next((what for text, before, what in texts if _holds(content, text, before)), None)
            if found is not None:
                raise StoreError(
                    f"{path.relative_to(folder)} would hold {found}; nothing was published. Please report this: the "
                    "suite should have left it out."
                )


_TEXT = {".html", ".json", ".csv", ".tex", ".md", ".txt", ".yaml"}  # in weights a short name may occur by chance


def _holds(content: bytes, text: bytes, before: bytes) -> bool:
    """Whether `content` has `text`; with `before`, where it is not part of a longer word or of base64."""
    if text not in content:  # a hundred times as fast as the pattern
        return False
    return not before or re.search(rb"(?<![" + before + rb"])" + re.escape(text) + rb"(?![\w+])", content) is not None


def _machine_names() -> set[str]:
    """Names of the user and of the host."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    names |= {os.environ.get(variable, "") for variable in ("USER", "LOGNAME", "USERNAME", "HOSTNAME")}
    with suppress(KeyError, OSError, ImportError):
        names.add(getpass.getuser())
    return names


def _shortened(match: re.Match[str]) -> str:
    path = match["rest"] if "rest" in match.re.groupindex else match[0]
    name = re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    return f"[path]/{name}" if name else "[path]"
