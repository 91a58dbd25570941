"""Draw depth with and without shortcuts: errors by epoch as He 2015, Figure 6, and gradients by layer and step.

What is drawn is also in the picture's text, as in `results_chart`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.comparison.experiments import Section
from harness.comparison.results_chart import DRAWN, FAINT, INK, OURS, THEIRS

METRICS, GRADIENTS = "metrics.csv", "gradients.csv"  # of a run's folder, as they are


def drawn(section: Section, folder: Path) -> list[dict[str, Any]]:
    """Return what is drawn: of each network's first seed, errors in percent by epoch and norms by step.

    Args:
        section: its lines are networks whose names end in their depth, such as `plain20`.
        folder: of an experiment; it holds `plain20-seed0/metrics.csv` and `plain20-seed0/gradients.csv`, and so on.
    """
    rows = []
    for line in section.lines:
        place = folder / f"{line.config.model.name}-seed{line.seeds[0]}"
        if not line.records or not place.is_dir():
            continue
        metrics, gradients = _table(place / METRICS), _table(place / GRADIENTS)
        layers = [name for name in gradients[0] if name != "step"]
        rows.append(
            {
                "network": line.label,
                "training": [row["train_top1_error"] for row in metrics],
                "validation": [row["validation_top1_error"] for row in metrics],
                "test": line.records[0].content["top1_error"],
                "steps": [round(row["step"]) for row in gradients],
                "norms": [[float(f"{row[layer]:.3g}") for layer in layers] for row in gradients],
            }
        )
    return rows


def _table(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def said(rows: Sequence[dict[str, Any]]) -> str:
    """Say what the curves show, in a paragraph; empty without any."""
    sentences = []
    for shallow, *_, deep in (members for members in _kinds(rows).values() if len(members) > 1):
        ends = [
            f"{row['test']:.2f}% on the test split and {row['training'][-1]:.2f}% in training"
            for row in (deep, shallow)
        ]
        test, training = (deep["test"] > shallow["test"], deep["training"][-1] > shallow["training"][-1])
        words = "both are" if test == training else f"the training error is {_size(training)}, the test error"
        sentences.append(
            f"{deep['network']} ends with {ends[0]}, {shallow['network']} with {ends[1]}: with more layers {words} "
            f"{_size(test)}."
        )
    ratios = [f"{row['network']} {_fall(row['norms'][0])} and {_fall(row['norms'][-1])}" for row in rows]
    if ratios:
        sentences.append(
            "The gradient's norm at the first convolution over that at the last, at the first step and at the last one "
            f"recorded: {', '.join(ratios)}."
        )
    return " ".join(sentences)


def _size(larger: bool) -> str:
    return "larger" if larger else "smaller"


def _fall(norms: Sequence[float]) -> str:
    return f"{norms[0] / norms[-2]:.2g}"  # the last layer is fully connected


def _kinds(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The networks by kind, `plain` and `resnet`, the shallowest first."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: int(re.sub(r"\D", "", row["network"]))):
        kinds.setdefault(re.sub(r"\d", "", row["network"]), []).append(row)
    return kinds


def draw(path: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Draw what `drawn` gave into a PNG file."""
    kinds = _kinds(rows)
    figure = Figure(figsize=(10.0, 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1))  # type: ignore[misc]  # two in an array
    errors = above.subplots(1, max(len(kinds), 1), sharey=True, squeeze=False)[0]
    for axes, (kind, members) in zip(errors, kinds.items(), strict=False):
        _draw_errors(axes, members, "without shortcuts" if kind == "plain" else "with shortcuts")
    norms = [norm for row in rows for at_step in row["norms"] for norm in at_step if norm > 0]
    scale = LogNorm(min(norms, default=1), max(norms, default=1))
    for axes, row in zip(below.subplots(1, max(len(rows), 1), squeeze=False)[0], rows, strict=False):
        picture = axes.pcolormesh(
            row["steps"], range(1, len(row["norms"][0]) + 1), list(zip(*row["norms"], strict=True)), norm=scale
        )
        axes.set(title=row["network"], xlabel="step")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    if rows:
        below.axes[0].set_ylabel("layer, from the input")
        below.colorbar(picture, ax=below.axes, label="L2 norm of the gradient", pad=0.01)
    figure.savefig(path, dpi=140, metadata={DRAWN: json.dumps(rows), "Software": None})


def _draw_errors(axes: Axes, members: Sequence[dict[str, Any]], title: str) -> None:
    for row, color in zip(members, (OURS, THEIRS, INK, FAINT), strict=False):
        epochs = range(1, len(row["training"]) + 1)
        axes.plot(epochs, row["training"], "--", color=color, linewidth=1.2, label=f"{row['network']}, training")
        axes.plot(epochs, row["validation"], color=color, linewidth=2, label=f"{row['network']}, validation")
        axes.plot(len(epochs), row["test"], "o", color=color, label=f"{row['network']}, test {row['test']:.1f}%")
    axes.set(title=title, xlabel="epoch")
    axes.set_ylabel("error (%)")
    axes.set_ylim(0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncols=len(members))
