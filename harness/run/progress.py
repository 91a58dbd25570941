"""The progress display of a run: a bar on a terminal, or plain lines where the output is no terminal."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any, Protocol, cast

import lightning as L
import torch
from rich import get_console
from rich.progress import Progress, TaskID

from harness.run.bar import LINE, REDRAW, line_of_progress
from harness.run.log import log, print_by, speaks


class Seen(Protocol):
    """What the bar needs from a batch: the number of images on all devices, and the labels on this device."""

    global_size: int
    labels: torch.Tensor


class Trainee(Protocol):
    """What the bar needs from a module in training."""

    def summary(self, done: int) -> str:
        """Return loss and learning rate after `done` batches of the epoch as text; may wait for the device."""


class ProgressBar(L.Callback):
    """Shows epoch, loss, images/s, learning rate, GPU memory and the time left.

    Reading the loss waits for the device, so the bar reads it only when it is drawn, not in every step.

    Args:
        enabled: whether to show anything between two epochs.
    """

    def __init__(self, enabled: bool) -> None:
        self.terminal = enabled and sys.stdout.isatty() and speaks()
        self.every = (REDRAW if self.terminal else LINE) if enabled else float("inf")
        self.bar: Progress | None = None
        self.task = TaskID(0)  # of the bar
        self.drawn = self.since = time.monotonic()
        self.images = 0  # since then

    def _start(self, trainer: L.Trainer, what: str, total: int) -> None:
        if not trainer.is_global_zero:
            self.every = float("inf")
        self.drawn = self.since = time.monotonic()
        self.images = 0
        if self.terminal and trainer.is_global_zero:
            self.bar = line_of_progress(get_console())
            self.task = self.bar.add_task(what, total=total, facts="")
            self.bar.start()
            print_by(partial(self.bar.console.print, soft_wrap=True, markup=False, highlight=False, emoji=False))

    def _stop(self) -> None:
        if self.bar is not None:
            print_by(None)
            self.bar.stop()
            self.bar = None

    def _draw(self, now: float, what: str, done: int, facts: str) -> None:
        self.drawn = now
        facts = f"{facts}{self.images / (now - self.since):,.0f} images/s"
        if torch.cuda.is_available():
            facts += f"  {torch.cuda.memory_reserved() / 2**30:.1f} GiB"
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=what, facts=facts, refresh=True)
        else:
            log.info(f"{what}  step {done:,}  {facts}")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar of a training run, from the step that the run has reached."""
        self._start(trainer, "training", int(trainer.estimated_stepping_batches))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Seen, batch_idx: int
    ) -> None:
        """Draw if it is time."""
        self.images += batch.global_size
        now = time.monotonic()
        if now - self.drawn > self.every:
            facts = cast(Trainee, pl_module).summary(batch_idx + 1)
            self._draw(now, f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", trainer.global_step, facts)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the bar."""
        self._stop()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar of an evaluation."""
        self._start(trainer, "evaluating", sum(int(batches) for batches in trainer.num_test_batches))

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Seen, batch_idx: int, *_: Any
    ) -> None:
        """Draw if it is time."""
        self.images += len(batch.labels) * trainer.world_size
        now = time.monotonic()
        if now - self.drawn > self.every:
            self._draw(now, "evaluating", batch_idx + 1, "")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the bar, so that the terminal is as it was."""
        self._stop()
