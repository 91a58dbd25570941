"""The results of each epoch of a run, and their tables: `metrics.csv` and `timing.csv`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.plain import made
from harness.run.files import csv_text, read_table

PROGRESS = "cnn_zoo_progress"  # key of a checkpoint: the history, and the counters of an epoch in its middle
METRICS_FILE = "metrics.csv"
METRICS_COLUMNS = (
    *("epoch", "step", "learning_rate"),
    *(f"train_{what}" for what in ("loss", "images", "top1_error", "top5_error")),
    *(f"validation_{what}" for what in ("loss", "images", "top1_error", "top5_error")),
)
TIMING_COLUMNS = (
    *("epoch", "train_seconds", "validation_seconds", "train_images_per_second"),
    *("train_waiting_share", "validation_waiting_share"),
)


@dataclass(frozen=True)
class Counts:
    """Counts of images: those with the right class first, those with it among the first five, and all."""

    correct_top1: int
    correct_top5: int
    seen: int

    @property
    def top1_error(self) -> float:
        """Top-1 error in percent."""
        return 100 * (self.seen - self.correct_top1) / self.seen

    @property
    def top5_error(self) -> float:
        """Top-5 error in percent."""
        return 100 * (self.seen - self.correct_top5) / self.seen


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch.

    Attributes:
        epoch: number of the epoch, counted from 1.
        step: number of optimiser steps of the run so far.
        learning_rate: learning rate of the last step.
        train_loss: mean loss over the training images, measured while the weights changed.
        train: counts over the augmented training images, measured while the weights changed. Of two images that were
            mixed, the label with the larger share is the right one.
        validation_loss: mean loss over the validation split, with the recipe's label smoothing and no image mixed; None
            without one.
        validation: counts over the validation split; None without one.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    train: Counts
    validation_loss: float | None
    validation: Counts | None

    def as_plain(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Epoch:
        """Make the value from what `as_plain` returned."""
        validation = None if plain["validation"] is None else made(Counts, plain["validation"])
        return made(cls, {**plain, "train": made(Counts, plain["train"]), "validation": validation})


def history_of(checkpoint: dict[str, Any]) -> list[Epoch]:
    """Return the epochs in the content of a checkpoint file."""
    return [Epoch.from_plain(epoch) for epoch in checkpoint[PROGRESS]["history"]]


def best_epoch(history: Sequence[Epoch]) -> Epoch | None:
    """Return the epoch with the fewest validation errors; of equal ones, the one with the smallest validation loss."""
    ranks = [
        (e.validation.seen - e.validation.correct_top1, e.validation_loss or 0.0, e.epoch, e)
        for e in history
        if e.validation is not None
    ]
    return min(ranks)[-1] if ranks else None


def metrics_csv(history: Sequence[Epoch]) -> str:
    """Return a table with one line for each epoch and only deterministic values; errors in percent."""

    def fields(loss: float | None, counts: Counts | None) -> tuple[object, ...]:
        return ("",) * 4 if counts is None else (loss, counts.seen, counts.top1_error, counts.top5_error)

    rows = [
        (e.epoch, e.step, e.learning_rate, *fields(e.train_loss, e.train), *fields(e.validation_loss, e.validation))
        for e in history
    ]
    return csv_text(METRICS_COLUMNS, rows)


def timing_csv(rows: Sequence[Sequence[object]]) -> str:
    """Return a table with one line for each epoch and the values that differ between two equal runs."""
    return csv_text(TIMING_COLUMNS, rows)


def read_timing(path: Path, epochs: int) -> list[Sequence[object]]:
    """Return the rows of the first `epochs` epochs; none if there is no such file."""
    if not path.exists():
        return []
    return [tuple(row.values()) for row in read_table(path, ("epoch",))[:epochs]]
