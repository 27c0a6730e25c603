"""Rankings of the rows of several published folders, per dataset and protocol, in blocks of comparable rows."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from analysis.publish.comparable import Entry, Unit, reason_apart, units
from analysis.publish.record import Published, PublishedDataset
from analysis.statistics.intervals import Interval, wilson_interval
from analysis.statistics.tests import t_interval
from suite.errors import UsageError

PROTOCOLS = {
    "finetune": "top-1 after fine-tuning",
    "linear": "top-1 of a linear classifier on frozen features",
    "knn": "top-1 of nearest neighbours on frozen features",
}


@dataclass(frozen=True)
class Standing:
    """One row of a ranking."""

    rank: int  # 0: a reference row, which is shown and not ranked
    label: str
    stage1: str
    stage2: str
    mean: float  # percent, over seeds
    interval: Interval  # 95 %, percent
    over_seeds: bool  # the interval is Student's over seeds; else Wilson's from the number of test images
    seeds: tuple[int, ...]
    sources: tuple[str, ...]  # letters
    suspicious: tuple[str, ...] = ()
    note: str = ""
    reference: bool = False


@dataclass(frozen=True)
class Block:
    """Rows that are ranked together."""

    data: PublishedDataset
    profile: str
    n: int
    changed: str
    standings: tuple[Standing, ...]
    apart: str = ""  # why these rows are not ranked with the first block


@dataclass(frozen=True)
class Ranking:
    """One dataset by one protocol."""

    dataset: str
    heading: str
    protocol: str
    blocks: tuple[Block, ...]


@dataclass
class _Growing:
    units: list[Unit] = field(default_factory=list)
    apart: str = ""


def rankings(sources: Mapping[str, Published], protocols: Sequence[str] = tuple(PROTOCOLS)) -> list[Ranking]:
    """Every dataset and protocol with a number.

    Args:
        sources: letter -> record of a published folder.
        protocols: in this order.

    Raises:
        UsageError: no folder has a number by any of the protocols.
    """
    names = dict.fromkeys(
        cell.dataset for published in sources.values() for grid in published.grids for cell in grid.cells
    )
    found = []
    for dataset in names:
        for protocol in protocols:
            of_dataset = [
                unit for letter, published in sources.items() for unit in units(letter, published, dataset, protocol)
            ]
            if of_dataset:
                blocks = _blocks(sorted(of_dataset, key=lambda unit: unit.quality))
                found.append(Ranking(dataset, blocks[0].data.heading, protocol, blocks))
    if not found:
        raise UsageError(
            f"none of the folders has top-1 by {', '.join(protocols)}. `suite publish` writes the finished cells only; "
            "`suite status` lists the others."
        )
    return found


def ranked(entries: Sequence[tuple[str, Entry]], n: int) -> tuple[Standing, ...]:
    """The rows of one block, best mean first.

    The rank is 1 + the number of rows whose interval lies wholly above: rows that the data do not tell apart share it.
    A reference row has no rank and is counted in none.

    Args:
        entries: letter of the source and number.
        n: test images.
    """
    rows: dict[tuple[str, str, str, str], list[tuple[str, Entry]]] = defaultdict(list)
    for source, entry in entries:
        cell = entry.cell
        rows[cell.label, cell.stage1, cell.stage2, entry.training].append((source, entry))
    standings = [_standing(of_row, n) for of_row in rows.values()]
    standings.sort(key=lambda standing: (-standing.mean, standing.label))
    compared = [one for one in standings if not one.reference]
    return tuple(
        one if one.reference else replace(one, rank=1 + sum(other.interval[0] > one.interval[1] for other in compared))
        for one in standings
    )


def _blocks(ordered: Sequence[Unit]) -> tuple[Block, ...]:
    """Add each unit to the first block with all of whose units it is comparable."""
    growing: list[_Growing] = []
    for unit in ordered:
        reasons = [next(filter(None, (reason_apart(other, unit) for other in one.units)), None) for one in growing]
        place = next((one for one, reason in zip(growing, reasons, strict=True) if reason is None), None)
        if place is None:
            place = _Growing(apart=reasons[0] or "" if reasons else "")
            growing.append(place)
        place.units.append(unit)
    return tuple(
        Block(
            data=one.units[0].data,
            profile=one.units[0].profile,
            n=one.units[0].n,
            changed=one.units[0].changed,
            standings=ranked([(unit.source, entry) for unit in one.units for entry in unit.entries], one.units[0].n),
            apart=one.apart,
        )
        for one in growing
    )


def _standing(of_row: Sequence[tuple[str, Entry]], n: int) -> Standing:
    """Mean and interval of one row; a seed counts once, with the number of the first source that has it.

    Of Student's interval over seeds and Wilson's from the number of test images the wider one is taken: either alone
    leaves a source of chance out, and rows with few seeds would stand beside others with intervals of another meaning.
    """
    first: dict[int, tuple[str, Entry]] = {}
    notes = []
    for source, entry in of_row:
        used = first.setdefault(entry.cell.seed, (source, entry))
        if used[1].value != entry.value:
            notes.append(
                f"seed {entry.cell.seed}: {entry.value:.2f} in {source}, {used[1].value:.2f} in {used[0]} counts"
            )
    values = [entry.value for _, entry in first.values()]
    mean = statistics.fmean(values)
    low, high = wilson_interval(mean, n)
    student = t_interval(values)
    over_seeds = student is not None and student[1] - student[0] > high - low
    if student is not None and over_seeds:
        low, high = student
    cell = of_row[0][1].cell
    return Standing(
        rank=0,
        label=cell.label,
        stage1=cell.stage1,
        stage2=cell.stage2,
        mean=mean,
        interval=(max(0.0, low), min(100.0, high)),
        over_seeds=over_seeds,
        seeds=tuple(sorted(first)),
        sources=tuple(dict.fromkeys(source for source, _ in of_row)),
        suspicious=tuple(dict.fromkeys(reason for _, entry in of_row for reason in entry.cell.suspicious)),
        note="; ".join(notes),
        reference=cell.reference is not None,
    )
