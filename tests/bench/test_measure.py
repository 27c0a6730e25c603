"""Timed steps of the product's loops on random images; the rates reach `suite plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from methods.registry import OBJECTIVES
from suite.bench import measure as module
from suite.bench.cases import Case, ImageSizes, batch_within, cases_of
from suite.bench.images import RandomImages
from suite.bench.measure import Setup, loaders_rate, measure, steps_per_second
from suite.bench.result import Failure, Measurement
from suite.cli import app
from suite.cli.select import SelectorOptions
from suite.kinds.pretrain import PretrainSpec
from suite.planning.costs import Machine, throughput_key
from suite.planning.forecast import Forecast
from suite.planning.throughput import read_speeds
from suite.training.feed import Loading

CPU = Machine("cpu", workers=1, threads=1)
SETUP = Setup("cpu", Loading(0), seconds=0.05, threads=1)


def cases(tmp_path: Path, profile: Path, *methods: str, overrides: tuple[str, ...] = ()) -> dict[str, Case]:
    """Of a data root that does not exist."""
    plan = SelectorOptions(
        "paper_table1", str(profile), tmp_path / "none", tmp_path / "runs", ["cub"], list(methods), None, None,
        list(overrides),
    ).plan(obtain_inputs=False)  # fmt: skip
    return {case.name: case for case in cases_of(Forecast(plan, CPU))}


def test_one_case_per_speed(tmp_path: Path, tiny_profile: Path) -> None:
    found = cases(tmp_path, tiny_profile, "byol", "byol_cvsa", "moco_v2")
    assert list(found) == ["moco_v2", "byol", "byol_cvsa", "finetune"]  # the order of the grid
    assert len({throughput_key(case.spec) for case in found.values()}) == 4
    assert found["byol"].size.train == 5994  # CUB's, though no data are there
    assert found["byol"].image_sizes == ImageSizes(((40, 53),), True)


def test_on_a_cpu_large_batches_are_halved(tmp_path: Path, tiny_profile: Path) -> None:
    case = cases(tmp_path, tiny_profile, "byol", overrides=("pretrain.batch_size=64",))["byol"]
    assert batch_within(case, CPU, seconds=1e9) == 64
    assert batch_within(case, CPU, seconds=0) == 2
    assert batch_within(case, Machine("cuda", 1), seconds=0) == 64
    moco = cases(tmp_path, tiny_profile, "moco_v2", overrides=("pretrain.batch_size=64",))["moco_v2"]
    assert isinstance(moco.spec, PretrainSpec)
    splits = moco.spec.objective.args.bn_splits  # type: ignore[attr-defined]
    assert batch_within(moco, CPU, seconds=0) == max(2, 2 * splits)


@pytest.mark.parametrize("ahead", [True, False])
def test_random_images_have_the_sizes_of_the_dataset(ahead: bool) -> None:
    source = RandomImages(ImageSizes(((40, 53), (48, 40)), ahead), 5000, classes=3)
    assert len(source) == 5000
    assert source.labels.tolist()[:4] == [0, 1, 2, 0]
    shapes = {tuple(source.image(index).shape) for index in range(64)}
    assert shapes == {(3, 40, 53), (3, 48, 40)}
    assert torch.equal(source.image(1), source.image(65))
    left, top, right, bottom = source.salient_box(0)
    assert 0 <= left < right <= 53
    assert 0 <= top < bottom <= 40
    assert source.saliency(0).shape == (1, 40, 53)


@pytest.mark.parametrize("methods", [(), ("byol_cvsa", "insloc")], ids=["all rows within the step", "two with loaders"])
def test_every_objective_and_fine_tuning_are_measured(
    tmp_path: Path, tiny_profile: Path, methods: tuple[str, ...]
) -> None:
    setup = Setup("cpu", Loading(2 if methods else 0), seconds=0.01, threads=1)
    selected = cases(tmp_path, tiny_profile, *methods)
    if not methods:
        measurable = {case.spec.objective.name for case in selected.values() if isinstance(case.spec, PretrainSpec)}
        assert measurable >= {"byol", "simclr", "moco_v2", "insloc", "looc", "rot_pred", "rel_loc"} & set(OBJECTIVES)
    for name, case in selected.items():
        found = measure(case, 8, setup)
        assert isinstance(found, Measurement), name
        assert 0 < found.loop <= found.device
        assert found.loaders_alone > 0
        assert found.key == throughput_key(case.spec)
        assert found.memory is None
        assert found.largest_batch is None
    assert not list(tmp_path.rglob("checkpoint"))


def test_views_that_take_long_are_seen_in_the_loop_and_not_in_the_device(
    tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source whose images take 20 ms each: the loaders have a known rate, and the device alone is not slower."""
    import time

    case = cases(tmp_path, tiny_profile, "byol")["byol"]
    source = RandomImages(case.image_sizes, 100)

    def slow(index: int) -> torch.Tensor:
        time.sleep(0.02)
        return image(index)

    image = source.image
    monkeypatch.setattr(source, "image", slow)
    alone = loaders_rate(case, source, SETUP)
    assert alone < 1 / 0.02
    loop = 8 * steps_per_second(case, source, SETUP, Loading(0), 2)
    device = 8 * steps_per_second(case, source, SETUP, Loading(0, first_batch_only=True), 2)
    assert loop < alone
    assert device > loop
    ahead = 8 * steps_per_second(case, source, SETUP, Loading(4), 7)
    assert ahead > loop


@pytest.mark.parametrize("seconds", [0.2, 0.35, 0.5, 1.0])
def test_steps_that_come_in_rounds_of_the_loaders_are_timed_in_whole_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Four loaders make a batch in 0.3 s each, at the same time; the device needs 0.03 s: 4 / 0.3 steps a second."""
    now = 0.0

    def step(number: int) -> None:
        nonlocal now
        now = 0.3 * (1 + number // 4) + 0.03 * (1 + number % 4)
        timed.checkpoint_if_asked(dict)

    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    fabric = module.fabric_of(module.Rank(), "cpu", 0, "32-true")
    timed = module.TimedSession(tmp_path, fabric).measure(2, seconds, 4)
    with pytest.raises(module.Interrupted):
        list(map(step, range(100)))
    assert timed.rate == pytest.approx(4 / 0.3)


def test_the_loaders_alone_are_timed_in_whole_rounds(
    tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is read after a multiple of three batches only, and no network is built."""
    case = cases(tmp_path, tiny_profile, "byol")["byol"]
    taken: list[int] = []

    def take(self: module.Ahead[Any]) -> Any:
        taken.append(1)
        return original(self)

    original = module.Ahead.take
    monkeypatch.setattr(module.Ahead, "take", take)
    loaders_rate(case, RandomImages(case.image_sizes, 100), Setup("cpu", Loading(3), seconds=0.05, threads=1))
    assert len(taken) >= 6
    assert len(taken) % 3 == 0


def test_missing_memory_names_its_remedies_and_halves_the_batch(
    tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases(tmp_path, tiny_profile, "byol")["byol"]
    real = module.steps_per_second

    def small_card(case: Case, *arguments: Any) -> float:
        if case.spec.train.batch_size > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return real(case, *arguments)

    def loaders(case: Case, *_: Any) -> float:
        asked.append(case.spec.train.batch_size)
        return 1.0

    asked: list[int] = []
    monkeypatch.setattr(module, "steps_per_second", small_card)
    monkeypatch.setattr(module, "loaders_rate", loaders)
    found = measure(case, 8, SETUP)
    assert isinstance(found, Measurement)
    assert (found.batch, found.recipe_batch) == (4, 8)
    assert asked == [4]  # not with the batch that did not fit
    assert "The batch is 8 images" in found.error
    assert "--devices N" in found.error
    assert "pretrain.batch_size=4" in found.error

    def full_card(*_: Any) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(module, "steps_per_second", full_card)
    nothing = measure(case, 8, SETUP)
    assert isinstance(nothing, Failure)
    assert nothing.batch == 8
    assert "out of GPU memory" in nothing.error


def test_the_command_writes_rates_that_the_plan_uses(tmp_path: Path, tiny_profile: Path) -> None:
    where = ["--grid", "paper_table1", "--profile", str(tiny_profile), "--method", "byol", "--dataset", "cub"]
    where += ["--data", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, ["bench", *where, "--seconds", "0.1", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [one["name"] for one in told["objectives"]] == ["byol", "finetune"]
    assert told["written"] == 2
    speeds = read_speeds(tmp_path / "runs")
    assert all(speed.bench and speed.card for speed in speeds)
    assert [speed.images_per_second for speed in speeds] == [one["loop"] for one in told["objectives"]]
    planned = CliRunner().invoke(app, ["plan", *where])
    assert "measured by suite bench (2 jobs)" in planned.stdout
    shown = CliRunner().invoke(app, ["bench", *where, "--seconds", "0.1"])
    assert "whole loop" in shown.stdout
    assert "Use: suite run --grid paper_table1" in shown.stdout
    assert "2 rates written to" in shown.stdout


def test_half_precision_on_a_cpu_is_measured_in_single_precision_and_not_written(
    tmp_path: Path, tiny_profile: Path
) -> None:
    case = cases(tmp_path, tiny_profile, "byol", overrides=("pretrain.precision=16-mixed",))["byol"]
    found = measure(case, 8, SETUP)
    assert isinstance(found, Measurement)
    assert (found.precision, found.recipe_precision) == ("32-true", "16-mixed")
    assert not found.holds_for_recipe
    assert found.key == throughput_key(case.spec)
