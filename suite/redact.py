"""Secrets in text that leaves the process: one function, used for output, logs, the store, pages and MLflow.

A secret is the user and password of an address, a signature or token in its query, the value of an HTTP
authorization header, and the value of an environment variable whose name says that it is secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

MASK = "***"
_SHORTEST = 6  # characters; shorter values of variables occur in ordinary text too
_SECRET_NAME = re.compile(r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|SECRET|TOKEN|APIKEY|KEY|CREDENTIALS?)(?:_|$)")
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#'\"<>]+)@")
_QUERY = re.compile(
    r"(?P<name>[?&;](?:[\w.-]*(?:token|secret|password|passwd|signature|credential|api[_-]?key)[\w.-]*|sig|key|pwd|auth)=)"
    r"[^\s&;#'\"<>]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?P<name>authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)[\w.~+/=-]+", re.IGNORECASE)

_remembered: set[str] = set()  # secrets of addresses that were given as options

T = TypeVar("T")


def redact(text: str, secrets: Sequence[str] | None = None) -> str:
    """`text` without secrets.

    Args:
        text: anything that is printed, logged or stored.
        secrets: what `secret_values` returned a moment ago, where many texts are redacted.

    >>> redact("cannot reach https://anna:pw@host/x?token=12")
    'cannot reach https://***@host/x?token=***'
    """
    for secret in secret_values() if secrets is None else secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    if "://" in text:
        text = _USER.sub(rf"\g<scheme>{MASK}@", text)
        text = _QUERY.sub(rf"\g<name>{MASK}", text)
    return _HEADER.sub(rf"\g<name>{MASK}", text) if "uthorization" in text or "UTHORIZATION" in text else text


def redact_all(value: T) -> T:
    """`value`, plain JSON, with every text in it redacted."""
    result: Any = value
    if isinstance(value, str):
        result = redact(value)
    elif isinstance(value, dict):
        result = {name: redact_all(content) for name, content in value.items()}
    elif isinstance(value, (list, tuple)):
        result = type(value)(redact_all(content) for content in value)
    return result  # type: ignore[no-any-return]


def remember_address(address: str) -> None:
    """From now on the password of `address` is a secret of its own: libraries quote it without the address."""
    password = _password(address)
    if len(password) >= _SHORTEST:
        _remembered.update({password, unquote(password)})


def secret_values() -> list[str]:
    """Values that must not appear, the longest first: one may be part of another."""
    values = set(_remembered)
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name.upper()) and len(value) >= _SHORTEST and not value.startswith(("/", "~")):
            values |= {value, quote(value, safe="")}
        if "://" in value and "@" in value:
            password = _password(value)
            if len(password) >= _SHORTEST:
                values |= {password, unquote(password)}
    return sorted(values, key=len, reverse=True)


def _password(address: str) -> str:
    try:
        user, _, _ = urlsplit(address).netloc.rpartition("@")
    except ValueError:  # no address after all
        return ""
    return user.partition(":")[2]
