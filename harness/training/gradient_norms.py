"""Record the norms of the gradients by layer while a network trains: `gradients.csv` and `gradients.png`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import nn

from harness.run.files import atomic, csv_text, write_text

NORMS = "cnn_zoo_gradient_norms"  # key of a checkpoint: the rows so far
TABLE_FILE, PICTURE_FILE = "gradients.csv", "gradients.png"
SHOWN = 8  # most lines in the picture
Rows = Sequence[Sequence[float | None]]


class GradientNorms(L.Callback):
    """Records the L2 norm of the gradient of each convolution's and fully connected layer's weight.

    A gradient is that of the mean loss over the whole batch, over all devices, before clipping. The rows are in the
    checkpoint, too, so that a resumed run has the same ones.

    Args:
        folder: folder of the run.
        every: number of steps from one row to the next; the first is of the first step.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every
        self.layers: list[str] = []
        self.rows: list[list[float | None]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the layers, in the order in which the network defines them."""
        modules = pl_module.network.named_modules()  # type: ignore[union-attr]
        self.layers = [name for name, layer in modules if isinstance(layer, nn.Conv2d | nn.Linear)]

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Add a row if it is due; a layer that is not trained has no norm."""
        if trainer.global_step % self.every:
            return
        weights = [pl_module.get_parameter(f"network.{layer}.weight") for layer in self.layers]
        norms = [None if weight.grad is None else weight.grad.norm().item() for weight in weights]
        self.rows.append([trainer.global_step, *norms])

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the rows to the checkpoint."""
        checkpoint[NORMS] = self.rows

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the rows of the checkpoint that the run is resumed from; one that began without them has none."""
        self.rows = list(checkpoint.get(NORMS, []))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the table."""
        if trainer.is_global_zero:
            write_text(self.folder / TABLE_FILE, csv_text(("step", *self.layers), self.rows))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the table, also where nothing was left to train, and draw the picture."""
        self.on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero and self.rows:
            draw_norms(self.folder / PICTURE_FILE, self.rows)


def draw_norms(path: Path, rows: Rows) -> None:
    """Draw the norms against the layer: a line for each of a few steps, from the first row to the last.

    Args:
        path: the PNG file.
        rows: a step and the norm of each layer; None for one that is not trained.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    last = len(rows) - 1
    shown = sorted({round(last * place / (SHOWN - 1)) for place in range(SHOWN)})
    for place in shown:
        step, *norms = rows[place]
        values = [float("nan") if norm is None else norm for norm in norms]
        color = colormaps["viridis"](0.9 * place / max(last, 1))
        axes.plot(range(1, len(values) + 1), values, color=color, marker="o", markersize=3, label=f"step {step:,}")
    axes.set(title="gradients by layer", xlabel="layer, from the input to the output", ylabel="L2 norm", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with atomic(path) as file:
        figure.savefig(file, dpi=110, format="png")
