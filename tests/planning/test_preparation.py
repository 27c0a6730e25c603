"""A plan counts the work before the first job: decoding, checks and saliency maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli.select import SelectorOptions
from suite.cores import cores
from suite.planning.costs import Machine, rates, wall_clock
from suite.planning.forecast import Forecast


def forecast(tmp_path: Path, profile: Path, *methods: str) -> Forecast:
    """Of CUB and a data root that does not exist: 5,994 training images and 5,794 test images."""
    plan = SelectorOptions(
        "paper_table1", str(profile), tmp_path / "none", tmp_path / "runs", ["cub"], list(methods), None, "0", []
    ).plan(obtain_inputs=False)
    return Forecast(plan, Machine("cpu", workers=1))


@pytest.mark.parametrize(("setting", "rate"), [("ahead", "decode"), ("demand", "check")])
def test_images_and_maps_cost_core_seconds(
    tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch, setting: str, rate: str
) -> None:
    monkeypatch.setenv("SUITE_DECODE", setting)
    plain, swapped = (forecast(tmp_path, tiny_profile, method) for method in ("byol", "byol_cvsa"))
    decoding = getattr(rates().preparation, rate) * (5994 + 5794)
    assert plain.preparation_seconds == pytest.approx(decoding / cores())
    (need,) = {spec.saliency for job in swapped.jobs if (spec := job.spec) and getattr(spec, "saliency", None)}
    maps = rates().preparation.maps[need.detector] * 5994
    assert swapped.preparation_seconds == pytest.approx((decoding + maps) / cores())
    jobs = wall_clock(swapped.jobs, swapped.remaining, 1)
    assert swapped.wall_seconds == pytest.approx(swapped.preparation_seconds + jobs)
