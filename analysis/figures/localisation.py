"""Accuracy over localisation: do networks that attend to the object classify better?"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.figures.style import STYLE, save
from analysis.tables.metrics import Column, DatasetBlock, Number, blocks, seeds_note
from suite.data.catalogue import DATASETS
from suite.grid.spec import GridSpec
from suite.store.cells import ResultLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE, TEXT = 1.75, 0.8  # inches: a panel, four of which fill a page's text width; legend above and note below
_MAPS = {"act_pointing": "features, pretrained", "cam_pointing": "Grad-CAM, fine-tuned"}
# Okabe & Ito's colours and a few of Tol's; a marker each for print without colours.
_COLOURS = (
    *("#000000", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#999999", "#882255", "#44AA99"),
    "#999933",
)
_MARKERS = "osD^vPX<>p*"


def localisation_figure(
    grid: GridSpec,
    lines: Sequence[ResultLine],
    stem: Path,
    data: Mapping[str, str] | None = None,
    synthetic: Collection[str] = (),
) -> list[Path]:
    """Write stem.pdf and stem.png; returns their paths, none where no cell has both numbers.

    One panel per dataset and kind of map, one marker per row; the rows of a sweep's series look alike. Bars are the
    sample standard deviation over seeds. The x axis is the pointing game, of which a map needs no threshold and no
    scale. data: per dataset, the images used. synthetic: names of synthetic datasets.
    """
    looks = blocks(grid, lines, "localisation", [Column(metric, metric) for metric in _MAPS])
    right = blocks(grid, lines, "finetune", [Column("top1", "top1")])
    datasets = [block.dataset for block in looks if block.dataset in {other.dataset for other in right}]
    if not datasets:
        return []
    profiles = ", ".join(sorted({line.profile for line in lines if line.grid == grid.name}))
    used = "; ".join((data or {}).get(name, DATASETS[name].label) for name in datasets)
    swept = "" if grid.sweep is None else f" A series has a marker per {grid.sweep}."
    note = textwrap.fill(f"Profile {profiles}. {used}. {seeds_note(looks)}{swept}", 26 * max(2, len(datasets)))
    return save(_figure(grid, datasets, _by_dataset(looks), _by_dataset(right), note, synthetic), stem)


def _by_dataset(shown: Sequence[DatasetBlock]) -> dict[str, dict[str, tuple[Number | None, ...]]]:
    return {block.dataset: {row.name: row.numbers for row in block.rows} for block in shown}


def _figure(
    grid: GridSpec,
    datasets: Sequence[str],
    looks: dict[str, dict[str, tuple[Number | None, ...]]],
    right: dict[str, dict[str, tuple[Number | None, ...]]],
    note: str,
    synthetic: Collection[str],
) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    labels = {row.name: row.series or row.label for row in grid.rows}
    styles = {
        label: (_COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)])
        for number, label in enumerate(dict.fromkeys(labels.values()))
    }
    with mpl.rc_context(STYLE):
        size = (max(2, len(datasets)) * SIDE, len(_MAPS) * SIDE + TEXT)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(_MAPS), len(datasets), squeeze=False)
        for place, name in enumerate(_MAPS.values()):
            for axes, dataset in zip(panels[place], datasets, strict=True):
                for row, label in labels.items():
                    x = looks[dataset].get(row, (None,) * len(_MAPS))[place]
                    y = right[dataset].get(row, (None,))[0]
                    if x is not None and y is not None:
                        _point(axes, x, y, styles[label], label)
                heading = DATASETS[dataset].heading(dataset in synthetic).replace(" (", "\n(")
                axes.set_title(f"{heading}\n{name}", size=7)
                axes.grid(visible=True, linewidth=0.3, alpha=0.6)
                axes.spines[["top", "right"]].set_visible(False)
                axes.margins(0.12)
        figure.supxlabel(f"pointing game: highest place inside the official box (%)\n{note}", size=6.5)
        figure.supylabel("top-1 (%)", size=7)
        named = {label: h for a in figure.axes for h, label in zip(*a.get_legend_handles_labels(), strict=True)}
        figure.legend(
            named.values(),
            named.keys(),
            loc="outside upper center",
            ncols=5 if len(datasets) > 2 else 3,
            frameon=False,
            fontsize=6.5,
        )
    return figure


def _point(axes: Axes, x: Number, y: Number, style: tuple[str, str], label: str) -> None:
    axes.errorbar(
        x.mean, y.mean, xerr=x.std, yerr=y.std, color=style[0], marker=style[1], linestyle="none", markersize=4,
        capsize=2, elinewidth=0.7, label=label,
    )  # fmt: skip
