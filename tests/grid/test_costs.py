"""Estimates: the count of a network's multiply-adds is torch's own, and the best known speed is used."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from methods.args import BackboneArgs
from methods.backbone import parameter_count
from methods.backbones.registry import build_backbone, cost_of, dim_of
from suite.jobs.identity import Job
from suite.jobs.order import Ready, longest_paths
from suite.kinds.base import Size
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.registry import kind_of, parse_spec
from suite.planning.costs import (
    Costs,
    Machine,
    Speed,
    rates,
    throughput_key,
    wall_clock,
)

CPU = Machine("cpu", workers=2)
SIZES = {"cub": Size(train=100, test=50, classes=3)}
IMAGES = 3 * 30 * 4 + 50 / 3  # of `finetune()`: trained on, and tested on, a forward pass being a third of a step


def finetune(seed: int = 0, epochs: int = 4, init: str | None = None, held_out: float = 0) -> FinetuneSpec:
    optimizer = {"name": "sgd", "base_lr": 0.1, "weight_decay": 0}
    spec = parse_spec(
        {
            "kind": "finetune",
            "data": {"name": "cub", "fingerprint": "f", "store_size": 72},
            "image_size": 64,
            "backbone": {"arch": "resnet10", "width": 16, "stem": "half"},
            "train": {"epochs": epochs, "batch_size": 30, "optimizer": optimizer, "crop_scale": 0.5, "eval_resize": 1},
            "seed": seed,
            "init": init,
            "held_out": held_out,
        }
    )
    assert isinstance(spec, FinetuneSpec)
    return spec


@pytest.mark.parametrize("arch", ["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2"])
@pytest.mark.parametrize(("stem", "width", "side"), [("imagenet", 64, 224), ("half", 16, 65), ("small", 32, 33)])
def test_multiply_adds_and_parameters_are_torchs(arch: str, stem: str, width: int, side: int) -> None:
    args = BackboneArgs.model_validate({"arch": arch, "stem": stem, "width": width})
    backbone = build_backbone(args)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(torch.zeros(1, 3, side, side))
    assert cost_of(args, side) == (counter.get_total_flops() // 2, parameter_count(backbone))
    assert dim_of(args) == backbone.dim


def test_images_are_those_of_the_training_loop() -> None:
    assert kind_of(finetune()).images(finetune(), SIZES["cub"]) == 3 * 30 * 4  # the incomplete batch is left out
    assert kind_of(finetune()).images(finetune(held_out=0.2), SIZES["cub"]) == 2 * 30 * 4
    assert kind_of(finetune()).measured_images(finetune(), SIZES["cub"]) == 50
    assert kind_of(finetune()).measured_images(finetune(held_out=0.2), SIZES["cub"]) == 20


def test_the_best_known_speed_is_used() -> None:
    spec, other = finetune(), finetune().model_copy(update={"image_size": 96})
    assert Costs([], CPU, SIZES).estimate(spec).source == "assumed"
    alike = Speed(throughput_key(spec), "cpu", 36.0, kind_of(spec).macs(spec))
    estimate = Costs([alike], CPU, SIZES).estimate(spec)
    assert estimate.source == "measured"
    overhead = estimate.seconds - IMAGES / 36.0
    calibrated = Costs([alike], CPU, SIZES).estimate(other)
    assert calibrated.source == "calibrated"
    factor = kind_of(other).macs(other) / kind_of(spec).macs(spec)
    assert calibrated.seconds == pytest.approx(overhead + IMAGES / 36.0 * factor)
    assert Costs([alike], Machine("cuda", 1), SIZES).estimate(spec).source == "assumed"  # another device


def test_jobs_come_before_the_bench_and_its_latest_rate_counts() -> None:
    spec, other = finetune(), finetune().model_copy(update={"image_size": 96})
    work = kind_of(spec).macs(spec)
    old, new = (Speed(throughput_key(spec), "cpu", rate, work, bench=True) for rate in (5.0, 20.0))
    job = Speed(throughput_key(spec), "cpu", 36.0, work)
    benched = Costs([old, new], CPU, SIZES).estimate(spec)
    assert (benched.source, benched.seconds) == ("benchmarked", pytest.approx(rates().overhead_seconds + IMAGES / 20))
    assert Costs([old, new], CPU, SIZES).estimate(other).source == "calibrated"
    both = Costs([old, job, new], CPU, SIZES)
    assert both.estimate(spec).source == "measured"
    # What jobs reached calibrates, not the bench beside it.
    assert both.estimate(other) == Costs([job], CPU, SIZES).estimate(other)


def test_the_speeds_of_this_card_come_before_those_of_another() -> None:
    spec, other = finetune(), finetune().model_copy(update={"image_size": 96})
    work = kind_of(spec).macs(spec)
    here = Machine("cuda", 1, card="H100")
    fast, slow, unknown = (
        Speed(throughput_key(spec), "cuda", rate, work, card=card)
        for rate, card in ((40.0, "H100"), (10.0, "T4"), (9.0, ""))
    )
    assert Costs([slow, fast, unknown], here, SIZES).estimate(spec) == Costs([fast], here, SIZES).estimate(spec)
    assert Costs([slow, fast], here, SIZES).estimate(other) == Costs([fast], here, SIZES).estimate(other)
    assert Costs([slow, unknown], here, SIZES).estimate(spec).source == "measured"  # better than a guess
    anywhere = Machine("cuda", 1)  # a cluster, whose cards are not known here
    assert (
        Costs([slow, fast], anywhere, SIZES).estimate(spec).seconds > Costs([fast], here, SIZES).estimate(spec).seconds
    )


def test_several_devices_share_what_has_epochs() -> None:
    spec, other = finetune(), finetune().model_copy(update={"image_size": 96})
    pair = Machine("cpu", workers=1, devices=2)
    work = {m: Costs([], m, SIZES).estimate(spec).seconds - rates().overhead_seconds for m in (CPU, pair)}
    assert work[pair] == pytest.approx(work[CPU] / 2)
    assert pair.devices_for(spec) == 2
    assert pair.devices_for(parse_spec({**PROBE, "data": spec.data.model_dump(), "backbone": spec.backbone})) == 1
    alone, together = (
        Speed(throughput_key(spec), "cpu", speed, kind_of(spec).macs(spec), n) for n, speed in ((1, 40), (2, 72))
    )
    measured = Costs([alone, together], pair, SIZES).estimate(spec)
    assert (measured.source, measured.seconds) == ("measured", pytest.approx(rates().overhead_seconds + IMAGES / 72))
    # A speed of one device says something about two, but is not the speed of two.
    calibrated = [Costs([alone], machine, SIZES).estimate(which) for machine, which in ((pair, spec), (CPU, other))]
    assert [estimate.source for estimate in calibrated] == ["calibrated"] * 2
    assert calibrated[0].seconds == pytest.approx(rates().overhead_seconds + IMAGES / 80)


PROBE = {
    "kind": "probe",
    "image_size": 64,
    "probe": {"eval_resize": 1, "knn": None, "linear": None},
    "seed": 0,
    "init": None,
}


def chain() -> list[Job]:
    """a -> b -> c, and d alone."""
    a = Job(finetune(1), "a")
    b = Job(finetune(2, init=a.key), "b", (a,))
    c = Job(finetune(3, init=b.key), "c", (b,))
    return [a, b, c, Job(finetune(4), "d")]


def test_the_longest_path_goes_first() -> None:
    jobs = chain()
    seconds = dict(zip([job.key for job in jobs], [1.0, 2.0, 3.0, 5.0], strict=True))
    paths = longest_paths(jobs, seconds)
    assert [paths[job.key] for job in jobs] == [6.0, 5.0, 3.0, 5.0]
    ready, order = Ready(jobs, seconds), []
    while (job := ready.pop()) is not None:
        order.append(job.name)
        ready.done(job)
    assert order == ["a", "b", "d", "c"]
    assert wall_clock(jobs, seconds, workers=1) == 11.0
    assert wall_clock(jobs, seconds, workers=2) == 6.0


def test_descendants_of_a_failure_are_named_once_and_in_order() -> None:
    a, b, c, d = chain()
    ready = Ready([a, b, c, d], {})
    assert [job.name for job in ready.descendants(a)] == ["b", "c"]
    assert ready.descendants(d) == []
    ready.close()
    assert ready.pop() is None
    ready.done(a)
    assert ready.pop() is None
