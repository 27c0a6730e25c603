"""The arithmetic of `suite bench`: who waits, what fits, which options follow."""

from __future__ import annotations

import pytest

from suite.bench.result import Failure, Measurement, advise, largest_batch
from suite.bench.text import content, notes, table

GIB = 2**30


def measurement(name: str = "byol", **changes: object) -> Measurement:
    fields: dict[str, object] = {
        "name": name, "key": f"pretrain {name}", "precision": "16-mixed",
        "recipe_precision": "16-mixed", "batch": 256, "recipe_batch": 256,
        "loop": 760.0, "device": 800.0, "loaders_alone": 1000.0, "loaders": 4, "macs": 2e9, "peak_macs": 1e13,
        "memory": 26 * GIB, "largest_batch": 640,
    }  # fmt: skip
    return Measurement(**(fields | changes))  # type: ignore[arg-type]


def test_who_waits_for_whom() -> None:
    busy = measurement()
    assert busy.limit == "loaders wait for the device"
    assert busy.waiting == pytest.approx(0.05)
    assert busy.share_of_peak == pytest.approx(760 * 2e9 / 1e13)
    starved = measurement(loop=480.0, loaders_alone=500.0)
    assert starved.limit == "the device waits for loaders, 40 % of the time"
    assert starved.loaders_needed == 8  # 1.1 x 800 at 125 a loader
    assert measurement(loop=400.0, loaders=0).limit == "views are made within the step: 50 % of it"


def test_the_largest_batch_follows_from_two_peaks() -> None:
    """2 GiB for weights and 1 GiB for every eight images; 0.92 x 25 GiB hold 168."""
    assert largest_batch([(8, 3 * GIB), (16, 4 * GIB)], 25 * GIB, 8) == 168
    assert largest_batch([(16, 4 * GIB), (8, 3 * GIB)], 25 * GIB, 32) == 160
    assert largest_batch([(8, 3 * GIB), (16, 3 * GIB)], 25 * GIB, 8) is None
    assert largest_batch([(8, 3 * GIB), (16, 4 * GIB)], 1 * GIB, 8) == 0


def test_loaders_are_those_of_the_hungriest_objective_within_the_cores() -> None:
    calm, hungry = measurement(), measurement("looc", loop=480.0, loaders_alone=500.0)
    enough = advise([calm, hungry], "cuda", workers=2, cores=32)
    assert enough is not None
    assert (enough.workers, enough.loaders) == (2, 8)
    short = advise([calm, hungry], "cuda", workers=2, cores=12)
    assert short is not None
    assert short.loaders == 5
    assert "looc would need 8 loaders per GPU" in short.sentence
    assert "the GPU will wait in looc." in short.sentence
    on_cpu = advise([calm], "cpu", workers=2, cores=2)
    assert on_cpu is not None
    assert (on_cpu.workers, on_cpu.loaders) == (2, 1)
    assert advise([], "cuda", 1, 8) is None


def test_the_table_has_every_number_and_the_notes_every_exception() -> None:
    head, row = table([measurement()])
    assert head.split()[:2] == ["objective", "batch"]
    for text in ("byol", "256", "760/s", "800/s", "1000/s", "15 %", "26.0 GiB", "640", "loaders wait for the device"):
        assert text in row
    assert "-" in list(table([measurement(memory=None, largest_batch=None)]))[1].split()
    said = "\n".join(
        notes(
            [
                measurement(batch=32),
                measurement("dilo", precision="32-true"),
                measurement("looc", batch=64, error="out of GPU memory on X"),
            ],
            [Failure("simclr", 256, "needs a GPU")],
        )
    )
    assert "byol 32 of 256" in said
    assert "looc 64 of 256" not in said
    assert "error looc: out of GPU memory on X Measured with a batch of 64, not written." in said
    assert "error simclr: needs a GPU" in said
    assert "16-mixed precision needs a GPU: dilo measured in 32-true, not written." in said
    told = content([measurement()], [], None, {"name": "X"})
    assert told["objectives"][0]["loaders_needed"] == 4
    assert told["objectives"][0]["limit"] == "loaders wait for the device"
