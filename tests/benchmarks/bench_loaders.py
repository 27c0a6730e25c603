"""The product's training loops with several numbers of loaders, on the device at hand, to choose the default number.

    python tests/benchmarks/bench_loaders.py [--loaders 5 9 15] [--rows byol moco_v2] [--seconds 1] [--budget 240]

For every objective of `paper_table1` in a profile, on random images: images/s of the device alone (given one batch of
views again and again), then for each number of loaders of the whole loop and of the loaders alone. One JSON object per
line as soon as it is known, so that a run that is cut off has said something. `suite bench` measures one number.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from suite.execute.local.machine import machine
from suite.execute.variables import use_job_variables

use_job_variables(machine().threads)  # before torch is loaded

import torch  # noqa: E402

from suite.bench.cases import Case, batch_within, cases_of  # noqa: E402
from suite.bench.images import RandomImages  # noqa: E402
from suite.bench.measure import Setup, device_name, loaders_rate, steps_per_second, views_ready  # noqa: E402
from suite.cli.select import SelectorOptions  # noqa: E402
from suite.execute.device_memory import release_device_memory  # noqa: E402
from suite.planning.forecast import Forecast  # noqa: E402
from suite.training.feed import Loading  # noqa: E402

_WARM_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loaders", type=int, nargs="+", default=[5, 9, 15])
    parser.add_argument("--rows", nargs="+", help="of the grid, and finetune; all by default")
    parser.add_argument("--profile", default="paper")
    parser.add_argument("--seconds", type=float, default=1.0, help="per measurement")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which nothing new begins")
    options = parser.parse_args()
    end = time.monotonic() + options.budget
    with TemporaryDirectory() as folder:
        plan = SelectorOptions(
            "paper_table1", options.profile, None, Path(folder), None, None, None, None, None, None, None
        ).plan(obtain_inputs=False)
        here = machine()
        say(device=device_name(here.device), torch=torch.__version__, seconds=options.seconds)
        for case in cases_of(Forecast(plan, here)):
            if options.rows and case.name not in options.rows:
                continue
            batch = batch_within(case, here, options.seconds)
            setup = Setup(here.device, Loading(1), options.seconds, here.threads)
            try:
                measure(case.with_train(batch_size=batch), setup, options.loaders, end)
            except torch.OutOfMemoryError as error:
                say(row=case.name, batch=batch, error=str(error))
            release_device_memory()


def measure(case: Case, setup: Setup, numbers: list[int], end: float) -> None:
    """All rates of one objective."""
    batch = case.spec.train.batch_size
    if setup.device == "cpu" and case.spec.train.precision == "16-mixed":
        case = case.with_train(precision="32-true")
    source = RandomImages(case.image_sizes, max(case.size.train, 2 * batch), case.size.classes)
    if time.monotonic() > end:
        return
    ready = views_ready(setup.loading)
    say(row=case.name, batch=batch, device=round(batch * steps_per_second(case, source, setup, ready, _WARM_STEPS)))
    for number in numbers:
        if time.monotonic() > end:
            return
        with_loaders = replace(setup, loading=Loading(number))
        warm = _WARM_STEPS + with_loaders.loading.depth  # batches that were ready before the clock started
        loop = batch * steps_per_second(case, source, with_loaders, with_loaders.loading, warm, number)
        alone = loaders_rate(case, source, with_loaders)
        say(row=case.name, loaders=number, loop=round(loop), loaders_alone=round(alone))


def say(**values: object) -> None:
    """One line."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
