"""The one evaluation: run a network on every image of a split exactly once, and count."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import lightning as L
import torch
from torch import nn

from harness.config.facts import Preprocessing
from harness.config.protocol import ProtocolConfig
from harness.data.images.image_files import ImageFiles
from harness.data.loading.file_loader import FileLoader
from harness.data.loading.loader import Batch, EvalLoader, Pictures, Unreadable
from harness.data.loading.module import EvalData
from harness.data.sources.splits import Split
from harness.evaluation.counts import count_correct, first_classes, likeliest, only
from harness.evaluation.scores import class_scores, prepare
from harness.run.history import Counts


@dataclass(frozen=True)
class Predictions:
    """Predictions for each image, in the order of the split.

    Attributes:
        labels: true classes, int64 (N,); of several right answers the one with the highest score.
        classes: predicted classes, int64 (N, min(5, K)), best first by the tie rule; -1 if a score was not a number.
        probabilities: probabilities of these classes, float32 of the same shape.
    """

    labels: torch.Tensor
    classes: torch.Tensor
    probabilities: torch.Tensor


@dataclass(frozen=True)
class Timing:
    """How long an evaluation took, measured on this process.

    Attributes:
        seconds: time from the first batch to the last.
        images_per_second: rate of all devices together.
        waiting_share: share of the time, 0 to 1, that was spent waiting for images.
        workers: number of processes that decoded images for this device; None for images in memory.
    """

    seconds: float
    images_per_second: float
    waiting_share: float
    workers: int | None


Share = tuple[list[torch.Tensor], list[Unreadable]]  # of one device: [indices, labels, classes, probabilities], unread


class Evaluator(L.LightningModule):
    """Counts the right answers of a network on the images that `Trainer.test` feeds it, on any number of devices.

    An image that could not be read counts as seen and wrong. After the test, `counts`, `predictions`, `unreadable` and
    `timing` hold the result in rank 0.

    Args:
        network: maps images (N, C, H, W) to logits (N, K).
        split: images, each of which must be seen exactly once.
        protocol: settings of the evaluation.
        among: classes that the network chooses among; None for all that it knows.
    """

    def __init__(
        self, network: nn.Module, split: Split, protocol: ProtocolConfig, among: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.split = split
        self.classes = 0  # number of scores of an image; 0 if no image could be read
        self.protocol = protocol
        self.among = among
        self.counts = Counts(0, 0, 0)
        self.predictions: Predictions | None = None
        self.unreadable: list[Unreadable] = []
        self.timing: Timing | None = None
        prepare(network, protocol)

    def on_test_start(self) -> None:
        """Set the counters to zero."""
        self._right = torch.zeros(3, dtype=torch.int64, device=self.device)
        self._seen: list[tuple[torch.Tensor, ...]] = []
        self._unreadable: list[Unreadable] = []
        self._started = time.perf_counter()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch and keep its predictions, without waiting for the device.

        If this fails, as it does where memory is full, nothing of the batch is counted.
        """
        if len(batch.labels):
            self._count(batch)
        self._unreadable += batch.unreadable

    def _count(self, batch: Batch) -> None:
        scores = self._scores(batch.pictures or batch.images)
        self.classes = scores.shape[1]
        if self.among is not None:
            self.classes = len(self.among)
            scores = only(scores, self.among)
        labels = self._labels(batch, scores)
        right = count_correct(scores, labels)
        classes, best = first_classes(scores, 5)
        seen = (batch.indices, labels, classes, (best - scores.logsumexp(1, keepdim=True)).exp())
        self._right += right
        self._seen.append(seen)

    def _scores(self, images: torch.Tensor | Pictures) -> torch.Tensor:
        """The scores of a batch (N, K), which may be larger than the protocol's: then it is seen in parts."""
        size = self.protocol.batch_size
        if isinstance(images, Pictures) or len(images) <= size:
            return class_scores(self.network, images, self.protocol, size)
        parts = [class_scores(self.network, part, self.protocol, size) for part in torch.split(images, size)]
        return torch.cat(parts)

    def _labels(self, batch: Batch, scores: torch.Tensor) -> torch.Tensor:
        """The labels of a batch; of an image that has several right answers, the one that the network likes best."""
        if not isinstance(self.split, ImageFiles) or self.split.answers is None:
            return batch.labels
        answers = self.split.answers[batch.indices.cpu()].to(scores.device)
        return likeliest(scores, answers)

    def on_test_end(self) -> None:
        """Combine the results of all devices, and check that every image was counted once."""
        self._right[2] += len(self._unreadable)
        right = self.trainer.strategy.reduce(self._right, reduce_op="sum")
        assert isinstance(right, torch.Tensor)
        self.counts = Counts(*right.tolist())
        classes = torch.tensor(self.classes, device=self.device)  # a device may have had no image
        self.classes = int(self.trainer.strategy.reduce(classes, reduce_op="max"))
        images = len(self.split)
        if self.counts.seen != images:
            raise RuntimeError(f"{self.counts.seen:,} images were counted in a split of {images:,}: no score")
        self.timing = self._timing()
        mine = ([torch.cat(parts).cpu() for parts in zip(*self._seen, strict=True)], self._unreadable)
        shares: list[Share] = [mine]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares = [mine] * self.trainer.world_size
            torch.distributed.all_gather_object(shares, mine)
        self.unreadable = sorted(unreadable for _, share in shares for unreadable in share)
        self.predictions = self._in_order([tensors for tensors, _ in shares if tensors])

    def _in_order(self, shares: list[list[torch.Tensor]]) -> Predictions:
        """Return the predictions in the order of the split; images that could not be read have none."""
        bad = torch.tensor([index for index, _ in self.unreadable], dtype=torch.int64)
        none = (len(bad), shares[0][2].shape[1] if shares else 1)
        unread = [bad, self.split.labels[bad].cpu(), torch.full(none, -1), torch.zeros(none)]
        indices, labels, classes, probabilities = (torch.cat(parts) for parts in zip(*shares, unread, strict=True))
        at = indices.argsort()
        if not torch.equal(indices[at], torch.arange(len(self.split))):
            raise RuntimeError("an image of the split was counted twice and another one never: no score")
        return Predictions(labels[at], classes[at], probabilities[at])

    def _timing(self) -> Timing:
        seconds = time.perf_counter() - self._started
        loader = cast(EvalLoader | FileLoader, self.trainer.test_dataloaders)
        workers = loader.workers if isinstance(loader, FileLoader) else None
        return Timing(seconds, self.counts.seen / seconds, loader.waiting.seconds / seconds, workers)


def evaluate(
    trainer: L.Trainer,
    network: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    protocol: ProtocolConfig,
    *,
    decoder: str | None = None,
    workers: int | None = None,
    among: Sequence[int] | None = None,
) -> Evaluator:
    """Evaluate a network on every image of a split; both `train.py` and `eval.py` use this.

    Raises:
        RuntimeError: an image was not counted exactly once.
    """
    evaluator = Evaluator(network, split, protocol, among)
    data = EvalData(split, preprocessing, protocol, decoder, workers)
    trainer.test(evaluator, datamodule=data, verbose=False)
    return evaluator
