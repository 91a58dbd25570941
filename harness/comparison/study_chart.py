"""Draw a study: the validation errors of its trials one after the other, and against each setting that it searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from harness.comparison.chart import INK, OURS, PAPER
from harness.run.files import atomic

COLUMNS = 3  # most panels in a row
FALLS = 4.0  # times by which errors differ that are drawn on a logarithmic scale


@dataclass(frozen=True)
class Axis:
    """A setting that a study searches.

    Attributes:
        name: its key.
        values: its value in each trial: a number, or a word out of a list.
        log: whether it is drawn by ratios.
    """

    name: str
    values: Sequence[str | float | int]
    log: bool


def draw_study(
    path: Path, complete: Sequence[float | None], given_up: Sequence[float | None], axes: Sequence[Axis]
) -> None:
    """Draw a picture of the trials of a study.

    Args:
        path: of the picture, a PNG file.
        complete: validation error (percent) of each complete trial; None for the others.
        given_up: best validation error that each trial had when it was given up; None for the others.
        axes: the settings that were searched.
    """
    rows = -(-len(axes) // COLUMNS)
    figure = Figure(figsize=(9.0, 3.2 + 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    above, *below = figure.subfigures(1 + rows, 1, squeeze=False, height_ratios=[1.1, *[1.0] * rows])[:, 0]
    top = above.subplots()
    numbers = range(1, len(complete) + 1)
    _points(top, numbers, complete, given_up)
    reached = [(n, error) for n, error in zip(numbers, complete, strict=True) if error is not None]
    if reached:
        lowest = [*accumulate((error for _, error in reached), min)]
        ends = [*(n for n, _ in reached), len(complete)]
        top.step(ends, [*lowest, lowest[-1]], where="post", color=INK, linewidth=1.2, label="best so far")
    top.set(xlabel="trial", ylabel="validation error (%)")
    top.xaxis.set_major_locator(MaxNLocator(integer=True))
    if top.lines:
        top.legend(fontsize=9)
    for number, axis in enumerate(axes):
        place, column = divmod(number, COLUMNS)
        panel = below[place].add_subplot(1, min(COLUMNS, len(axes) - place * COLUMNS), column + 1)
        _draw_axis(panel, axis, complete, given_up)
        if not column:
            panel.set_ylabel("validation error (%)")
    errors = [error for error in (*complete, *given_up) if error is not None]
    if errors and 0 < FALLS * min(errors) < max(errors):  # bad settings would hide how good ones differ
        for panel in figure.axes:
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter(NullFormatter())
    with atomic(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _points(
    axes: Axes, places: Sequence[float], complete: Sequence[float | None], given_up: Sequence[float | None]
) -> None:
    for errors, marker, color, name in ((complete, "o", OURS, "complete"), (given_up, "x", PAPER, "given up")):
        known = [(place, error) for place, error in zip(places, errors, strict=True) if error is not None]
        if known:
            axes.plot(*zip(*known, strict=True), marker, color=color, markersize=5, label=name)
    axes.grid(alpha=0.3)


def _draw_axis(axes: Axes, axis: Axis, complete: Sequence[float | None], given_up: Sequence[float | None]) -> None:
    words = list(dict.fromkeys(str(value) for value in axis.values if isinstance(value, str)))
    places = [words.index(value) if isinstance(value, str) else value for value in axis.values]
    _points(axes, places, complete, given_up)
    if words:
        axes.set_xticks(range(len(words)), words)
        axes.set_xlim(-0.5, len(words) - 0.5)
    elif axis.log:
        axes.set_xscale("log")
    axes.set_xlabel(axis.name)
