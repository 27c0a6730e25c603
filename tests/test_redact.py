"""Secrets never leave the process in text."""

from __future__ import annotations

import pytest

from suite.redact import redact, redact_all


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET http://eva:w0rd@host:5000/api failed", "GET http://***@host:5000/api failed"),
        ("postgresql+psycopg2://eva:w@rd@db/x", "postgresql+psycopg2://***@db/x"),
        ("https://host/f.pth?token=abc&name=x#sha256=00", "https://host/f.pth?token=***&name=x#sha256=00"),
        ("https://b.s3/f?X-Amz-Signature=ab12&X-Amz-Date=1", "https://b.s3/f?X-Amz-Signature=***&X-Amz-Date=1"),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': 'Bearer ***'}"),
        ("mail eva@host, see https://host/@eva?x=1", "mail eva@host, see https://host/@eva?x=1"),
    ],
)
def test_addresses_and_headers(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_values_of_variables_whose_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "kestrel&9")
    monkeypatch.setenv("SOME_API_TOKEN", "tk-000111222")
    monkeypatch.setenv("KEYBOARD", "qwertzuiop")
    monkeypatch.setenv("SHORT_TOKEN", "cub")
    text = "kestrel&9 kestrel%269 tk-000111222 qwertzuiop cub"
    assert redact(text) == "*** *** *** qwertzuiop cub"


def test_the_password_of_an_address_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://eva:gre%25ylag@host")
    assert redact("tried gre%25ylag, then gre%ylag") == "tried ***, then ***"


def test_nested_content() -> None:
    content = {"a": ["http://eva:w@h", 1, None], "b": {"c": "plain"}}
    assert redact_all(content) == {"a": ["http://***@h", 1, None], "b": {"c": "plain"}}
