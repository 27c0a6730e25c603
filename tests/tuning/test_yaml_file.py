"""Values in the text of a YAML file change, and nothing else does; PyYAML, which reads profiles, reads them so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from suite.grid.spec import EXPERIMENTS
from suite.tuning.yaml_file import KeyPath, edited, renamed

PROFILES = sorted((EXPERIMENTS / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_without_changes_every_profile_stays_the_same_text(path: Any) -> None:
    text = path.read_text("utf-8")
    assert edited(text, {}) == text


def test_lines_below_a_value_stay_and_its_comment_is_quoted() -> None:
    text = "a:\n  b: 0.40   # why\n  # on c\n  c: 1\n\n  # on d\n  d: [1, 2]\n"
    assert edited(text, {("a", "b"): 0.5, ("a", "c"): 2, ("a", "d"): [3]}) == (
        "a:\n"
        "  b: 0.5   # tuned, see the top of this file; before: 0.40 (why)\n"
        "  # on c\n"
        "  c: 2   # tuned, see the top of this file; before: 1\n"
        "\n"
        "  # on d\n"
        "  d: [3]   # tuned, see the top of this file; before: [1, 2]\n"
    )


@pytest.mark.parametrize("value", [1e-5, 1e20, 0.1, 3, True, None, "on", "no", "1e-5", "squash", [1, 2.5], ""])
def test_pyyaml_reads_what_was_meant(value: Any) -> None:
    for key_path in (("a", "b"), ("a", "new"), ("x", "y", "z")):
        content = yaml.safe_load(edited("a: {b: 1, c: 2}\nd: 4\n", {key_path: value}))
        for key in key_path:
            content = content[key]
        assert content == value
        assert type(content) is type(value)


SHARED = """\
first: &f {scale: 0.1, more: {deep: 1, other: 2}}   # the first's
second: *f
third: {<<: *f, extra: 3}
fourth:
  <<: *f
  more: {deep: 5}
"""


@pytest.mark.parametrize(
    ("key_path", "expected"),
    [
        (("second", "scale"), {"second": {"scale": 9, "more": {"deep": 1, "other": 2}}}),
        (("third", "scale"), {"third": {"scale": 9, "more": {"deep": 1, "other": 2}, "extra": 3}}),
        (("third", "more", "deep"), {"third": {"scale": 0.1, "more": {"deep": 9, "other": 2}, "extra": 3}}),
        (("fourth", "more", "deep"), {"fourth": {"scale": 0.1, "more": {"deep": 9}}}),
    ],
)
def test_places_that_share_content_keep_theirs(key_path: KeyPath, expected: dict[str, Any]) -> None:
    after = yaml.safe_load(edited(SHARED, {key_path: 9}))
    assert after == yaml.safe_load(SHARED) | expected


def test_a_value_where_content_is_defined_is_that_of_its_aliases_too() -> None:
    after = yaml.safe_load(edited(SHARED, {("first", "scale"): 9}))
    assert [after[name]["scale"] for name in ("first", "second", "third", "fourth")] == [9, 9, 9, 9]


def test_a_name_and_a_header() -> None:
    text = renamed("# about\nname: a   # x\nnote: old\n", "b", "new: one", "two\nlines")
    assert text.splitlines()[:3] == ["# two", "# lines", "#"]
    assert yaml.safe_load(text) == {"name": "b", "note": "new: one"}
    assert "# about" in text


def test_a_place_below_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a mapping at a, found 1"):
        edited("a: 1\n", {("a", "b"): 2})
