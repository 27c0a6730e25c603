"""Shared fixtures: a tiny drawn data root, and profiles small enough for seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from methods.backbones import base as backbones
from methods.registry import OBJECTIVES, VIEWS
from suite import plugin as plugins
from suite.data.catalogue import DATASETS
from suite.data.synthetic.spec import Counts, SyntheticSpec
from suite.data.synthetic.write import write_synthetic
from suite.grid.spec import EXPERIMENTS
from suite.kinds.registry import KINDS

COUNTS = Counts(classes=3, train=8, test=4)
SPEC = SyntheticSpec(short_side=40, sets=("cub", "cars", "coco"), cub=COUNTS, cars=COUNTS, coco=10)
METHODS = ["--method", "random", "--method", "byol", "--method", "byol_cvsa"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: with a process per core, a long file that starts last would hold up the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with three classes of birds and cars."""
    root = tmp_path_factory.mktemp("drawn") / "data"
    write_synthetic(root, SPEC, workers=1)
    return root


@pytest.fixture(scope="session")
def tiny_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo recipe on photographs of a given root, at 32 px, two epochs, batches of eight."""
    profile: dict[str, Any] = yaml.safe_load((EXPERIMENTS / "profiles" / "demo.yaml").read_text("utf-8"))
    profile |= {"name": "tiny", "note": "for tests", "synthetic": None}
    defaults = profile["defaults"]
    for section in ("localisation", "background"):  # tests/training/test_measurements.py has them
        del defaults[section]
    defaults |= {"image_size": 32, "store_size": 40}
    defaults["backbone"]["width"] = 8
    defaults["alignment"] |= {"hidden_dim": 16, "dim": 16}
    for stage in ("pretrain", "finetune"):
        defaults[stage] |= {"epochs": 2, "batch_size": 8}
    profile["objectives"]["byol"]["objective"] |= {"hidden_dim": 16, "projection_dim": 16}
    path = tmp_path_factory.mktemp("profiles") / "tiny.yaml"
    path.write_text(yaml.safe_dump(profile), "utf-8")
    return path


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests name their own folders; a user's settings must not leak in."""
    for name in ("SUITE_RUNS", "SUITE_CACHE", "SUITE_DECODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _plugins_of_this_test_alone() -> Iterator[None]:
    """Plugins stay for the life of a process, so one that a test loads would add rows to the grids of the next."""
    registries: tuple[dict[Any, Any], ...] = (
        OBJECTIVES, VIEWS, KINDS, DATASETS, backbones._BY_ARCH, plugins._ROWS, plugins._LOADED,
    )  # fmt: skip
    before = [dict(registry) for registry in registries]
    datasets = list(plugins._PLUGIN_DATASETS)
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)
    plugins._PLUGIN_DATASETS[:] = datasets
