"""What a network answered on a part of a split: on the disk, so that an evaluation can go on after it, and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F

from harness.data.loading.loader import Unreadable
from harness.evaluation.evaluator import Evaluator, Predictions, Timing
from harness.run.files import atomic
from harness.run.history import Counts


@dataclass(frozen=True)
class Part:
    """What a network answered on consecutive images of a split.

    Attributes:
        counts: how many answers were right.
        classes: number of classes that the network chose among; 0 if no image could be read.
        predictions: one for each image of the part.
        unreadable: images that could not be read, by their positions in the part.
        timing: how long it took.
    """

    counts: Counts
    classes: int
    predictions: Predictions
    unreadable: list[Unreadable]
    timing: Timing

    @classmethod
    def of(cls, evaluator: Evaluator) -> Part:
        """Return what an evaluator counted, after its test."""
        found, timing = evaluator.predictions, evaluator.timing
        if found is None or timing is None:
            raise RuntimeError("the evaluator has not finished its test")
        return cls(evaluator.counts, evaluator.classes, found, evaluator.unreadable, timing)

    def write(self, path: Path) -> None:
        """Write the part, so that a killed process leaves all of it or nothing."""
        plain = {
            "counts": [*vars(self.counts).values()],
            "classes": self.classes,
            "predictions": [*vars(self.predictions).values()],
            "unreadable": [[*unreadable] for unreadable in self.unreadable],
            "timing": [*vars(self.timing).values()],
        }
        with atomic(path) as file:
            torch.save(plain, file)

    @classmethod
    def read(cls, path: Path, images: int) -> Part | None:
        """Read a part of so many images; None if the file is missing or damaged."""
        try:
            plain: dict[str, Any] = torch.load(path, weights_only=True)
            unreadable = [Unreadable(*unreadable) for unreadable in plain["unreadable"]]
            predictions, timing = Predictions(*plain["predictions"]), Timing(*plain["timing"])
            part = cls(Counts(*plain["counts"]), plain["classes"], predictions, unreadable, timing)
        except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, UnpicklingError):
            return None
        return part if part.counts.seen == len(part.predictions.labels) == images else None


def join(evaluator: Evaluator, parts: Sequence[Part]) -> None:
    """Give an evaluator the result of a test on its whole split, from its parts in order.

    Raises:
        RuntimeError: the parts are not the split.
    """
    counts = Counts(*(sum(numbers) for numbers in zip(*(vars(part.counts).values() for part in parts), strict=True)))
    if counts.seen != len(evaluator.split):
        raise RuntimeError(f"{counts.seen:,} images in the parts of a split of {len(evaluator.split):,}: no score")
    starts = [sum(part.counts.seen for part in parts[:number]) for number in range(len(parts))]
    evaluator.counts, evaluator.classes = counts, max(part.classes for part in parts)
    evaluator.predictions = _joined([part.predictions for part in parts])
    evaluator.unreadable = [
        Unreadable(start + image, reason)
        for start, part in zip(starts, parts, strict=True)
        for image, reason in part.unreadable
    ]
    seconds = sum(part.timing.seconds for part in parts)
    waited = sum(part.timing.waiting_share * part.timing.seconds for part in parts)
    evaluator.timing = Timing(seconds, counts.seen / seconds, waited / seconds, parts[-1].timing.workers)


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of all parts; a part without a readable image has fewer columns than the others."""
    columns = max(part.classes.shape[1] for part in parts)

    def widened(tensor: torch.Tensor, value: float) -> torch.Tensor:
        return F.pad(tensor, (0, columns - tensor.shape[1]), value=value)

    return Predictions(
        torch.cat([part.labels for part in parts]),
        torch.cat([widened(part.classes, -1) for part in parts]),
        torch.cat([widened(part.probabilities, 0.0) for part in parts]),
    )
