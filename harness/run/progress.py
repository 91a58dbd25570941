"""The progress display of a run: a bar on a terminal, or plain lines where the output is no terminal."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any, Protocol, cast

import lightning as L
import torch
from rich import get_console
from rich.console import Console, OverflowMethod
from rich.progress import Progress, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.text import Text

from harness.run.log import log, print_by, speaks

REDRAW = 0.2  # seconds between two updates of the bar
WIDTH, LEAST = 24, 4  # longest and shortest bar, in characters
LINE = 30.0  # seconds between two lines if there is no terminal


class Seen(Protocol):
    """What the bar needs from a batch: the number of images on all devices, and the labels on this device."""

    global_size: int
    labels: torch.Tensor


class Trainee(Protocol):
    """What the bar needs from a module in training."""

    def summary(self, done: int) -> str:
        """Return loss and learning rate after `done` batches of the epoch as text; may wait for the device."""


class _Line(ProgressColumn):
    """What is done, a bar, facts and the time left, in one line of any terminal.

    Where it is narrow the bar yields first, then the end of the facts, and the time left never.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.left = TimeRemainingColumn()

    def render(self, task: Task) -> Text:
        left = self.left.render(task)
        what, facts = Text(task.description), Text(task.fields["facts"])
        room = self.console.width - 1 - len(left) - 1  # a terminal may break a line that fills it
        overflow: OverflowMethod = "crop" if self.console.options.ascii_only else "ellipsis"
        what.truncate(room, overflow=overflow)
        facts.truncate(max(1, room - len(what) - 1), overflow=overflow)
        words = [what, facts] if facts and len(what) + 1 < room else [what]
        length = min(WIDTH, room - sum(len(part) + 1 for part in words))
        if length >= LEAST:
            words.insert(1, self._bar(length, task.percentage / 100))
        return Text(" ").join([*words, left])

    def _bar(self, length: int, share: float) -> Text:
        done, rest = ("━", "━") if self.console.color_system else ("━", " ")
        if self.console.options.ascii_only:
            done, rest = "#", "-"
        filled = min(length, int(length * share))
        return Text.assemble((done * filled, "bar.complete"), (rest * (length - filled), "bar.back"))


def line_of_progress(console: Console) -> Progress:
    """Return the display of a run: one line, which is removed at the end."""
    return Progress(_Line(console), console=console, auto_refresh=False, transient=True)


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
