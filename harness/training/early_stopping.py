"""Choose an epoch by the validation split: when training stops, and which epoch is reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.run.checkpoint import BEST, CHECKPOINTS
from harness.run.history import Epoch, best_epoch


def is_over(history: Sequence[Epoch], patience: int | None) -> bool:
    """Return whether the last `patience` epochs were no better than the best one; always False without a patience."""
    best = best_epoch(history)
    return patience is not None and best is not None and len(history) - best.epoch >= patience


def reported_epoch(history: Sequence[Epoch], patience: int | None, epochs: int) -> int | None:
    """Return the epoch whose network a run of so many epochs reports; None as long as it is not over."""
    best = best_epoch(history)
    if len(history) < epochs and not is_over(history, patience):
        return None
    return len(history) if patience is None or best is None else best.epoch


def describe(history: Sequence[Epoch], patience: int, epochs: int) -> str:
    """Return a line that says why training ended and which epoch is reported."""
    best = best_epoch(history)
    assert best is not None, "a run that stops early has a validation split"
    why = f"; no epoch was better for {patience}" if is_over(history, patience) else ""
    return f"trained {len(history)} of {epochs} epochs{why}; epoch {best.epoch}, the best on validation, is reported"


def describe_best(history: Sequence[Epoch]) -> dict[str, Any] | None:
    """Return the best epoch on the validation split, for the record; None without a validation split."""
    best = best_epoch(history)
    if best is None or best.validation is None:
        return None
    return {
        "epoch": best.epoch,
        "validation_top1_error": best.validation.top1_error,
        "checkpoint": f"{CHECKPOINTS}/{BEST}",
    }
