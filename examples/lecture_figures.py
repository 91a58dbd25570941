"""The figures of `cnn_lecture.py`: how they are drawn, so that the lecture itself holds no drawing code.

A notebook shows each figure below its cell. `render_lecture.py` puts a function of its own into `on_figure` and keeps
the files. A plain script shows nothing.
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter
from PIL import Image

BLUE, ORANGE, GREEN, RED, INK, FAINT = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#222222", "#767676"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#cc79a7", INK)  # after Okabe and Ito, told apart without red or green
MARKERS = "osD^vX"
Array = npt.NDArray[Any]


def display(name: str, alt: str, png: bytes) -> None:
    """Show a figure in a notebook; do nothing in a script."""
    if "ipykernel" in sys.modules:
        notebook = importlib.import_module("IPython.display")
        notebook.display(notebook.Image(data=png, alt=alt))


on_figure: Callable[[str, str, bytes], None] = display  # gets a figure's name, its text for those who cannot see, a PNG


def new(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def show(figure: Figure, name: str, alt: str) -> None:
    """Hand a finished figure on."""
    drawn, png = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    Image.open(drawn).convert("RGB").quantize(256).save(png, "PNG", optimize=True)  # a third of the bytes
    on_figure(name, alt, png.getvalue())


def images(pictures: Mapping[str, Any], name: str, alt: str, *, signed: bool = False, columns: int = 6) -> None:
    """Arrays (H, W) or (H, W, 3) beside each other, each below its title; `signed`: blue below zero, orange above."""
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    side = min(1.9, 9.5 / columns)  # inches
    figure = new(side * columns, (side + 0.3) * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes in panels:
        axes.axis("off")
    for axes, (title, picture) in zip(figure.axes, pictures.items(), strict=False):
        values = np.asarray(picture)
        limit = float(np.abs(values).max()) or 1.0
        scale: dict[str, Any] = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit} if signed else {"cmap": "gray"}
        axes.imshow(values, **scale)
        axes.set_title(title, fontsize=9)
    show(figure, name, alt)


def numbers(axes: Axes, values: Array, *, window: tuple[int, int, int] | None = None, title: str = "") -> None:
    """Draw a matrix as a table of its numbers, with a frame around the window (row, column, side)."""
    rows, columns = values.shape
    axes.set(xlim=(-0.55, columns - 0.45), ylim=(rows - 0.45, -0.55), aspect="equal")
    axes.axis("off")
    axes.set_title(title, fontsize=9)
    for row in range(rows):
        for column in range(columns):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white", edgecolor="#cccccc"))
            axes.text(column, row, f"{values[row, column]:g}", ha="center", va="center", fontsize=9, color=INK)
    if window is not None:
        row, column, side = window
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, side, side, facecolor=ORANGE, alpha=0.3))
        axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=RED, linewidth=1.8, clip_on=False))


def windows(image: Array, kernel: Array, results: Sequence[tuple[int, int, float]], name: str, alt: str) -> None:
    """A panel for each window of an image, at (row, column), with its result; the kernel is the first panel."""
    figure = new(9.5, 4.2)
    panels = figure.subplots(2, 5).flat
    numbers(panels[0], kernel, title="kernel")
    panels[0].set(xlim=(-1.55, 3.55), ylim=(3.55, -1.55))
    for axes, (row, column, result) in zip(list(panels)[-len(results) :], results, strict=True):
        numbers(axes, image, window=(row, column, len(kernel)), title=f"window at ({row}, {column}): {result:g}")
    show(figure, name, alt)


def matrices(values: Mapping[str, Array], name: str, alt: str) -> None:
    """Matrices of numbers beside each other."""
    figure = new(2.6 * len(values), 2.8)
    for axes, (title, matrix) in zip(figure.subplots(1, len(values), squeeze=False).flat, values.items(), strict=True):
        numbers(axes, matrix, title=title)
    show(figure, name, alt)


def curves(axes: Axes, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> None:
    """Lines with markers, and their names."""
    for number, (label, (along, values)) in enumerate(lines.items()):
        colour, marker = COLOURS[number % 6], MARKERS[number % 6]
        axes.plot(along, values, color=colour, marker=marker, label=label, markersize=4, linewidth=1.5)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#e5e5e5")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def lines(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    name: str,
    alt: str,
    *,
    x: str,
    y: str,
    log: str = "",
) -> None:
    """Curves, each panel below its title; `log` holds the axes, `x` and `y`, that are logarithmic."""
    figure = new(4.8 * len(panels) + (1.4 if len(panels) == 1 else 0), 3.6)
    for axes, (title, content) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True):
        curves(axes, content, x, y)
        axes.set_title(title, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if "x" in log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_locator(NullLocator())
        if "y" in log:
            axes.set_yscale("log")
    show(figure, name, alt)


def history(entries: Sequence[tuple[str, float]], ours: Sequence[tuple[str, float]], name: str, alt: str) -> None:
    """Top-5 errors of the competition above, single networks on one crop below, on the same axis."""
    figure = new(9.0, 0.42 * (len(entries) + len(ours)) + 1.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(len(entries), len(ours)))
    for axes, rows, colour, title in (
        (upper, entries, FAINT, "Entries of the ImageNet challenge, and a person"),
        (lower, ours, BLUE, "This zoo: one network, one central crop, validation set"),
    ):
        places = range(len(rows))
        axes.barh(places, [error for _, error in rows], color=colour, height=0.65)
        axes.set_yticks(places, [label for label, _ in rows], fontsize=8)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        for place, (_, error) in zip(places, rows, strict=True):
            axes.annotate(
                f"{error:.2f}", (error, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
    lower.set_xlabel("top-5 error (%)")
    show(figure, name, alt)
