"""Fine-tuning against training from scratch: the table of `benchmarks.transfer`, and the figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.comparison.ways_table import WAYS, interval, ways_table

LOOKS = {"scratch": ("#b0413e", "s"), "linear_probe": ("#e1a730", "^"), "finetune": ("#4c78a8", "o")}  # colour, marker


def errors(record: dict[str, Any], task: str, way: str, images_per_class: int) -> dict[int, float]:
    """Top-1 errors in percent, by seed."""
    wanted = {"task": task, "way": way, "images_per_class": images_per_class}
    chosen = [run for run in record["runs"] if {key: run[key] for key in wanted} == wanted]
    return {int(run["seed"]): run["top1_error"] for run in sorted(chosen, key=lambda run: int(run["seed"]))}


def counts(record: dict[str, Any]) -> list[int]:
    """The numbers of images of each class that were trained on."""
    return sorted({run["images_per_class"] for run in record["runs"]})


def table(record: dict[str, Any]) -> str:
    """The record's table; a row for each task and number of images."""
    return ways_table(
        (title, count, {way: errors(record, task, way, count) for way in WAYS})
        for task, title in record["tasks"].items()
        for count in counts(record)
    )


def draw(path: Path, record: dict[str, Any]) -> None:
    """A panel a task: error over images of each class (logarithmic), with 95% intervals over seeds."""
    tasks = record["tasks"]
    figure = Figure(figsize=(5.2 * len(tasks), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (task, title) in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks.items(), strict=True):
        _panel(axes, record, task, title)
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, record: dict[str, Any], task: str, title: str) -> None:
    xs = counts(record)
    for way, (colour, marker) in LOOKS.items():
        values = [list(errors(record, task, way, count).values()) for count in xs]
        means, halves = zip(*map(interval, values), strict=True)
        axes.errorbar(xs, means, yerr=halves, label=WAYS[way], color=colour, marker=marker, capsize=4)
    axes.set_xscale("log")
    axes.set_xticks(xs, [str(count) for count in xs])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training images of each class")
    axes.set_ylabel("top-1 error (%)")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
