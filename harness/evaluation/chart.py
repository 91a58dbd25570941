"""`comparison.png`: error bars of every model, after the top-5 chart of the ImageNet challenge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.evaluation.compare import Comparison

BAR, WHISKER = "#4c78a8", "#222222"


def draw_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """One row of panels a comparison, top-1 and top-5 side by side; bars from the worst to the best model.

    A bar is the mean over seeds, its whisker the 95% Wilson interval.
    """
    widest = max(len(comparison.rows) for comparison in comparisons)
    figure = Figure(figsize=(max(9.0, 2.2 * widest + 2), 4.2 * len(comparisons)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(comparisons), 2, squeeze=False)
    for axes, comparison in zip(panels, comparisons, strict=True):
        for panel, k in zip(axes, (1, 5), strict=True):
            _draw(panel, comparison, k)
    figure.savefig(path, dpi=110)


def _draw(axes: Axes, comparison: Comparison, k: int) -> None:
    rows = list(reversed(comparison.rows))
    errors = [row.top1_error if k == 1 else row.top5_error for row in rows]
    intervals = [row.top1_interval if k == 1 else row.top5_interval for row in rows]
    below = [max(0.0, error - low) for error, (low, _) in zip(errors, intervals, strict=True)]
    above = [max(0.0, high - error) for error, (_, high) in zip(errors, intervals, strict=True)]
    labels = [row.model.replace(" [", "\n[") for row in rows]
    axes.bar(labels, errors, width=0.6, color=BAR, yerr=(below, above), ecolor=WHISKER, capsize=4)
    for place, (error, (_, high)) in enumerate(zip(errors, intervals, strict=True)):
        axes.annotate(f"{error:.2f}", (place, high), xytext=(0, 3), textcoords="offset points", ha="center")
    axes.set_title(f"{comparison.title}: top-{k} error (%)", fontsize=11)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(0, 1.15 * max(high for _, high in intervals))
    axes.spines[["top", "right"]].set_visible(False)
