"""The choice of an epoch by the validation split: when training stops, and what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.run.checkpoint import BEST, CHECKPOINTS
from harness.run.history import Epoch, best_epoch


def is_over(history: Sequence[Epoch], patience: int | None) -> bool:
    """Whether `patience` epochs in a row brought no better one; never without a patience."""
    best = best_epoch(history)
    return patience is not None and best is not None and len(history) - best.epoch >= patience


def describe(history: Sequence[Epoch], patience: int, epochs: int) -> str:
    """Why training ended and what is reported, in a line."""
    best = best_epoch(history)
    assert best is not None, "a run that stops early has a validation split"
    why = f"; no epoch was better for {patience}" if is_over(history, patience) else ""
    return f"trained {len(history)} of {epochs} epochs{why}; epoch {best.epoch}, the best on validation, is reported"


def describe_best(history: Sequence[Epoch]) -> dict[str, Any] | None:
    """The epoch that the validation split would choose, for the record; None without one."""
    best = best_epoch(history)
    if best is None or best.validation is None:
        return None
    return {
        "epoch": best.epoch,
        "validation_top1_error": best.validation.top1_error,
        "checkpoint": f"{CHECKPOINTS}/{BEST}",
    }
