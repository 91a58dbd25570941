"""torchvision's reference scripts: its metric logger, presets and loops.

Retyped from pytorch/vision, references/classification: train.py (017e9b99b5), utils.py (041fe3bc30), presets.py
(080836e582); single device, no mixed precision, no averages of weights. Other than there: the network and the data set
are ours to choose, so MNIST is padded and CIFAR cropped as usual; nothing is pinned, because there is no GPU.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision import datasets, transforms

from benchmarks.side_by_side.work import Work, cuts, network, optimizer, training_images

PRINT_EVERY = 10  # batches, in training; 100 in an evaluation


class SmoothedValue:
    """A series of numbers, its last ones, and its mean."""

    def __init__(self, window: int = 20, text: str = "{median:.4f} ({mean:.4f})") -> None:
        self.last: deque[float] = deque(maxlen=window)
        self.total, self.count, self.text = 0.0, 0, text

    def update(self, value: float, count: int = 1) -> None:
        """Add a number that stands for so many."""
        self.last.append(value)
        self.count += count
        self.total += value * count

    def __str__(self) -> str:
        series = torch.tensor(list(self.last))
        named = {"median": series.median().item(), "avg": series.float().mean().item(), "value": self.last[-1]}
        return self.text.format(mean=self.total / self.count, max=max(self.last), **named)


class MetricLogger:
    """Named series, printed every so many batches."""

    def __init__(self) -> None:
        self.meters: dict[str, SmoothedValue] = defaultdict(SmoothedValue)

    def log_every(self, batches: Any, every: int, header: str) -> Iterator[Any]:
        """Hand the batches on, and print times and series."""
        started = end = time.time()
        batch_time, data_time = SmoothedValue(text="{avg:.4f}"), SmoothedValue(text="{avg:.4f}")
        for number, batch in enumerate(batches):
            data_time.update(time.time() - end)
            yield batch
            batch_time.update(time.time() - end)
            if number % every == 0:
                left = batch_time.total / batch_time.count * (len(batches) - number)
                eta = datetime.timedelta(seconds=int(left))
                series = "  ".join(f"{name}: {meter}" for name, meter in self.meters.items())
                where = f"{header}  [{number}/{len(batches)}]  eta: {eta}"
                print(f"{where}  {series}  time: {batch_time}  data: {data_time}")
            end = time.time()
        print(f"{header} Total time: {datetime.timedelta(seconds=int(time.time() - started))}")


def accuracy(output: torch.Tensor, target: torch.Tensor, ks: Iterable[int] = (1, 5)) -> list[torch.Tensor]:
    """Percent right at each k."""
    with torch.inference_mode():
        found = output.topk(max(ks), 1, True, True)[1].t()
        correct = found.eq(target[None])
        return [correct[:k].flatten().sum(dtype=torch.float32) * (100.0 / len(target)) for k in ks]


def train_one_epoch(
    model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, device: torch.device
) -> None:
    """Their loop."""
    model.train()
    logger = MetricLogger()
    logger.meters["lr"] = SmoothedValue(1, "{value}")
    logger.meters["img/s"] = SmoothedValue(10, "{value}")
    for images, labels in logger.log_every(batches, PRINT_EVERY, "Epoch: [0]"):
        started = time.time()
        images, labels = images.to(device), labels.to(device)
        output = model(images)
        loss = criterion(output, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _note(logger, loss, output, labels)
        logger.meters["lr"].update(optimizer.param_groups[0]["lr"])
        logger.meters["img/s"].update(len(images) / (time.time() - started))


def _note(logger: MetricLogger, loss: torch.Tensor, output: torch.Tensor, labels: torch.Tensor) -> None:
    top1, top5 = accuracy(output, labels)
    logger.meters["loss"].update(loss.item())
    logger.meters["acc1"].update(top1.item(), len(labels))
    logger.meters["acc5"].update(top5.item(), len(labels))


def evaluate(model: nn.Module, criterion: nn.Module, batches: Any, device: torch.device) -> None:
    """Their evaluation."""
    model.eval()
    logger = MetricLogger()
    with torch.inference_mode():
        for images, labels in logger.log_every(batches, 100, "Test:"):
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            output = model(images)
            _note(logger, criterion(output, labels), output, labels)
    means = [meter.total / meter.count for meter in (logger.meters["acc1"], logger.meters["acc5"])]
    print("Test: Acc@1 {:.3f} Acc@5 {:.3f}".format(*means))


def _to_tensor(work: Work) -> list[Any]:
    """The end of their presets."""
    normalise = transforms.Normalize(work.mean, work.std)
    return [transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float), normalise]


def epoch(work: Work) -> float:
    """Seconds of an epoch and of the checkpoints after it."""
    images = training_images(work, transforms.Compose([*cuts(work), *_to_tensor(work)]))
    batches = DataLoader(images, work.batch_size, sampler=RandomSampler(images), num_workers=work.workers)
    model, criterion, device = network(work), nn.CrossEntropyLoss(), torch.device("cpu")
    descent = optimizer(model)
    schedule = torch.optim.lr_scheduler.StepLR(descent, step_size=30, gamma=0.1)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        train_one_epoch(model, criterion, descent, batches, device)
        schedule.step()
        state = {"model": model.state_dict(), "optimizer": descent.state_dict(), "lr_scheduler": schedule.state_dict()}
        for name in ("model_0.pth", "checkpoint.pth"):
            torch.save(state, Path(folder) / name)
        return time.perf_counter() - started


def evaluation(work: Work) -> float:
    """Seconds of an evaluation."""
    preset = [transforms.Resize(work.resize), transforms.CenterCrop(work.pixels), *_to_tensor(work)]
    images = datasets.ImageFolder(f"{work.root}/val", transforms.Compose(preset))
    batches = DataLoader(images, work.batch_size, sampler=SequentialSampler(images), num_workers=work.workers)
    model = network(work)
    started = time.perf_counter()
    evaluate(model, nn.CrossEntropyLoss(), batches, torch.device("cpu"))
    return time.perf_counter() - started
