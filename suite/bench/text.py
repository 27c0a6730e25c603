"""The table of `suite bench`, its notes, and its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from suite.bench.result import Advice, Failure, Measurement

_HEADINGS = (
    "objective", "batch", "whole loop", "device alone", "loaders alone", "of peak", "memory", "fits", "limit",
)  # fmt: skip


def table(measured: Sequence[Measurement]) -> Iterator[str]:
    """Lines: images/s of the loop, of the device and of the loaders; multiply-adds per second against the peak; peak
    memory; the largest batch that fits; who waits for whom."""
    rows = [_HEADINGS, *(_row(one) for one in measured)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        first, *middle, last = (
            text.ljust(width) if column in {0, len(row) - 1} else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *middle, last]).rstrip()


def progress(one: Measurement) -> str:
    """The rates of one objective, while others are still measured."""
    rates = f"{_rate(one.loop)} whole loop, {_rate(one.device)} device alone, {_rate(one.loaders_alone)} loaders alone"
    return rates + (f", batch {one.batch}" if one.batch != one.recipe_batch else "")


def _row(one: Measurement) -> tuple[str, ...]:
    return (
        one.name, f"{one.batch}", _rate(one.loop), _rate(one.device),
        _rate(one.loaders_alone), f"{100 * one.share_of_peak:.0f} %",
        "-" if one.memory is None else f"{one.memory / 2**30:.1f} GiB",
        "-" if one.largest_batch is None else f"{one.largest_batch}", one.limit,
    )  # fmt: skip


def _rate(images_per_second: float) -> str:
    return f"{images_per_second:.0f}/s" if images_per_second >= 10 else f"{images_per_second:.2g}/s"


def notes(measured: Sequence[Measurement], failures: Sequence[Failure]) -> Iterator[str]:
    """Objectives that were measured with another batch than the recipe's, and those that could not be measured."""
    smaller = [one for one in measured if one.batch != one.recipe_batch and not one.error]
    if smaller:
        names = ", ".join(f"{one.name} {one.batch} of {one.recipe_batch}" for one in smaller)
        yield f"Measured with smaller batches than the recipe's, to save time: {names}. Rates are per image."
    other = [one.name for one in measured if one.precision != one.recipe_precision]
    if other:
        yield f"16-mixed precision needs a GPU: {', '.join(other)} measured in 32-true, not written."
    for one in measured:
        if one.error:
            yield f"error {one.name}: {one.error} Measured with a batch of {one.batch}, not written."
    for failure in failures:
        yield f"error {failure.name}: {failure.error}"


def content(
    measured: Sequence[Measurement], failures: Sequence[Failure], advice: Advice | None, machine: dict[str, Any]
) -> dict[str, Any]:
    """For `--json`."""
    derived = ("holds_for_recipe", "waiting", "share_of_peak", "loaders_needed", "limit")
    return {
        "machine": machine,
        "objectives": [asdict(one) | {name: getattr(one, name) for name in derived} for one in measured],
        "failures": [asdict(failure) for failure in failures],
        "advice": None if advice is None else asdict(advice),
    }
