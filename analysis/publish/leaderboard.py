"""Rankings of the rows of several published folders, per dataset and protocol, in blocks of comparable rows."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from analysis.publish.comparable import ResultGroup, SeedResult, reason_not_comparable, result_groups
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
class RankedRow:
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
class RankingBlock:
    """Rows that are ranked together."""

    data: PublishedDataset
    profile: str
    n: int
    changed: str
    rows: tuple[RankedRow, ...]
    separation: str = ""  # why these rows are not ranked with the first block


@dataclass(frozen=True)
class Ranking:
    """One dataset by one protocol."""

    dataset: str
    heading: str
    protocol: str
    blocks: tuple[RankingBlock, ...]


@dataclass
class _OpenBlock:
    groups: list[ResultGroup] = field(default_factory=list)
    separation: str = ""


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
    all_rankings = []
    for dataset in names:
        for protocol in protocols:
            groups = [
                group
                for letter, published in sources.items()
                for group in result_groups(letter, published, dataset, protocol)
            ]
            if groups:
                blocks = _blocks(sorted(groups, key=lambda group: group.quality))
                all_rankings.append(Ranking(dataset, blocks[0].data.heading, protocol, blocks))
    if not all_rankings:
        raise UsageError(
            f"none of the folders has top-1 by {', '.join(protocols)}. `suite publish` writes the finished cells only; "
            "`suite status` lists the others."
        )
    return all_rankings


def ranked(entries: Sequence[tuple[str, SeedResult]], n: int) -> tuple[RankedRow, ...]:
    """The rows of one block, best mean first.

    The rank is 1 + the number of rows whose interval lies wholly above: rows that the data do not tell apart share it.
    A reference row has no rank and is counted in none.

    Args:
        entries: letter of the source and number.
        n: test images.
    """
    results_of: dict[tuple[str, str, str, str], list[tuple[str, SeedResult]]] = defaultdict(list)
    for source, entry in entries:
        cell = entry.cell
        results_of[cell.label, cell.stage1, cell.stage2, entry.training].append((source, entry))
    rows = [_ranked_row(results, n) for results in results_of.values()]
    rows.sort(key=lambda row: (-row.mean, row.label))
    compared = [one for one in rows if not one.reference]
    return tuple(
        one if one.reference else replace(one, rank=1 + sum(other.interval[0] > one.interval[1] for other in compared))
        for one in rows
    )


def _blocks(ordered: Sequence[ResultGroup]) -> tuple[RankingBlock, ...]:
    """Add each group to the first block with all of whose groups it is comparable."""
    open_blocks: list[_OpenBlock] = []
    for group in ordered:
        reasons = [
            next(filter(None, (reason_not_comparable(other, group) for other in one.groups)), None)
            for one in open_blocks
        ]
        block = next((one for one, reason in zip(open_blocks, reasons, strict=True) if reason is None), None)
        if block is None:
            block = _OpenBlock(separation=reasons[0] or "" if reasons else "")
            open_blocks.append(block)
        block.groups.append(group)
    return tuple(
        RankingBlock(
            data=one.groups[0].data,
            profile=one.groups[0].profile,
            n=one.groups[0].n,
            changed=one.groups[0].changed,
            rows=ranked([(group.source, entry) for group in one.groups for entry in group.entries], one.groups[0].n),
            separation=one.separation,
        )
        for one in open_blocks
    )


def _ranked_row(results: Sequence[tuple[str, SeedResult]], n: int) -> RankedRow:
    """Mean and interval of one row; a seed counts once, with the number of the first source that has it.

    Of Student's interval over seeds and Wilson's from the number of test images the wider one is taken: either alone
    leaves a source of chance out, and rows with few seeds would stand beside others with intervals of another meaning.
    """
    first: dict[int, tuple[str, SeedResult]] = {}
    notes = []
    for source, entry in results:
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
    cell = results[0][1].cell
    return RankedRow(
        rank=0,
        label=cell.label,
        stage1=cell.stage1,
        stage2=cell.stage2,
        mean=mean,
        interval=(max(0.0, low), min(100.0, high)),
        over_seeds=over_seeds,
        seeds=tuple(sorted(first)),
        sources=tuple(dict.fromkeys(source for source, _ in results)),
        suspicious=tuple(dict.fromkeys(reason for _, entry in results for reason in entry.cell.suspicious)),
        note="; ".join(notes),
        reference=cell.reference is not None,
    )
