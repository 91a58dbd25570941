"""Early stopping: when the validation split says that further epochs are of no use, and what is reported then."""

from __future__ import annotations

from collections.abc import Sequence

from harness.training.history import Epoch, best_epoch


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
