"""Draw a learning-rate range test: the loss against the rate, where it falls fastest, and where it diverges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.comparison.chart import INK, OURS, PAPER, SEED
from harness.run.files import atomic, csv_text

HALF = 5  # steps before and after one, over which its loss is averaged


@dataclass(frozen=True)
class Range:
    """What a range test measured.

    Attributes:
        rates: learning rate of each step, rising by equal ratios.
        losses: mean loss over the images of each step, in nats; the last may not be finite.
        diverged: whether the last is where the loss diverged.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: bool

    @property
    def smoothed(self) -> list[float]:
        """Each loss averaged with its neighbours, fewer towards the ends, so that the curve does not lag behind."""
        kept = [loss for loss in self.losses if math.isfinite(loss)]
        means = []
        for step in range(len(kept)):
            half = min(HALF, step, len(kept) - 1 - step)
            means.append(float(np.mean(kept[step - half : step + half + 1])))
        return means

    @property
    def steepest(self) -> int | None:
        """Step at which the smoothed loss falls fastest, per ratio of rates; None if it never falls."""
        losses = self.smoothed
        least = int(np.argmin(losses)) if losses else 0
        if least < 2:
            return None
        falls = np.gradient(losses[: least + 1])
        return int(np.argmin(falls)) if falls.min() < 0 else None

    @property
    def said(self) -> str:
        """A line: what the marks mean, as rates."""
        end = f"diverged at {self.rates[-1]:.2g}" if self.diverged else f"no divergence up to {self.rates[-1]:.2g}"
        if self.steepest is None:
            return f"the loss never falls; {end}"
        least = self.rates[int(np.argmin(self.smoothed))]
        return (
            f"the loss falls fastest at a rate of {self.rates[self.steepest]:.2g}, and is least at {least:.2g}; {end}. "
            "A rate to begin a search with, not one that was found best"
        )


def range_csv(found: Range) -> str:
    """Return a table with a line for each step."""
    smoothed: Sequence[object] = [*found.smoothed, *[""] * (len(found.losses) - len(found.smoothed))]
    last = len(found.losses) - 1
    rows = [
        (
            step,
            rate,
            loss,
            smooth,
            "steepest" if step == found.steepest else "diverged" * (found.diverged and step == last),
        )
        for step, (rate, loss, smooth) in enumerate(zip(found.rates, found.losses, smoothed, strict=True))
    ]
    return csv_text(("step", "learning_rate", "loss", "smoothed_loss", "mark"), rows)


def draw_range(path: Path, found: Range, title: str) -> None:
    """Draw a range test into a PNG file."""
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    smoothed = found.smoothed
    shown = len(smoothed)
    axes.plot(found.rates[:shown], found.losses[:shown], ".", color=SEED, markersize=3, label="loss of a step")
    axes.plot(found.rates[:shown], smoothed, color=OURS, linewidth=2, label=f"mean of up to {2 * HALF + 1} steps")
    if found.steepest is not None:
        rate = found.rates[found.steepest]
        axes.axvline(rate, color=INK, linewidth=1.2, linestyle="--", label=f"falls fastest: {rate:.2g}")
        axes.plot(rate, smoothed[found.steepest], "o", color=INK)
    if found.diverged:
        axes.axvline(found.rates[-1], color=PAPER, linewidth=1.5, label=f"diverged: {found.rates[-1]:.2g}")
    if smoothed:
        axes.set_ylim(0, 1.5 * max(smoothed[0], min(smoothed)))
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (nats)")
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="lower left")
    with atomic(path) as file:
        figure.savefig(file, dpi=110, format="png")
