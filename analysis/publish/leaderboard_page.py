"""The leaderboard as a page that loads nothing, and as a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from analysis.publish.leaderboard import PROTOCOLS, RankedRow, Ranking, RankingBlock, rankings
from analysis.publish.record import Published, read_published
from analysis.publish.templating import render
from suite.atomic import write_text
from suite.errors import UsageError

_WIDTH, _HEIGHT, _MARGIN = 176, 18, 6  # of a strip, CSS pixels
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def write_leaderboard(
    folders: Sequence[Path], out: Path, title: str, protocols: Sequence[str] = tuple(PROTOCOLS)
) -> list[Path]:
    """Write ``index.html`` and ``leaderboard.csv`` into `out`.

    Args:
        folders: written by `suite publish`.
        out: folder to write to.
        title: of the page.
        protocols: the ones to rank by.

    Raises:
        UsageError: a folder is none of `suite publish`, or holds no number by the protocols.
        DataError: a published.json is damaged or of another format.
    """
    if len(folders) > len(_LETTERS):
        raise UsageError(f"expected at most {len(_LETTERS)} folders, got {len(folders)}.")
    sources = {letter: read_published(folder) for letter, folder in zip(_LETTERS, folders, strict=False)}
    all_rankings = rankings(sources, protocols)
    write_text(out / "leaderboard.csv", leaderboard_csv(all_rankings, sources))
    write_text(out / "index.html", leaderboard_html(title, all_rankings, sources))
    return [out / "index.html", out / "leaderboard.csv"]


def leaderboard_html(title: str, all_rankings: Sequence[Ranking], sources: Mapping[str, Published]) -> str:
    """The page. All text of the sources is escaped."""
    return render(
        "leaderboard.html.j2",
        title=title,
        rankings=all_rankings,
        sources=sources,
        meaning=PROTOCOLS,
        axis=axis,
        strip=strip,
    )


def leaderboard_csv(all_rankings: Sequence[Ranking], sources: Mapping[str, Published]) -> str:
    """One line per row of a ranking; `block` counts from 1 within dataset and protocol."""
    text = io.StringIO()
    columns = (
        *("dataset", "protocol", "block", "profile", "rank", "label", "stage1", "stage2", "mean", "low", "high"),
        *("interval", "seeds", "n", "sources", "apart"),
    )
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for ranking in all_rankings:
        for number, block in enumerate(ranking.blocks, 1):
            for row in block.rows:
                writer.writerow(
                    [
                        *(
                            ranking.dataset,
                            ranking.protocol,
                            number,
                            block.profile,
                            row.rank or "",
                            row.label,
                            row.stage1,
                        ),
                        *(row.stage2, row.mean, *row.interval, "seeds" if row.over_seeds else "test images"),
                        " ".join(map(str, row.seeds)),
                        block.n,
                        "; ".join(sources[letter].title for letter in row.sources),
                        block.separation,
                    ]
                )
    return text.getvalue()


def axis(block: RankingBlock) -> tuple[int, int]:
    """Ends of the strips of a block, in percent: multiples of 5 around all intervals."""
    low = min(row.interval[0] for row in block.rows)
    high = max(row.interval[1] for row in block.rows)
    first = math.floor(low / 5) * 5
    return first, max(first + 5, math.ceil(high / 5) * 5)


def strip(block: RankingBlock, row: RankedRow) -> Markup:
    """Mean and interval of a row as a picture, on the axis of its block."""
    low, high = axis(block)

    def x(percent: float) -> str:
        return f"{_MARGIN + (percent - low) / (high - low) * (_WIDTH - 2 * _MARGIN):.1f}"

    step = 5 if high - low <= 30 else 20
    middle = _HEIGHT / 2
    grid = "".join(
        f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="0" y2="{_HEIGHT}"/>'
        for tick in range(low, high + 1, step)
    )
    return Markup(  # only numbers of our own go in
        f'<svg class="strip" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">{grid}'
        f'<line x1="{x(row.interval[0])}" x2="{x(row.interval[1])}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{x(row.mean)}" cy="{middle}" r="3.2"/></svg>'
    )
