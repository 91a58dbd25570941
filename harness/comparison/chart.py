"""Draw a comparison: `comparison.png`, errors by network, and `comparison_costs.png`, errors against what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from harness.comparison.records import Comparison, Row
from harness.run.printable import printable

OURS, SEED, PAPER, INK = "#0072b2", "#56b4e9", "#d55e00", "#222222"  # of Okabe and Ito
WIDTH = 44  # most characters in a line of a label
FORMATS = ("png", "svg")
COSTS = {  # of a row, and what its axis is called
    "parameters": "parameters",
    "multiply_adds": "multiply-adds for one image",
    "images_per_second": "images/s of the evaluation",
}
MOST_NAMES = 12  # most rows whose names fit beside their points; of more, those have names that no other row beats

LONGEST = 28  # letters of a name, where several rows have the same network


def draw_comparisons(folder: Path, comparisons: Sequence[Comparison]) -> list[str]:
    """Draw the comparisons into PNG and SVG files and return the names of these.

    `comparison` has a row of panels for each comparison, top-1 and, where it says something, top-5 error, with the best
    network on top: a point is the mean over seeds, its line the 95% Wilson interval, a dot a seed, a tick the published
    error. `comparison_costs` has the top-1 errors against what is known of parameters, multiply-adds and speed.
    """
    written = []
    for name, figure in (("comparison", _errors(comparisons)), ("comparison_costs", _costs(comparisons))):
        for ending in FORMATS:
            figure.savefig(folder / f"{name}.{ending}", dpi=110, metadata={"Date": None} if ending == "svg" else None)
            written.append(f"{name}.{ending}")
    return written


def _errors(comparisons: Sequence[Comparison]) -> Figure:
    named = [[_wrapped(row.model) for row in comparison.rows] for comparison in comparisons]
    heights = [1.0 + sum(0.17 + 0.14 * (1 + name.count("\n")) for name in names) for names in named]
    most = max(len(comparison.ks) for comparison in comparisons)
    figure = Figure(figsize=(5.5 + 3.0 * most, 0.4 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    _legend(figure, [row for comparison in comparisons for row in comparison.rows])
    panels = figure.subplots(len(comparisons), most, squeeze=False, sharey="row", height_ratios=heights)
    for axes, comparison, names in zip(panels, comparisons, named, strict=True):
        for panel, k in zip(axes, comparison.ks, strict=False):
            _draw_errors(panel, comparison, names, k)
        for panel in axes[len(comparison.ks) :]:
            panel.remove()
    return figure


def _wrapped(label: str) -> str:
    return "\n".join(wrap(printable(label), WIDTH, break_long_words=False, break_on_hyphens=False))


def _draw_errors(axes: Axes, comparison: Comparison, names: Sequence[str], k: int) -> None:
    for place, row in enumerate(comparison.rows):
        error, (low, high) = _error(row, k)
        axes.plot((low, high), (place, place), color=INK, linewidth=1.1)
        axes.plot(error, place, "o", color=OURS, markersize=5)
        seeds = row.top1_seeds if k == 1 else row.top5_seeds
        axes.plot(seeds, [place] * len(seeds), "o", color=SEED, markersize=2.5)
        if (published := (row.published or {}).get(f"top{k}_error")) is not None:
            axes.plot(published, place, "|", color=PAPER, markersize=11, markeredgewidth=2)
        text: dict[str, Any] = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "fontsize": 8}
        axes.annotate(f"{error:.2f}", (error, place), **text)
    axes.set_title(f"{printable(comparison.title)}: top-{k} error (%)", fontsize=10, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)  # a name may have a $
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    _plain(axes)


def _error(row: Row, k: int) -> tuple[float, tuple[float, float]]:
    return (row.top1_error, row.top1_interval) if k == 1 else (row.top5_error, row.top5_interval)


def _legend(figure: Figure, rows: Sequence[Row]) -> None:
    handles = [
        Line2D([], [], color=OURS, marker="o", markersize=5, linestyle="", label="mean over seeds"),
        Line2D([], [], color=INK, linewidth=1.1, label="95% interval"),
        Line2D([], [], color=SEED, marker="o", markersize=2.5, linestyle="", label="a seed"),
        Line2D([], [], color=PAPER, marker="|", markersize=9, markeredgewidth=2, linestyle="", label="published"),
    ]
    shown = [True, True, any(len(row.top1_seeds) > 1 for row in rows), any(row.published for row in rows)]
    chosen = [handle for handle, known in zip(handles, shown, strict=True) if known]
    figure.legend(handles=chosen, loc="outside upper left", ncols=len(chosen), fontsize=8, frameon=False)


def _costs(comparisons: Sequence[Comparison]) -> Figure:
    known = [[cost for cost in COSTS if _known(comparison, cost)] for comparison in comparisons]
    most = max(map(len, known))
    figure = Figure(figsize=(1.0 + 3.6 * most, 3.6 * len(comparisons)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(comparisons), most, squeeze=False, sharey="row")
    for axes, comparison, costs in zip(panels, comparisons, known, strict=True):
        axes[0].set_ylabel("top-1 error (%)")
        axes[0].set_title(printable(comparison.title), fontsize=10, parse_math=False, loc="left")
        for panel, cost in zip(axes, costs, strict=False):
            _draw_costs(panel, comparison, cost)
        for panel in axes[len(costs) :]:
            panel.remove()
    return figure


def _known(comparison: Comparison, cost: str) -> bool:
    return any(getattr(row, cost) for row in comparison.rows)


def _draw_costs(axes: Axes, comparison: Comparison, cost: str) -> None:
    rows = [row for row in comparison.rows if getattr(row, cost)]  # the best first
    dear = -1 if cost == "images_per_second" else 1
    cheapest = [
        min((dear * getattr(row, cost) for row in rows[:place]), default=math.inf) for place in range(len(rows))
    ]
    models = [row.model.partition(" ")[0] for row in rows]
    for row, model, least in zip(rows, models, cheapest, strict=True):
        error, (low, high) = _error(row, 1)
        axes.plot((getattr(row, cost),) * 2, (low, high), color=INK, linewidth=0.8)
        axes.plot(getattr(row, cost), error, "o", color=OURS, markersize=4)
        if len(rows) <= MOST_NAMES or dear * getattr(row, cost) < least:
            text: dict[str, Any] = {"xytext": (5, 2), "textcoords": "offset points", "fontsize": 7, "parse_math": False}
            name = model if models.count(model) == 1 else row.model[:LONGEST]
            axes.annotate(printable(name), (getattr(row, cost), error), **text)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(COSTS[cost])
    axes.margins(x=0.18)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
