"""Why a job has to run: the fields that differ from the job that was there before."""

from __future__ import annotations

from typing import Any

import pytest

from suite.jobs.changes import changes
from suite.kinds.registry import JobSpec, parse_spec


def spec(**updates: Any) -> JobSpec:
    content: dict[str, Any] = {
        "kind": "finetune",
        "data": {"name": "cub", "fingerprint": "f", "store_size": 72},
        "image_size": 64,
        "seed": 0,
        "init": "a",
        "backbone": {"arch": "resnet10"},
        "train": {
            "epochs": 50, "batch_size": 30, "crop_scale": 0.5, "eval_resize": 1,
            "optimizer": {"name": "sgd", "base_lr": 0.1, "weight_decay": 0},
        },
    }  # fmt: skip
    for path, value in updates.items():
        place = content
        *parents, last = path.split("__")
        for name in parents:
            place = place[name]
        place[last] = value
    return parse_spec(content)


@pytest.mark.parametrize(
    ("updates", "told"),
    [
        ({}, []),
        ({"train__epochs": 60}, ["train.epochs 50 -> 60"]),
        ({"train__optimizer__base_lr": 0.2}, ["train.optimizer.base_lr 0.1 -> 0.2"]),
        ({"init": "b"}, ["its starting weights changed"]),
        ({"data__fingerprint": "g"}, ["the images or annotations changed"]),
        ({"version": 7}, ["the suite's code changed (version 1 -> 7)"]),
        ({"init": "b", "image_size": 96}, ["image_size 64 -> 96", "its starting weights changed"]),
    ],
)
def test_changed_fields_are_named(updates: dict[str, Any], told: list[str]) -> None:
    assert changes(spec(), spec(**updates)) == told
