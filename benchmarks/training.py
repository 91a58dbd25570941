"""LeNet-5 at batch 128: the shipped path, a bare loop, and the usual Lightning template, on the same images.

- shipped: what `train.py` runs, with its progress bar, counters, tables and checkpoints;
- bare: an eager PyTorch loop over tensors in memory, which counts and reports nothing;
- usual: Lightning's defaults over torchvision's data set, decoded and normalised image by image in a DataLoader.

Every variant trains on the whole training split without augmentation; validation is left out of all.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.rounds import in_turns, machine, ratio
from benchmarks.terminal import unseen_terminal
from harness import build
from harness.config.data import DataConfig
from harness.config.facts import Preprocessing
from harness.config.protocol import ProtocolConfig
from harness.config.recipe import RecipeConfig
from harness.config.trainer import TrainerConfig
from harness.data.images.image_set import ImageSet
from harness.data.loading.module import TrainData
from harness.data.sources.splits import Splits
from harness.data.sources.table import describe, load
from harness.evaluation.counts import count_correct
from harness.run.checkpoint import Trained
from harness.run.processes import gather
from harness.run.progress import ProgressBar
from harness.training.classifier import Classifier
from harness.training.recorder import Recorder
from models import build_model

BATCH = 128
STATISTICS = {"mnist": ([0.1307], [0.3081]), "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])}
TINY_STEPS = 1000
RECIPE = RecipeConfig(
    name="benchmark",
    epochs=1,
    batch_size=BATCH,
    loss="cross_entropy",
    learning_rate=0.05,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    schedule="cosine",
    milestones=[],
    gamma=0.1,
    warmup_epochs=0,
    crop_padding=0,
    flip=False,
    precision="32-true",
)


class Clocked(L.LightningModule):
    """Takes seconds from the first batch to the end of training, what callbacks write after the epoch included."""

    def on_train_epoch_start(self) -> None:
        """Start."""
        super().on_train_epoch_start()
        _wait(self.device)
        self.started = time.perf_counter()

    def on_train_end(self) -> None:
        """Stop."""
        _wait(self.device)
        self.seconds = time.perf_counter() - self.started


class ClockedClassifier(Clocked, Classifier):
    """What `train.py` trains."""


class UsualTemplate(Clocked):
    """The module that tutorials show: logs loss and accuracy in every step."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        from torchmetrics.classification import MulticlassAccuracy

        self.network = network
        self.accuracy = MulticlassAccuracy(10)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Loss and accuracy of a batch."""
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self.accuracy(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.accuracy, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def measure(data: str, root: str, rounds: int, threads: int, accelerator: str) -> dict[str, Any]:
    """Ratios of epoch times, the trainer's own time in a step, and of counting to torchmetrics."""
    torch.set_num_threads(threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    mean, std = STATISTICS[data]
    config = DataConfig(data, root, False, 0, mean, std)
    splits = load(config)
    assert isinstance(splits.train, ImageSet)
    train = splits.train
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    preprocessing = Preprocessing(len(mean), 32, None, None, tuple(mean), tuple(std))
    epochs = in_turns(
        {
            "bare": lambda: bare_epoch(_lenet(len(mean)), train, preprocessing, device),
            "shipped": lambda: shipped_epoch(_lenet(len(mean)), splits, preprocessing, config, accelerator, threads),
            "usual": lambda: usual_epoch(_lenet(len(mean)), data, root, mean, std, accelerator),
        },
        rounds,
    )
    tiny, tiny_preprocessing = _tiny_split(), Preprocessing(1, 4, None, None, (0.5,), (0.5,))
    nothing = Splits(tiny, tiny, tiny)
    steps = in_turns(
        {
            "bare": lambda: bare_epoch(_linear(), tiny, tiny_preprocessing, device),
            "shipped": lambda: shipped_epoch(_linear(), nothing, tiny_preprocessing, config, accelerator, threads),
        },
        rounds,
    )
    overhead = [(s - b) / TINY_STEPS for s, b in zip(steps["shipped"], steps["bare"], strict=True)]
    counting = in_turns({"ours": lambda: _count(device), "torchmetrics": lambda: _torchmetrics(device)}, 3 * rounds)
    return {
        "benchmark": "training",
        "data": data,
        "batch_size": BATCH,
        "rounds": rounds,
        "shipped_to_bare": ratio(epochs, "shipped", "bare"),
        "usual_to_shipped": ratio(epochs, "usual", "shipped"),
        "trainer_ms_per_step_over_bare": {
            "median": 1000 * sorted(overhead)[len(overhead) // 2],
            "lowest": 1000 * min(overhead),
            "highest": 1000 * max(overhead),
        },
        "counting_to_torchmetrics_top5": ratio(counting, "ours", "torchmetrics"),
        "epoch_seconds": epochs,
        "machine": machine(),
    }


def bare_epoch(network: nn.Module, split: ImageSet, preprocessing: Preprocessing, device: torch.device) -> float:
    """Seconds of an epoch over normalised floats in memory, shuffled by index."""
    network.to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    margin = (preprocessing.size - split.images.shape[2]) // 2
    floats = F.pad(split.images, [margin] * 4).to(device).float().div(255)
    mean = torch.tensor(preprocessing.mean, device=device).view(-1, 1, 1)
    images = (floats - mean) / torch.tensor(preprocessing.std, device=device).view(-1, 1, 1)
    labels = split.labels.to(device)
    _wait(device)
    started = time.perf_counter()
    for indices in torch.split(torch.randperm(len(labels), device=device), BATCH):
        loss = F.cross_entropy(network(images[indices]), labels[indices])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _wait(device)
    return time.perf_counter() - started


def shipped_epoch(
    network: nn.Module,
    splits: Splits,
    preprocessing: Preprocessing,
    config: DataConfig,
    accelerator: str,
    threads: int,
) -> float:
    """Seconds of an epoch of what `train.py` runs, its bar drawn on a terminal."""
    protocol = ProtocolConfig("whole_image", 1000, "32-true")
    team = gather(TrainerConfig("benchmark", accelerator, 1, "auto", threads, True, None, None, 1000))
    data = TrainData(splits, preprocessing, RECIPE, protocol, seed=0, max_batches=None)
    trained = Trained("benchmark", {}, describe(config).class_names, preprocessing, config, {})
    classifier = ClockedClassifier(network, RECIPE, data.steps_per_epoch, seed=0)
    with tempfile.TemporaryDirectory() as folder, unseen_terminal():
        callbacks = [ProgressBar(True), Recorder(Path(folder), trained, 2, 1000)]
        options: dict[str, Any] = {"max_epochs": 1, "limit_val_batches": 0}
        trainer = build.build_trainer(team, Path(folder), RECIPE.precision, callbacks, **options)
        trainer.fit(classifier, datamodule=data)
    return classifier.seconds


def usual_epoch(
    network: nn.Module, data: str, root: str, mean: list[float], std: list[float], accelerator: str
) -> float:
    """Seconds of an epoch of the template, with Lightning's own bar, logger and checkpoint."""
    steps = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    transform = transforms.Compose([transforms.Pad(2), *steps] if data == "mnist" else steps)
    source = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}[data]
    loader = DataLoader(source(root, train=True, transform=transform), batch_size=BATCH, shuffle=True)
    module = UsualTemplate(network)
    with tempfile.TemporaryDirectory() as folder, unseen_terminal():
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=1,
            default_root_dir=folder,
            enable_model_summary=False,
        )
        trainer.fit(module, loader)
    return module.seconds


def _lenet(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return build_model("lenet5", in_channels=channels)


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


def _tiny_split() -> ImageSet:
    count = BATCH * TINY_STEPS
    images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 4, range(count))  # type: ignore[arg-type]  # names are never asked for


def _scores(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(256, 1000, generator=generator)
    return scores.to(device), torch.randint(0, 1000, (256,), generator=generator).to(device)


def _count(device: torch.device) -> float:
    scores, labels = _scores(device)
    started = time.perf_counter()
    for _ in range(20):
        count_correct(scores, labels)
    _wait(device)
    return time.perf_counter() - started


def _torchmetrics(device: torch.device) -> float:
    from torchmetrics.classification import MulticlassAccuracy

    scores, labels = _scores(device)
    metric = MulticlassAccuracy(1000, top_k=5, average="micro").to(device)
    started = time.perf_counter()
    for _ in range(20):
        metric.update(scores, labels)
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
