"""The Lightning-Hydra template: a module with torchmetrics, which logs in every step; rich bar, CSV logger, checkpoint.

Retyped from ashleve/lightning-hydra-template: src/models/mnist_module.py (763e98deaf), src/data/mnist_datamodule.py
(041041706a), configs/callbacks/default.yaml (b987605678). Other than there: there is no validation, so that checkpoints
follow no number, nothing stops early, and the best accuracy is not tracked.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichModelSummary, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.classification.accuracy import Accuracy
from torchvision import datasets, transforms

from benchmarks.side_by_side.work import CLASSES, Work, cuts, network, optimizer, training_images

Pair = tuple[torch.Tensor, torch.Tensor]


class LitModule(L.LightningModule):
    """Their module."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.criterion = net, nn.CrossEntropyLoss()
        self.train_acc, self.test_acc = (Accuracy(task="multiclass", num_classes=CLASSES) for _ in range(2))
        self.train_loss, self.test_loss = MeanMetric(), MeanMetric()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.net(images)
        return logits

    def model_step(self, batch: Pair) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, predictions and labels."""
        images, labels = batch
        logits = self.forward(images)
        return self.criterion(logits, labels), torch.argmax(logits, dim=1), labels

    def training_step(self, batch: Pair, batch_idx: int) -> torch.Tensor:
        """The loss; both metrics are logged."""
        loss, found, labels = self.model_step(batch)
        self.train_loss(loss)
        self.train_acc(found, labels)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        """Both metrics are logged."""
        loss, found, labels = self.model_step(batch)
        self.test_loss(loss)
        self.test_acc(found, labels)
        self.log("test/loss", self.test_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("test/acc", self.test_acc, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return optimizer(self.net)


def _trainer(folder: str) -> L.Trainer:
    callbacks: list[L.Callback] = [
        ModelCheckpoint(f"{folder}/checkpoints", filename="epoch_{epoch:03d}", save_last=True),
        RichModelSummary(max_depth=-1),
        RichProgressBar(),
    ]
    logger = CSVLogger(folder, name="csv/", prefix="")
    return L.Trainer(
        default_root_dir=folder, max_epochs=1, accelerator="cpu", devices=1, callbacks=callbacks, logger=logger
    )


def _to_tensor(work: Work) -> list[Any]:
    return [transforms.ToTensor(), transforms.Normalize(work.mean, work.std)]


def epoch(work: Work) -> float:
    """Seconds of `fit`."""
    images = training_images(work, transforms.Compose([*cuts(work), *_to_tensor(work)]))
    batches = DataLoader(images, work.batch_size, shuffle=True, num_workers=work.workers)
    module = LitModule(network(work))
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(folder)
        started = time.perf_counter()
        trainer.fit(module, batches)
        return time.perf_counter() - started


def evaluation(work: Work) -> float:
    """Seconds of `test`."""
    steps = [transforms.Resize(work.resize), transforms.CenterCrop(work.pixels), *_to_tensor(work)]
    images = datasets.ImageFolder(f"{work.root}/val", transforms.Compose(steps))
    batches = DataLoader(images, work.batch_size, num_workers=work.workers)
    module = LitModule(network(work))
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(folder)
        started = time.perf_counter()
        trainer.test(module, batches)
        return time.perf_counter() - started
