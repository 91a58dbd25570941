"""Draw `comparison.png`: the errors of every model as bars, like the top-5 chart of the ImageNet challenge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.comparison.records import Comparison
from harness.run.printable import printable

BAR, WHISKER = "#4c78a8", "#222222"
WIDTH = 44  # most characters in a line of a label


def draw_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Draw each comparison as a row of two panels, top-1 and top-5, with bars from the best model to the worst.

    Among five classes or fewer there is no top-5 error to draw.

    A bar is the mean over seeds, and its whisker the 95% Wilson interval.
    """
    named = [[_wrapped(row.model) for row in comparison.rows] for comparison in comparisons]
    heights = [1.0 + sum(0.2 + 0.16 * (1 + name.count("\n")) for name in names) for names in named]
    figure = Figure(figsize=(11.0, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    most = max(len(comparison.ks) for comparison in comparisons)
    panels = figure.subplots(len(comparisons), most, squeeze=False, sharey="row", height_ratios=heights)
    for axes, comparison, names in zip(panels, comparisons, named, strict=True):
        for panel, k in zip(axes, comparison.ks, strict=False):
            _draw(panel, comparison, names, k)
        for panel in axes[len(comparison.ks) :]:
            panel.remove()
    figure.savefig(path, dpi=110)


def _wrapped(label: str) -> str:
    return "\n".join(wrap(printable(label), WIDTH, break_long_words=False, break_on_hyphens=False))


def _draw(axes: Axes, comparison: Comparison, names: Sequence[str], k: int) -> None:
    rows = comparison.rows
    errors = [row.top1_error if k == 1 else row.top5_error for row in rows]
    intervals = [row.top1_interval if k == 1 else row.top5_interval for row in rows]
    below = [max(0.0, error - low) for error, (low, _) in zip(errors, intervals, strict=True)]
    above = [max(0.0, high - error) for error, (_, high) in zip(errors, intervals, strict=True)]
    places = range(len(rows))
    axes.barh(places, errors, height=0.6, color=BAR, xerr=(below, above), ecolor=WHISKER, capsize=3)
    for place, error, (_, high) in zip(places, errors, intervals, strict=True):
        axes.annotate(f"{error:.2f}", (high, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_title(f"{printable(comparison.title)}: top-{k} error (%)", fontsize=10, parse_math=False)
    axes.set_yticks(places, names, fontsize=8, parse_math=False)  # a name may have a $
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.2 * max(high for _, high in intervals))
    axes.spines[["top", "right"]].set_visible(False)
