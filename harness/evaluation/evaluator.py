"""One evaluation: a network over every image of a split, once."""

from __future__ import annotations

from dataclasses import dataclass

import lightning as L
import torch
from torch import nn

from harness.config import ProtocolConfig
from harness.data.loader import Batch
from harness.data.module import EvalData
from harness.data.preprocessing import Preprocessing
from harness.data.sources import ImageSet
from harness.evaluation.counts import Counts, count_correct, first_classes


@dataclass(frozen=True)
class Predictions:
    """What was predicted for each image, in the order of the split.

    Attributes:
        labels: int64 (N,).
        classes: int64 (N, min(5, K)), best first by the tie rule; -1 where a score was not a number.
        probabilities: float32 of the same shape.
    """

    labels: torch.Tensor
    classes: torch.Tensor
    probabilities: torch.Tensor


class Evaluator(L.LightningModule):
    """Counts and predictions of a network over the images that `Trainer.test` feeds it, on any number of devices.

    After the test, `counts` and `predictions` hold the result on the device of rank 0.

    Args:
        network: maps images (N, C, H, W) to logits (N, K).
        images: how many the split has; every one must be seen exactly once.
    """

    def __init__(self, network: nn.Module, images: int) -> None:
        super().__init__()
        self.network = network
        self.images = images
        self.counts = Counts(0, 0, 0)
        self.predictions: Predictions | None = None

    def on_test_start(self) -> None:
        """Nothing is counted yet."""
        self._right = torch.zeros(3, dtype=torch.int64, device=self.device)
        self._seen: list[tuple[torch.Tensor, ...]] = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch and keep its predictions; no waiting for the device."""
        logits = self.network(batch.images).float()
        self._right += count_correct(logits, batch.labels)
        classes, best = first_classes(logits, 5)
        self._seen.append((batch.indices, batch.labels, classes, (best - logits.logsumexp(1, keepdim=True)).exp()))

    def on_test_end(self) -> None:
        """Put the devices' shares together."""
        right = self.trainer.strategy.reduce(self._right, reduce_op="sum")
        assert isinstance(right, torch.Tensor)
        self.counts = Counts(*right.tolist())
        assert self.counts.seen == self.images, f"{self.counts.seen} of {self.images} images were seen"
        mine = [torch.cat(parts).cpu() for parts in zip(*self._seen, strict=True)]
        shares: list[list[torch.Tensor]] = [mine]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares = [[] for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(shares, mine)
        indices, labels, classes, probabilities = (
            torch.cat(parts) for parts in zip(*(share for share in shares if share), strict=True)
        )
        at = indices.argsort()
        assert torch.equal(indices[at], torch.arange(self.images)), "an image was seen twice or never"
        self.predictions = Predictions(labels[at], classes[at], probabilities[at])


def evaluate(
    trainer: L.Trainer, network: nn.Module, split: ImageSet, preprocessing: Preprocessing, protocol: ProtocolConfig
) -> Evaluator:
    """Evaluate a network on every image of a split: the one way, after training and in `eval.py` alike."""
    evaluator = Evaluator(network, len(split))
    trainer.test(evaluator, datamodule=EvalData(split, preprocessing, protocol), verbose=False)
    return evaluator
