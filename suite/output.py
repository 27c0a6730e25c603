"""Standard output and standard error that degrade instead of failing: characters that the encoding lacks are written
in ASCII, a closed pipe (`| head`) does not stop the work, and secrets are masked."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
import time
from types import TracebackType
from typing import TextIO

from suite.redact import redact, secret_values

# What tables and messages print beyond ASCII. Letters are not replaced by similar ones: two names must stay two.
_PLAIN = str.maketrans({
    "±": "+-", "−": "-", "–": "-", "—": "--", "…": "...", "×": "x", "·": "*", "•": "*", "†": "+", "‡": "++",
    "§": "S", "¶": "P", "°": " deg", "≥": ">=", "≤": "<=", "→": "->", "←": "<-", "‘": "'", "’": "'",
    "“": '"', "”": '"', "²": "^2", "³": "^3", "µ": "u", "\N{NO-BREAK SPACE}": " ",
})  # fmt: skip
_HANDLER = "suite-plain"


def plain(text: str) -> str:
    """`text` in ASCII: typographic signs by their usual replacement, other characters by their escape.

    >>> plain("α ±1")
    '\\\\u03b1 +-1'
    """
    return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


class SafeStream(io.TextIOWrapper):
    """A text stream that fails neither on characters that it cannot encode nor on a closed pipe."""

    _secrets: tuple[str, ...] = ()
    _asked = float("-inf")  # when the environment was last asked for secrets; asking at every write would be slow

    def write(self, text: str, /) -> int:
        """Write `text` with its secrets masked."""
        if time.monotonic() - self._asked > 1:
            self._secrets, self._asked = tuple(secret_values()), time.monotonic()
        try:
            super().write(redact(text, self._secrets))
        except BrokenPipeError:
            self._discard_from_now()
        return len(text)

    def flush(self) -> None:
        """Flush; discard the text if the pipe is closed."""
        try:
            super().flush()
        except BrokenPipeError:
            self._discard_from_now()

    def _discard_from_now(self) -> None:
        """Point the file descriptor at the null device: what is still buffered goes there."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def protect_streams() -> None:
    """Replace sys.stdout and sys.stderr by safe ones, and mask secrets in uncaught tracebacks."""
    codecs.register_error(_HANDLER, _replace)
    sys.stdout = _protected(sys.stdout)
    sys.stderr = _protected(sys.stderr)
    sys.excepthook = _print_traceback


def _protected(stream: TextIO | None) -> TextIO:
    if stream is None:  # started with the descriptor closed
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
    if type(stream) is not io.TextIOWrapper:  # a test's or a notebook's own stream
        return stream
    encoding, buffered = stream.encoding, stream.line_buffering
    stream.flush()
    return SafeStream(stream.detach(), encoding=encoding, errors=_HANDLER, line_buffering=buffered)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    import traceback

    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


class RedactingFormatter(logging.Formatter):
    """A formatter of log lines, tracebacks included, that masks secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without secrets."""
        return redact(super().format(record))
