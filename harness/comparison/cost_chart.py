"""Draw what an error costs: test error against multiply-adds, and against the seconds that an epoch takes.

What is drawn is also in the picture's text, as in `results_chart`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from harness.comparison.experiments import Section
from harness.comparison.results_chart import DRAWN, INK, OURS, THEIRS

COSTS = {"multiply_adds": "multiply-adds for one image", "seconds": "seconds an epoch, {cores} cores of a CPU"}


def drawn(section: Section, speed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is drawn: for each network with records, its errors in percent and what it costs.

    Args:
        section: its lines are of one data set.
        speed: record of `tools/benchmark.py networks` on images of the same size.

    Raises:
        LookupError: the record lacks one of the networks.
    """
    rows = []
    for line in section.lines:
        if line.row is None:
            continue
        recipe, model = line.config.recipe, line.config.model.name
        layout = "channels_last" if recipe.channels_last else "contiguous"
        images = line.records[0].content["training"]["images"]
        low, high = line.row.top1_interval
        rows.append(
            {
                "network": line.label,
                "error": line.row.top1_error,
                "seeds": [record.content["top1_error"] for record in line.records],
                "low": low,
                "high": high,
                "multiply_adds": speed["multiply_adds"][model],
                "seconds": images / speed["images_per_second"][f"{model} {recipe.precision} {layout}"],
                "cores": speed["machine"]["threads"],
            }
        )
    return rows


def draw(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Draw what `drawn` gave into a PNG file."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    handles = [
        Line2D([], [], color=OURS, marker="o", linestyle="", label="mean over seeds"),
        Line2D([], [], color=INK, linewidth=1.1, label="95% interval"),
        Line2D([], [], color=THEIRS, marker="o", markersize=3, linestyle="", label="one seed"),
    ]
    look: dict[str, Any] = {"ncols": 3, "fontsize": 9, "frameon": False, "title_fontsize": 13, "alignment": "left"}
    figure.legend(handles=handles, loc="outside upper left", title=title, **look)
    for axes, (cost, label) in zip(figure.subplots(1, 2, sharey=True), COSTS.items(), strict=True):
        _draw_cost(axes, rows, cost)
        axes.set_xlabel(label.format(cores=rows[0]["cores"] if rows else ""), color=INK)
        if cost == "multiply_adds":
            axes.set_ylabel("test error (%)", color=INK)
    figure.savefig(path, dpi=150, metadata={DRAWN: json.dumps(rows), "Software": None})


def _draw_cost(axes: Axes, rows: Sequence[dict[str, Any]], cost: str) -> None:
    for row in rows:
        around = ([row["error"] - row["low"]], [row["high"] - row["error"]])
        axes.errorbar(row[cost], row["error"], yerr=around, color=INK, linewidth=1.1, capsize=3)
        axes.plot(row[cost], row["error"], "o", color=OURS, markersize=8)
        axes.plot([row[cost]] * len(row["seeds"]), row["seeds"], "o", color=THEIRS, markersize=3)
        place: dict[str, Any] = {"xytext": (9, 3), "textcoords": "offset points"}
        axes.annotate(f"{row['network']} {row['error']:.1f}", (row[cost], row["error"]), color=INK, fontsize=9, **place)
    axes.set_xlim(0, 1.45 * max((row[cost] for row in rows), default=1))
    axes.set_ylim(0, 1.1 * max((row["high"] for row in rows), default=1))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _short(value: float, _: object) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1, "")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
