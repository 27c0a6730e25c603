"""`suite compare`: two rows of one grid, dataset by dataset, on their common seeds; in numbers and in words."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.cells.remarks import datasets_with
from analysis.cells.stale import refuse_mixed_seeds
from analysis.statistics.comparisons import LEVEL, Comparison
from analysis.statistics.comparisons import compare as test_rows
from analysis.statistics.intervals import Interval, paired_interval
from analysis.statistics.power import MOST, seeds_needed
from suite.data.catalogue import DATASETS
from suite.errors import UsageError, unknown
from suite.store.cells import CellRecord, ResultLine, result_lines
from suite.store.ledger import profile_of, read_cells
from suite.store.store import Store

ACCURACIES = ("finetune", "linear", "knn")  # protocols with the metric top1


@dataclass(frozen=True, slots=True)
class DatasetPair:
    """Both rows on one dataset. Accuracies and differences are in percent points, means over the common seeds."""

    dataset: str
    heading: str
    seeds: tuple[int, ...]
    n: int  # number of test images
    first: float
    second: float
    std: float | None  # of the paired differences over seeds; None with one seed
    interval: Interval  # 95 %, of second - first
    over_seeds: bool  # the interval is over seeds; otherwise it knows the number of test images only

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first

    @property
    def told_apart(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def more_seeds(self, difference: float | None = None) -> int | None:
        """Seeds needed beyond the common ones to find `difference` (default: the measured one) with power 80 %.

        None where that cannot be estimated (one seed, equal differences, no difference), or where more than `MOST`
        seeds would be needed.
        """
        wanted = self.difference if difference is None else difference
        if not self.std or not wanted:
            return None
        needed = seeds_needed(self.std, wanted)
        return None if needed is None else max(0, needed - len(self.seeds))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows of one grid on their common datasets."""

    grid: str
    profile: str
    protocol: str
    first: str
    second: str
    datasets: tuple[DatasetPair, ...]
    pooled: Comparison | None  # None with one dataset or one seed

    def sentences(self, difference: float | None = None) -> list[str]:
        """The comparison in words: one sentence or two per dataset, and one over all datasets.

        Args:
            difference: the difference in points that matters; None: the measured one.
        """
        sentences = [self._sentence(part, difference) for part in self.datasets]
        if self.pooled is not None:
            verdict = "can be told apart" if self.pooled.p <= LEVEL else "cannot be told apart"
            sentences.append(
                f"Over {len(self.pooled.datasets)} datasets {self.first} and {self.second} {verdict}: "
                f"{self.pooled.difference:+.2f} points on average, sign-flip test over {self.pooled.blocks} "
                f"differences, p = {self.pooled.p:.3f}."
            )
        return sentences

    def _sentence(self, part: DatasetPair, difference: float | None) -> str:
        source = f"over {len(part.seeds)} seeds" if part.over_seeds else f"from {part.n} test images alone"
        if part.told_apart:
            better, worse = (self.second, self.first) if part.difference > 0 else (self.first, self.second)
            warning = "" if part.over_seeds else " The spread between seeds is not known: run more seeds."
            low, high = sorted(map(abs, part.interval))
            points = f"by {abs(part.difference):.2f} points (95 % interval {low:.2f} to {high:.2f}, {source})"
            return f"On {part.heading} {better} is better than {worse} {points}.{warning}"
        low, high = part.interval
        numbers = f"{part.difference:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}, {source}"
        text = f"On {part.heading} {self.first} and {self.second} cannot be told apart ({numbers})."
        wanted = abs(part.difference if difference is None else difference)
        if part.std is None:
            return f"{text} With one seed the number of seeds needed cannot be estimated: run at least two more."
        if not part.std or not wanted:
            return text
        more = part.more_seeds(wanted)
        if more is None:
            return f"{text} More than {MOST} seeds would be needed for a difference of {wanted:.1f} points."
        if not more:
            return f"{text} A difference of {wanted:.1f} points would probably have been found with these seeds."
        return (
            f"{text} About {more} more seed{'s' * (more > 1)} would be needed for a difference of {wanted:.1f} points."
        )


def compare_rows(
    store: Store,
    first: str,
    second: str,
    grid: str | None = None,
    profile: str | None = None,
    protocol: str | None = None,
    datasets: Sequence[str] = (),
) -> Pair:
    """Compare the top-1 of two rows.

    Args:
        store: with results of both.
        first, second: names of rows, as in the ids of cells; in any case.
        grid: None: the only grid that has both rows.
        profile: needed if the grid was run with several.
        protocol: one of `ACCURACIES`; None: the first that both rows have.
        datasets: a selection; all common ones by default.

    Raises:
        UsageError: an unknown name, several grids or profiles and none is named, or no common seed.
    """
    records = read_cells(store.root)
    if not records:
        raise UsageError(f"nothing was run in {store.root}. `--runs DIR` says where to look; `suite run` runs a grid.")
    rows_of: dict[str, dict[str, str]] = {}
    for record in records:
        rows_of.setdefault(record.grid, {})[record.row.lower()] = record.row
    name = _grid_with(rows_of, grid, first, second)
    first, second = (rows_of[name][row.lower()] for row in (first, second))
    if first == second:
        raise UsageError(
            f"expected two rows, got '{first}' twice. Rows here: {', '.join(sorted(rows_of[name].values()))}."
        )
    profile = profile_of(store.root, name, profile)
    pair = [r for r in records if (r.grid, r.profile) == (name, profile) and r.row in (first, second)]
    refuse_mixed_seeds(name, pair)
    known = dict.fromkeys(record.dataset for record in pair)
    for dataset in datasets:
        if dataset not in known:
            raise unknown("dataset", dataset, known)
    values, counts = top1_values(result_lines(store, pair))
    available = [name for name in ACCURACIES if _common(values.get(name, {}), first, second)]
    if protocol is not None and protocol not in ACCURACIES:
        raise unknown("protocol", protocol, ACCURACIES)
    if not available or protocol not in (None, *available):
        has = (
            f"They have common seeds with: {', '.join(available)}." if available else "Run both with the same --seeds."
        )
        what = f" with the protocol '{protocol}'" if protocol else ""
        raise UsageError(f"'{first}' and '{second}' have no finished cell of the same dataset and seed{what}. {has}")
    found = pair_of(name, profile, (first, second), pair, values, counts, protocol, datasets)
    if found is None:
        raise UsageError(f"'{first}' and '{second}' have no common seed on {', '.join(datasets)}.")
    return found


def pair_of(
    grid: str,
    profile: str,
    rows: tuple[str, str],
    records: Sequence[CellRecord],
    values: Mapping[str, Values],
    counts: Mapping[str, int],
    protocol: str | None = None,
    datasets: Sequence[str] = (),
) -> Pair | None:
    """Compare two rows whose numbers are at hand; None without a common seed.

    Args:
        grid, profile: names.
        rows: names of the two.
        records: of the cells of both.
        values, counts: see `top1_values`.
        protocol: None: the first of `ACCURACIES` that both rows have.
        datasets: a selection; all common ones by default.
    """
    first, second = rows
    protocol = protocol or next((name for name in ACCURACIES if _common(values.get(name, {}), first, second)), None)
    if protocol is None:
        return None
    numbers, synthetic = values[protocol], datasets_with("synthetic", records)
    parts = [
        _dataset_pair(dataset, DATASETS[dataset].heading(dataset in synthetic), seeds, numbers, counts, rows)
        for dataset, seeds in _common(numbers, first, second).items()
        if not datasets or dataset in datasets
    ]
    if not parts:
        return None
    shared = {record.row for record in records if record.stage1 != "none"}
    tests = test_rows(numbers, first, [second], [part.dataset for part in parts], shared)
    pooled = next((test for test in tests if test.pooled), None)
    return Pair(grid, profile, protocol, first, second, tuple(parts), pooled)


def _grid_with(rows_of: Mapping[str, Mapping[str, str]], grid: str | None, first: str, second: str) -> str:
    if grid is not None and grid not in rows_of:
        raise unknown("grid", grid, rows_of, "These were run here.")
    candidates = {name: rows for name, rows in rows_of.items() if grid in (None, name)}
    both = [name for name, rows in candidates.items() if {first.lower(), second.lower()} <= rows.keys()]
    if len(both) == 1:
        return both[0]
    if both:
        raise UsageError(f"several grids have both rows: {', '.join(sorted(both))}. Choose one: --grid NAME")
    known = {row for rows in candidates.values() for row in rows.values()}
    for row in (first, second):
        if row.lower() not in {name.lower() for name in known}:
            raise unknown("row", row, known)
    raise UsageError(f"no grid has both '{first}' and '{second}'; rows of different grids are not compared.")


Values = dict[tuple[str, str], dict[int, float]]  # (row, dataset) -> seed -> percent


def top1_values(lines: Iterable[ResultLine]) -> tuple[dict[str, Values], dict[str, int]]:
    """Accuracies by protocol, and the number of test images by dataset.

    Raises:
        UsageError: two numbers of test images on one dataset.
    """
    values: dict[str, Values] = {}
    counts: dict[str, int] = {}
    for line in lines:
        if line.metric != "top1" or line.protocol not in ACCURACIES:
            continue
        if counts.setdefault(line.dataset, line.n) != line.n:
            raise UsageError(
                f"{line.dataset}: results on {counts[line.dataset]} and on {line.n} test images are not comparable; "
                "was the data changed between the runs?"
            )
        values.setdefault(line.protocol, {}).setdefault((line.row, line.dataset), {})[line.seed] = line.value
    return values, counts


def _common(numbers: Values, first: str, second: str) -> dict[str, list[int]]:
    """{dataset: seeds that both rows have}; datasets without one are left out."""
    datasets = [dataset for row, dataset in numbers if row == first and (second, dataset) in numbers]
    seeds = {name: sorted(numbers[first, name].keys() & numbers[second, name].keys()) for name in datasets}
    return {name: common for name, common in seeds.items() if common}


def _dataset_pair(
    dataset: str, heading: str, seeds: Sequence[int], numbers: Values, counts: Mapping[str, int], rows: tuple[str, str]
) -> DatasetPair:
    first, second = ({seed: numbers[row, dataset][seed] for seed in seeds} for row in rows)
    differences = [second[seed] - first[seed] for seed in seeds]
    paired = paired_interval(second, first, counts[dataset])
    if paired is None:
        raise ValueError(f"expected a common seed of {rows} on {dataset}")
    return DatasetPair(
        dataset=dataset,
        heading=heading,
        seeds=tuple(seeds),
        n=counts[dataset],
        first=statistics.fmean(first.values()),
        second=statistics.fmean(second.values()),
        std=statistics.stdev(differences) if len(seeds) > 1 else None,
        interval=paired[0],
        over_seeds=paired[1],
    )
