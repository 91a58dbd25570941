"""Fine-tuning against training from scratch: tables of `benchmarks.transfer` and of flowers, and the figure."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import t

LOOKS = {  # name, colour and marker of each way
    "scratch": ("from scratch", "#b0413e", "s"),
    "linear_probe": ("linear probe", "#e1a730", "^"),
    "finetune": ("fine-tuned", "#4c78a8", "o"),
}
FLOWERS = {"alexnet": "AlexNet", "resnet18": "ResNet-18"}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of several seeds' values, and half of its 95% interval by Student's t; at least two values."""
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), half


def errors(record: dict[str, Any], task: str, way: str, images_per_class: int) -> list[float]:
    """Top-1 errors in percent, in order of seeds."""
    wanted = {"task": task, "way": way, "images_per_class": images_per_class}
    chosen = [run for run in record["runs"] if {key: run[key] for key in wanted} == wanted]
    return [run["top1_error"] for run in sorted(chosen, key=lambda run: int(run["seed"]))]


def counts(record: dict[str, Any]) -> list[int]:
    """The numbers of images of each class that were trained on."""
    return sorted({run["images_per_class"] for run in record["runs"]})


def table(record: dict[str, Any]) -> str:
    """Markdown: mean and 95% interval over seeds of each error, and of how far fine-tuning is ahead, seed by seed."""
    return _markdown(
        _row(title, count, {way: errors(record, task, way, count) for way in LOOKS})
        for task, title in record["tasks"].items()
        for count in counts(record)
    )


def flowers_table(folder: Path) -> str:
    """The same table of the experiments flowers_scratch, flowers_linear_probe and flowers_finetune.

    Args:
        folder: of all experiments' records.
    """
    rows = []
    for model, name in FLOWERS.items():
        ways = {}
        for way in LOOKS:
            records = sorted((folder / f"flowers_{way}").glob(f"{model}-seed*.json"))
            ways[way] = [json.loads(path.read_text(encoding="utf-8"))["top1_error"] for path in records]
        rows.append(_row(f"{name} from imagenette to twelve flowers", 60, ways))
    return _markdown(rows)


def _markdown(rows: Iterable[str]) -> str:
    names = [name for name, _, _ in LOOKS.values()]
    head = f"| task | images a class | {' | '.join(names)} | scratch less fine-tuned |"
    return "\n".join([head, "| --- | --- | --- | --- | --- | --- |", *rows])


def _row(title: str, count: int, ways: Mapping[str, Sequence[float]]) -> str:
    ahead = [a - b for a, b in zip(ways["scratch"], ways["finetune"], strict=True)]
    cells = [f"{mean:.2f} ± {half:.2f}" for mean, half in map(interval, [*ways.values(), ahead])]
    return f"| {title} | {count} | {' | '.join(cells)} |"


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
    for way, (name, colour, marker) in LOOKS.items():
        means, halves = zip(*(interval(errors(record, task, way, count)) for count in xs), strict=True)
        axes.errorbar(xs, means, yerr=halves, label=name, color=colour, marker=marker, capsize=4)
    axes.set_xscale("log")
    axes.set_xticks(xs, [str(count) for count in xs])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training images of each class")
    axes.set_ylabel("top-1 error (%)")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
