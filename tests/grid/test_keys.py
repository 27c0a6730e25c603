"""Keys follow content alone: not how a file is written, nor where and on what jobs run; and every field of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suite.cli.select import SelectorOptions
from suite.errors import UsageError
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells, parse_overrides
from suite.grid.profile import Profile, load_profile
from suite.grid.recipe import field_paths
from suite.grid.spec import EXPERIMENTS, load_grid
from suite.jobs.identity import Job, content_key, key_of
from suite.kinds.registry import parse_spec

DETECTORS = {"masks": ("1", None), "u2netp": ("1", "w")}
ROWS = ("random", "byol_cvsa", "moco_v2", "looc", "insloc", "rel_loc")


def jobs(profile: Profile, grid: str = "paper_table1", **selection: Any) -> list[Job]:
    """The jobs of one seed on one dataset, in the profile's own recipe."""
    spec = load_grid(grid)
    prints = dict.fromkeys([*spec.datasets, "coco", "imagenet"], "f" * 64)
    found = cells(spec, profile, Selection(**{"datasets": ("cub",), "seeds": (0,), **selection}))
    return list({job.key: job for cell in found for job in jobs_of(cell, prints, DETECTORS).jobs}.values())


@cache
def demo() -> tuple[dict[str, Any], list[str]]:
    """The demo profile as plain data, and its keys."""
    content = yaml.safe_load((EXPERIMENTS / "profiles" / "demo.yaml").read_text("utf-8"))
    return content, [job.key for job in jobs(load_profile("demo"), methods=ROWS)]


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """`value` as YAML in any style: order of entries, white space, quotes, ways to write a number."""
    space = st.sampled_from(["", " ", "\n  ", "  # why\n "])
    match value:
        case dict():
            names = draw(st.permutations(list(value)))
            quoted = [draw(st.sampled_from([name, f'"{name}"', f"'{name}'"])) for name in names]
            parts = [f"{q}: {draw(written(value[n]))}{draw(space)}" for q, n in zip(quoted, names, strict=True)]
            return "{" + ", ".join(parts) + draw(space) + "}"
        case list():
            return "[" + draw(space) + ", ".join(draw(written(inner)) for inner in value) + "]"
        case bool() | None:
            return json.dumps(value)
        case int():
            return draw(st.sampled_from([str(value), f"{value}.0", f"+{value}" if value >= 0 else str(value)]))
        case float():
            # 1e-3 without a point is a string to YAML 1.1, and a number to everybody else
            return draw(st.sampled_from([repr(value), f"{value:.17e}", f"{value!r}".replace("0.", ".", 1)]))
        case _:
            return json.dumps(value)


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_keys_do_not_depend_on_how_a_profile_is_written(data: st.DataObject) -> None:
    content, keys = demo()
    used = {name: content[name] for name in content if name not in {"note", "name", "synthetic"}}
    text = data.draw(written(used))
    again = Profile.model_validate({**yaml.safe_load(text), "name": "other", "note": "other", "synthetic": None})
    assert [job.key for job in jobs(again, methods=ROWS)] == keys


@pytest.mark.parametrize("text", ["0.001", "1e-3", "1.0e-3", "1E-03", ".001", "0.0010"])
def test_a_number_on_the_command_line_is_that_number(text: str) -> None:
    changed = parse_overrides([f"finetune.optimizer.base_lr={text}", "finetune.epochs=7.0"])
    plain = parse_overrides(["finetune.optimizer.base_lr=0.001", "finetune.epochs=7"])
    keys = [[job.key for job in jobs(load_profile("demo"), only="byol/cub", overrides=o)] for o in (changed, plain)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("text", [".inf", ".nan", "-.inf"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"base_lr.*(finite|greater)"):
        jobs(load_profile("demo"), only="byol/cub", overrides=parse_overrides([f"finetune.optimizer.base_lr={text}"]))


def test_keys_do_not_depend_on_places_and_devices(
    tmp_path: Path, drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys(data: Path, runs: Path, profile: Path) -> list[str]:
        return [
            job.key
            for job in SelectorOptions("paper_table1", str(profile), data, runs, ["cub"], *[None] * 5).plan(False).jobs
        ]

    plain = keys(drawn, tmp_path / "a", tiny_profile)
    assert len(plain) == 30 - 1  # ten rows; Random pretrains nothing
    moved = tmp_path / "moved" / "deeper"
    shutil.copytree(drawn, moved)
    for path in moved.rglob("*.jpg"):
        os.utime(path, (1, 1))
    profile = tmp_path / "copied.yaml"
    profile.write_text(yaml.safe_dump({**yaml.safe_load(tiny_profile.read_text("utf-8")), "name": "b"}), "utf-8")
    for name, value in {
        "CUDA_VISIBLE_DEVICES": "0,1,2",
        "OMP_NUM_THREADS": "7",
        "SUITE_CACHE": str(tmp_path / "cache"),
        "SUITE_CHECKPOINT_MINUTES": "1",
        "MLFLOW_TRACKING_URI": "http://nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert keys(moved, tmp_path / "b", profile) == plain


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything that is no container; empty containers count."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for name, part in inner for leaf in leaves(part, (*path, name))]
    yield from found or [path]


def test_every_field_of_a_spec_is_in_its_key() -> None:
    """One leaf changed at a time, whatever its type: no two keys are equal, and none is the old one."""
    for job in [
        *jobs(load_profile("demo"), methods=("byol_cvsa", "insloc")),
        *jobs(load_profile("demo"), "paper_table2"),
    ]:
        values = job.spec.model_dump(mode="json")
        assert key_of(values) == job.key == content_key(parse_spec(values))
        keys = {job.key}
        paths = list(leaves(values))
        for path in paths:
            changed = json.loads(json.dumps(values))
            place = changed
            for name in path[:-1]:
                place = place[name]
            old = place[path[-1]]
            place[path[-1]] = (
                (not old) if isinstance(old, bool) else old * 2 + 1 if isinstance(old, int | float) else [old]
            )
            keys.add(key_of(changed))
        assert len(keys) == len(paths) + 1, job.name


def test_every_field_of_a_recipe_changes_the_key_of_some_job() -> None:
    """Nothing that can be set is lost on the way to the jobs."""
    profile = load_profile("demo")
    for row in ("byol_cvsa", "moco_v2", "simclr"):
        cell = cells(load_grid("paper_table1"), profile, Selection(only=f"{row}/cub"))[0]
        plain = {job.key for job in jobs(profile, only=f"{row}/cub")}
        tried = 0
        for path in field_paths(cell.recipe):
            value: Any = cell.recipe
            for name in path.split("."):
                value = getattr(value, name)
            for other in (other for other in candidates(value) if other != value):
                try:
                    changed = {job.key for job in jobs(profile, only=f"{row}/cub", overrides={path: other})}
                except (UsageError, KeyError):
                    continue  # not a value this field takes, or a detector this test has no identity for
                assert changed != plain, path
                tried += 1
                break
        assert tried > 35, (row, tried)


def candidates(value: Any) -> list[Any]:
    """Other values that the field may take."""
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [value + 1, value * 0.9, value - 1, value / 2, 0.5]
        case str():
            return ["resnet18", "small", "imagenet", "lars", "bf16-mixed", "masks", "u2netp", "bilinear", "bicubic"][
                ::1
            ]
        case tuple():
            return [[0.1, 0.2]]
        case _:
            return []  # a section that the row does not have
