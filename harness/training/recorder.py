"""What an epoch leaves in the run folder: checkpoints, `metrics.csv`, `timing.csv` and `curves.png`."""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from harness.checkpoint import BEST, KEY, LAST, Trained
from harness.evaluation.counts import Counts
from harness.files import atomic, write_text
from harness.run_folder import log
from harness.training.classifier import Classifier, Epoch
from harness.training.curves import draw_curves

CURVES_EVERY = 30.0  # seconds between two drawings while training

METRICS_COLUMNS = (
    *("epoch", "step", "learning_rate"),
    *(f"train_{what}" for what in ("loss", "images", "top1_error", "top5_error")),
    *(f"validation_{what}" for what in ("loss", "images", "top1_error", "top5_error")),
)
TIMING_COLUMNS = ("epoch", "train_seconds", "validation_seconds", "train_images_per_second")


class Recorder(Checkpoint):
    """Writes after each epoch and its validation; a `Checkpoint` because Lightning calls those last.

    Args:
        trained: goes into every checkpoint.
        epochs: of the run.

    `folder`, of the run, is set once it is made.
    """

    def __init__(self, trained: Trained, epochs: int) -> None:
        self.folder = Path()
        self.trained = trained
        self.epochs = epochs
        self.best: Epoch | None = None
        self.timing: list[tuple[float, ...]] = []
        self.drawn = time.monotonic()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what it is."""
        checkpoint[KEY] = self.trained.as_plain()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self.validated = 0.0

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of training."""
        self.validating = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of validation."""
        self.validated = time.monotonic() - self.validating

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint first, then what describes it."""
        assert isinstance(pl_module, Classifier)
        seconds = time.monotonic() - self.started - self.validated
        epoch = pl_module.history[-1]
        last = self.folder / "checkpoints" / LAST
        trainer.save_checkpoint(last)
        if not trainer.is_global_zero:
            return
        rate = epoch.train.seen / seconds
        self.timing.append((epoch.epoch, round(seconds, 4), round(self.validated, 4), round(rate, 1)))
        if epoch.validation is not None and (self.best is None or _better(epoch, self.best)):
            self.best = epoch
            with last.open("rb") as source, atomic(last.with_name(BEST)) as copy:
                shutil.copyfileobj(source, copy)
        write_text(self.folder / "metrics.csv", _csv(METRICS_COLUMNS, [_metrics(e) for e in pl_module.history]))
        write_text(self.folder / "timing.csv", _csv(TIMING_COLUMNS, self.timing))
        if epoch.epoch == self.epochs or time.monotonic() - self.drawn > CURVES_EVERY:
            draw_curves(self.folder / "curves.png", pl_module.history)
            self.drawn = time.monotonic()
        log.info(self._line(epoch, rate))

    def best_on_validation(self) -> dict[str, Any] | None:
        """The epoch that the validation split would have chosen, for the record."""
        if self.best is None or self.best.validation is None:
            return None
        return {
            "epoch": self.best.epoch,
            "validation_top1_error": self.best.validation.top1_error,
            "checkpoint": f"checkpoints/{BEST}",
        }

    def _line(self, epoch: Epoch, rate: float) -> str:
        width = len(str(self.epochs))
        line = f"epoch {epoch.epoch:>{width}}/{self.epochs}  loss {epoch.train_loss:.4f}"
        line += f"  error {epoch.train.top1_error:5.2f}%"
        if epoch.validation is not None:
            line += f"  validation loss {epoch.validation_loss:.4f}  error {epoch.validation.top1_error:5.2f}%"
        return f"{line}  lr {epoch.learning_rate:.2g}  {rate:,.0f} images/s"


def _better(epoch: Epoch, best: Epoch) -> bool:
    """Fewer errors on the validation split, or as many and a smaller loss."""
    return _validation_rank(epoch) < _validation_rank(best)


def _validation_rank(epoch: Epoch) -> tuple[int, float]:
    assert epoch.validation is not None and epoch.validation_loss is not None
    return epoch.validation.seen - epoch.validation.correct_top1, epoch.validation_loss


def _metrics(epoch: Epoch) -> tuple[object, ...]:
    def counts(loss: float | None, of: Counts | None) -> tuple[object, ...]:
        return ("",) * 4 if of is None else (loss, of.seen, of.top1_error, of.top5_error)

    return (
        epoch.epoch,
        epoch.step,
        epoch.learning_rate,
        *counts(epoch.train_loss, epoch.train),
        *counts(epoch.validation_loss, epoch.validation),
    )


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()
