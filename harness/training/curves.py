"""Draw `curves.png`: loss and error against the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from harness.run.files import atomic
from harness.run.history import Epoch, best_epoch
from harness.run.printable import printable

TRAINING, VALIDATION, MARK = "#0072b2", "#e69f00", "#555555"  # blue and orange of Okabe and Ito
FALLS = 4.0  # times by which an error falls that is drawn on a logarithmic scale, so that its end can be read
FEW = 40  # epochs that have a dot each


def draw_curves(path: Path, history: Sequence[Epoch], reported: int | None = None) -> None:
    """Draw the loss and the top-1 error (percent) of training and validation against the epoch.

    Args:
        path: of the picture, in the folder of the run, whose name it bears.
        history: results of each epoch.
        reported: number of the epoch that the run reports; None as long as that is open.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(printable("/".join(path.absolute().parts[-3:-1])), fontsize=11, parse_math=False)
    loss, error = figure.subplots(1, 2)
    validated = [e for e in history if e.validation is not None]
    _line(loss, history, [e.train_loss for e in history], TRAINING, "training", ".4f")
    _line(loss, validated, [e.validation_loss or 0.0 for e in validated], VALIDATION, "validation", ".4f")
    _line(error, history, [e.train.top1_error for e in history], TRAINING, "training", ".2f")
    errors = [e.validation.top1_error for e in validated if e.validation]
    _line(error, validated, errors, VALIDATION, "validation", ".2f")
    _scale(error, [*errors, *(e.train.top1_error for e in history)])
    loss.set_ylim(bottom=0)
    best = best_epoch(history)
    for axes, title in ((loss, "loss (nats)"), (error, "top-1 error (%)")):
        _mark(axes, best.epoch if best else None, reported)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    with atomic(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _line(axes: Axes, epochs: Sequence[Epoch], values: Sequence[float], colour: str, name: str, digits: str) -> None:
    """A curve; the legend has its last value."""
    if epochs:
        dots = {"marker": "o", "markersize": 3} if len(epochs) <= FEW else {}
        label = f"{name}: {values[-1]:{digits}} at the end"
        axes.plot([e.epoch for e in epochs], values, label=label, color=colour, **dots)  # type: ignore[arg-type]


def _scale(axes: Axes, errors: Sequence[float]) -> None:
    """Draw errors on a logarithmic scale if they fall far; below the least one above zero it is linear."""
    above = [error for error in errors if error > 0]
    if not above or max(above) < FALLS * min(above):
        axes.set_ylim(bottom=0)
        return
    if len(above) == len(errors):
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=min(above))
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _mark(axes: Axes, best: int | None, reported: int | None) -> None:
    """Upright lines at the epoch that is reported, and at the best one on the validation split."""
    if reported is not None:
        same = ", the best on validation" if reported == best else ""
        axes.axvline(reported, color=MARK, linewidth=1.2, label=f"reported: epoch {reported}{same}")
    if best is not None and best != reported:
        axes.axvline(best, color=MARK, linewidth=1.2, linestyle=":", label=f"best on validation: epoch {best}")
