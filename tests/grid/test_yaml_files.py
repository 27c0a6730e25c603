"""Files that are no YAML, or no fields: the error names file, line and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from suite.errors import UsageError
from suite.execute.slurm.site import load_site
from suite.grid.cells import parse_overrides
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.tuning.shipped import load_space


@pytest.mark.parametrize("load", [load_grid, load_profile, load_site, load_space])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: g\nrows: [a,\n", r"not valid YAML in line 3, column 1: expected the node content"),
        (b"name: g\n\trows: 3\n", r"not valid YAML in line 2, column 1: found character"),
        (b"", "expected YAML fields such as 'name: ...', got an empty file"),
        (b"hello\n", "expected YAML fields such as 'name: ...', got str 'hello'"),
        (b"- 1\n- 2\n", "got list"),
        (b"name: \xff\xfe\n", "not valid YAML: 'utf-8' codec"),
    ],
)
def test_a_file_without_fields_is_named(
    load: Callable[[str], Any], content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        load(str(tmp_path / "mine.yaml"))
    assert str(tmp_path / "mine.yaml") in str(caught.value)


def test_a_value_of_set_that_is_no_yaml() -> None:
    with pytest.raises(UsageError, match=r"--set finetune.lr_candidates=\[0.1: the value is not valid YAML"):
        parse_overrides(["finetune.lr_candidates=[0.1"])
