"""What an epoch came to so far: the loss of each batch and counts of right answers, on the device of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.evaluation.counts import count_correct
from harness.run.history import Counts

Reduce = Callable[[torch.Tensor, str], torch.Tensor]  # over the processes of a run: "sum" or "max"


class EpochCounters:
    """Counters of one epoch; a new one for each.

    Losses, logits and labels wait until several batches are counted together: that costs little more than one.

    Args:
        steps: batches of the epoch.
        device: that holds them.

    Attributes:
        losses: float32 (steps,), of each batch the sum over its images.
        right: int64 (3,), images right at 1, right at 5, and seen.
    """

    def __init__(self, steps: int, device: torch.device | str = "cpu") -> None:
        self.losses = torch.zeros(steps, device=device)
        self.right = torch.zeros(3, dtype=torch.int64, device=device)
        self._pending: list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]] = []  # number, loss, logits, labels
        self._checked = 0
        self._validation: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def restored(cls, saved: dict[str, torch.Tensor], leads: bool) -> EpochCounters:
        """Those of a checkpoint, on the CPU: sums over all processes, which go on in the one that leads."""
        counters = cls(len(saved["losses"]))
        if leads:
            counters.losses, counters.right = saved["losses"], saved["right"]
        return counters

    def move_to(self, device: torch.device | str) -> None:
        """Hold them on another device."""
        self.losses, self.right = self.losses.to(device), self.right.to(device)

    def add(self, number: int, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Note a batch.

        Args:
            number: of the batch in the epoch.
            loss: scalar, mean over its images.
            logits: (n, K).
            labels: int64 (n,).
        """
        self._pending.append((number, loss.detach(), logits.detach(), labels))

    def _count(self) -> None:
        """Count what is pending."""
        if not self._pending:
            return
        numbers, losses, logits, labels = zip(*self._pending, strict=True)
        images = torch.tensor([len(batch) for batch in labels], device=self.losses.device)
        self.losses[list(numbers)] = torch.stack(losses) * images  # a batch of none but unreadable images has none
        self.right += count_correct(torch.cat(logits), torch.cat(labels))
        self._pending.clear()

    def first_bad(self, done: int, reduce: Reduce) -> int | None:
        """The first of `done` batches whose loss was not finite on any process; None if none was. Waits for all."""
        if done == self._checked:
            return None
        self._count()
        finite = self.losses[self._checked : done].isfinite()
        numbers = torch.arange(self._checked, done, device=self.losses.device)
        first = int(reduce(-torch.where(finite, done, numbers).min(), "max").neg())
        self._checked = done
        return first if first < done else None

    def mean_loss(self, done: int) -> float:
        """Over the images of this process in the first `done` batches; waits for the device."""
        self._count()
        return float(self.losses[:done].sum() / self.right[2])

    def start_validation(self) -> None:
        """Nothing of the validation split is counted yet."""
        self._validation = (torch.zeros((), device=self.losses.device), torch.zeros_like(self.right))

    def add_validation(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch of the validation split: its mean loss, logits (n, K) and labels (n,)."""
        assert self._validation is not None, "validation was started"
        losses, right = self._validation
        losses += loss * len(labels)
        right += count_correct(logits, labels)

    def train(self, reduce: Reduce) -> tuple[float, Counts]:
        """Mean loss and counts over all processes, of the epoch's training images."""
        self._count()
        return _total(self.losses.sum(), self.right, reduce)

    def validation(self, reduce: Reduce) -> tuple[float, Counts] | tuple[None, None]:
        """The same of the validation split; None and None without one."""
        return _total(*self._validation, reduce) if self._validation else (None, None)

    def saved(self, reduce: Reduce) -> dict[str, Any]:
        """For a checkpoint: sums over all processes."""
        self._count()
        return {
            "losses": reduce(self.losses.clone(), "sum").cpu(),
            "right": reduce(self.right.clone(), "sum").cpu(),
        }


def _total(loss: torch.Tensor, right: torch.Tensor, reduce: Reduce) -> tuple[float, Counts]:
    total = reduce(loss, "sum")
    counts = Counts(*reduce(right, "sum").tolist())
    return float(total) / counts.seen, counts
