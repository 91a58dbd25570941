"""Counters of one epoch: the loss of each batch and the number of right answers, on the device of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.evaluation.counts import count_correct
from harness.run.history import Counts

Reduce = Callable[[torch.Tensor, str], torch.Tensor]  # reduces over the processes of a run by "sum" or "max"


class EpochCounters:
    """Counters of one epoch; each epoch needs a new object.

    Batches are kept until several are counted together, which costs little more than counting one.

    Args:
        steps: number of batches of the epoch.
        device: device that holds the counters.

    Attributes:
        losses: sum of the losses of the images of each batch, float32 (steps,).
        right: number of images right at 1, right at 5, and seen, int64 (3,).
    """

    def __init__(self, steps: int, device: torch.device | str = "cpu") -> None:
        self.losses = torch.zeros(steps, device=device)
        self.right = torch.zeros(3, dtype=torch.int64, device=device)
        self._pending: list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]] = []  # number, loss, logits, labels
        self._checked = 0
        self._validation: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def restored(cls, saved: dict[str, torch.Tensor], leads: bool) -> EpochCounters:
        """Restore counters from a checkpoint on the CPU; they are sums over all processes, so only rank 0 gets them."""
        counters = cls(len(saved["losses"]))
        if leads:
            counters.losses, counters.right = saved["losses"], saved["right"]
        return counters

    def move_to(self, device: torch.device | str) -> None:
        """Move the counters to another device."""
        self.losses, self.right = self.losses.to(device), self.right.to(device)

    def add(self, number: int, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch, or a part of one.

        Args:
            number: number of the batch in the epoch, from 0.
            loss: mean loss over its images, a scalar.
            logits: logits (n, K).
            labels: labels, int64 (n,).
        """
        self._pending.append((number, loss.detach(), logits.detach(), labels))

    def _count(self) -> None:
        """Count the batches that are kept."""
        if not self._pending:
            return
        numbers, losses, logits, labels = zip(*self._pending, strict=True)
        images = torch.tensor([len(batch) for batch in labels], device=self.losses.device)
        places = torch.tensor(numbers, device=self.losses.device)
        self.losses.index_add_(0, places, torch.stack(losses) * images)  # stays 0 for a batch that was not added
        self.right += count_correct(torch.cat(logits), torch.cat(labels))
        self._pending.clear()

    def first_bad(self, done: int, reduce: Reduce) -> int | None:
        """Return the first of `done` batches whose loss is not finite on some process, or None; waits for all."""
        if done == self._checked:
            return None
        self._count()
        finite = self.losses[self._checked : done].isfinite()
        numbers = torch.arange(self._checked, done, device=self.losses.device)
        first = int(reduce(-torch.where(finite, done, numbers).min(), "max").neg())
        self._checked = done
        return first if first < done else None

    def mean_loss(self, done: int) -> float:
        """Return the mean loss of this process's images in the first `done` batches; waits for the device."""
        self._count()
        return float(self.losses[:done].sum() / self.right[2])

    def start_validation(self) -> None:
        """Set the counters of the validation split to zero."""
        self._validation = (torch.zeros((), device=self.losses.device), torch.zeros_like(self.right))

    def add_validation(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch of the validation split: its mean loss, logits (n, K) and labels (n,)."""
        assert self._validation is not None, "validation was started"
        losses, right = self._validation
        losses += loss * len(labels)
        right += count_correct(logits, labels)

    def train(self, reduce: Reduce) -> tuple[float, Counts]:
        """Return mean loss and counts of the epoch's training images over all processes."""
        self._count()
        return _total(self.losses.sum(), self.right, reduce)

    def validation(self, reduce: Reduce) -> tuple[float, Counts] | tuple[None, None]:
        """Return mean loss and counts of the validation split; None and None without one."""
        return _total(*self._validation, reduce) if self._validation else (None, None)

    def saved(self, reduce: Reduce) -> dict[str, Any]:
        """Return the sums over all processes, for a checkpoint."""
        self._count()
        return {
            "losses": reduce(self.losses.clone(), "sum").cpu(),
            "right": reduce(self.right.clone(), "sum").cpu(),
        }


def _total(loss: torch.Tensor, right: torch.Tensor, reduce: Reduce) -> tuple[float, Counts]:
    total = reduce(loss, "sum")
    counts = Counts(*reduce(right, "sum").tolist())
    return float(total) / counts.seen, counts
