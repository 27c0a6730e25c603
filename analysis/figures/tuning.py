"""Figures of a study of `suite tune`: its history, a slice per parameter, their importance, the kNN curves.

All from `trials.json`, `study.json` and `importances.json` of the study's folder. Values are held-out accuracies in
percent; what was pruned has none and is marked at the lower edge.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.figures.style import STYLE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.3, 2.4  # inches: a panel is as wide as a column of a two-column page
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#888888"  # Okabe & Ito
_METRICS = {"finetune": "fine-tuned", "linear": "linear", "knn": "kNN"}

Trials = Sequence[dict[str, Any]]


def tuning_figures(folder: Path) -> list[Path]:
    """Write history, slice, importance and curves, each as PDF and PNG, into the study's folder; returns their paths.

    What has nothing to show is left out: no figure before the first complete trial, no curves without pruning.
    """
    import matplotlib as mpl

    study = json.loads((folder / "study.json").read_text("utf-8"))
    trials: Trials = json.loads((folder / "trials.json").read_text("utf-8"))
    importances: dict[str, float] = json.loads((folder / "importances.json").read_text("utf-8"))
    label = f"{_METRICS[study['objective']]} top-1, held-out (%)"
    files: list[Path] = []
    with mpl.rc_context(STYLE):
        if any(trial["value"] is not None for trial in trials):
            files += save(history(trials, label), folder / "history")
            files += save(slices(trials, study["space"], label), folder / "slice")
        if importances:
            files += save(importance(importances), folder / "importance")
        if any(trial["curve"] for trial in trials):
            files += save(curves(trials), folder / "curves")
    return files


def history(trials: Trials, label: str) -> Figure:
    """Value over the trial's number, and the best so far as steps."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = _figure(1)
    complete = [trial for trial in trials if trial["value"] is not None]
    numbers, values = [t["number"] for t in complete], [t["value"] for t in complete]
    best = [max(values[: place + 1]) for place in range(len(values))]
    axes.step(numbers, best, where="post", color=_ORANGE, linewidth=1.0, label="best so far")
    axes.plot(numbers, values, "o", color=_BLUE, markersize=3.5, label="complete")
    _at_edge(axes, [t["number"] for t in trials if t["state"] == "pruned"], "pruned")
    axes.set(xlabel="trial", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def slices(trials: Trials, space: dict[str, str], label: str) -> Figure:
    """Value over each parameter; colour tells when it was tried."""
    from matplotlib.ticker import MaxNLocator

    figure, panels = _figure(len(space))
    complete = [trial for trial in trials if trial["value"] is not None]
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    points = None
    for axes, (field, text) in zip(panels, space.items(), strict=True):
        at = _positions(axes, field, text, trials)
        points = axes.scatter(
            [at(trial) for trial in complete], [trial["value"] for trial in complete], s=14,
            c=[trial["number"] for trial in complete], cmap="viridis", zorder=2,
        )  # fmt: skip
        best = max(complete, key=lambda trial: (trial["value"], -trial["number"]))
        axes.scatter([at(best)], [best["value"]], s=50, facecolors="none", edgecolors=_ORANGE, label="best", zorder=3)
        _at_edge(axes, [at(trial) for trial in pruned], "pruned")
        axes.set_xlabel(field)
    panels[0].set_ylabel(label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    if points is not None and len(complete) > 1:
        bar = figure.colorbar(points, ax=panels, pad=0.02, ticks=MaxNLocator(integer=True))
        bar.set_label("trial")
    return figure


def importance(importances: dict[str, float]) -> Figure:
    """Share of each parameter in the differences between trials (PED-ANOVA, arXiv:2304.10255)."""
    ordered = sorted(importances.items(), key=lambda pair: pair[1])
    figure, (axes,) = _figure(1, 0.7 + 0.3 * len(ordered))
    bars = axes.barh([field for field, _ in ordered], [share for _, share in ordered], color=_BLUE, height=0.5)
    axes.bar_label(bars, fmt="%.2f", padding=2)
    axes.set(xlim=(0, 1.12), ylim=(-0.8, len(ordered) - 0.2), xlabel="importance (PED-ANOVA), shares of 1")
    axes.grid(visible=False)
    return figure


def curves(trials: Trials) -> Figure:
    """Accuracy of kNN on the held-out images during pretraining; a cross where a trial was stopped."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = _figure(1)
    shown = [trial for trial in trials if trial["curve"]]
    for trial in shown:
        pruned = trial["state"] == "pruned"
        epochs, values = [int(epoch) for epoch in trial["curve"]], list(trial["curve"].values())
        colour = _GREY if pruned else _BLUE
        axes.plot(epochs, values, ".-", color=colour, linewidth=0.8, markersize=3, alpha=0.8)
        if pruned:
            axes.plot(epochs[-1:], values[-1:], "x", color=_ORANGE, markersize=4)
    for text, style, colour in (("completed", ".-", _BLUE), ("pruned", "x-", _GREY)):
        if text != "pruned" or any(trial["state"] == "pruned" for trial in shown):
            edge = _ORANGE if text == "pruned" else colour
            axes.plot([], [], style, color=colour, markeredgecolor=edge, markersize=4, linewidth=0.8, label=text)
    axes.set(xlabel="epoch of pretraining", ylabel="kNN top-1, held-out (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def _figure(panels: int, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * panels, height), layout="constrained")
    found = list(figure.subplots(1, panels, squeeze=False, sharey=True)[0])
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, axis="y", linewidth=0.3, alpha=0.6)
        axes.margins(y=0.12)
    return figure, found


def _at_edge(axes: Axes, places: Sequence[float], label: str) -> None:
    """Crosses at the lower edge, for what has no value."""
    if places:
        axes.plot(places, [0.02] * len(places), "x", transform=axes.get_xaxis_transform(), color=_GREY, markersize=4,
                  label=label)  # fmt: skip


def _positions(axes: Axes, field: str, text: str, trials: Trials) -> Any:
    """Where a trial stands on the axis of a parameter: its number, or the place of its choice."""
    from matplotlib.ticker import NullFormatter

    if ":" in text:
        low, high = (float(end) for end in text.split(":")[:2])
        if text.endswith(":log"):
            axes.set_xscale("log")
            axes.set_xlim(low / 1.1, high * 1.1)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")  # not 10^-1, which needs mathtext
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        return lambda trial: trial["params"][field]
    choices = list(dict.fromkeys(sorted((trial["params"][field] for trial in trials), key=str)))
    axes.set_xticks(range(len(choices)), [str(choice) for choice in choices])
    axes.set_xlim(-0.5, len(choices) - 0.5)
    return lambda trial: choices.index(trial["params"][field])
