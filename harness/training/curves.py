"""Draw `curves.png`: loss and error against the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.run.files import atomic
from harness.run.history import Epoch


def draw_curves(path: Path, history: Sequence[Epoch]) -> None:
    """Draw the loss and the top-1 error (percent) of training and validation against the epoch."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    epochs = [e.epoch for e in history]
    loss.plot(epochs, [e.train_loss for e in history], label="training", marker="o", markersize=3)
    error.plot(epochs, [e.train.top1_error for e in history], label="training", marker="o", markersize=3)
    validated = [(e.epoch, e.validation_loss, e.validation.top1_error) for e in history if e.validation is not None]
    if validated:
        at, losses, errors = zip(*validated, strict=True)
        loss.plot(at, losses, label="validation", marker="o", markersize=3)
        error.plot(at, errors, label="validation", marker="o", markersize=3)
    for axes, title in ((loss, "loss"), (error, "top-1 error (%)")):
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic(path) as file:
        figure.savefig(file, dpi=110, format="png")
