"""What everyone does in a part: network, optimiser, pictures, sizes. It imports nothing that only some of them need."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision import datasets, transforms

from models import build_model

LEARNING_RATE, MOMENTUM = 0.05, 0.9
CLASSES = 10


@dataclass(frozen=True)
class Work:
    """An epoch of training, or an evaluation.

    Attributes:
        model: name of the network.
        images: where they come from: `mnist` (torchvision's files), `parquet` (small pictures, decoded at the start) or
            `folder` (of classes, read as they are needed).
        root: folder that holds them; below that of `folder` are `train` and `val`.
        mean: of each channel.
        std: of each channel.
        pixels: side of the network's input.
        resize: shorter edge before an evaluation's centre crop.
        batch_size: images of a batch.
        threads: of the CPU, for the network.
        workers: processes that prepare images.
        most: images of MNIST that are trained on; None for all.
        words: further words of `train.py`'s command line.
    """

    model: str
    images: str
    root: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: int
    batch_size: int
    resize: int = 256
    threads: int = 2
    workers: int = 1
    most: int | None = None
    words: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Of the images."""
        return len(self.mean)


class Decoded(Dataset[tuple[Any, int]]):
    """Pictures in memory, handed out as torchvision's CIFAR-10 does: a Pillow picture, which is then transformed."""

    def __init__(self, root: str, transform: Callable[[Image.Image], Any] | None) -> None:
        import pyarrow.parquet as pq

        (file,) = Path(root).glob("train*.parquet")
        table = pq.read_table(file).to_pydict()
        self.pictures = [Image.open(io.BytesIO(picture["bytes"])).convert("RGB") for picture in table["img"]]
        self.labels = table["label"]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture = self.pictures[index].copy()
        return (self.transform(picture) if self.transform else picture), self.labels[index]


def network(work: Work) -> nn.Module:
    """The network that everyone trains, with the same weights."""
    torch.manual_seed(0)
    return build_model(work.model, in_channels=work.channels, num_classes=CLASSES)


def optimizer(of: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum."""
    return torch.optim.SGD(of.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)


def training_images(work: Work, transform: Callable[[Image.Image], Any] | None) -> Any:
    """The images to train on as a data set of torchvision's kind."""
    if work.images == "mnist":
        return first(datasets.MNIST(work.root, train=True, transform=transform), work.most)
    if work.images == "parquet":
        return Decoded(work.root, transform)
    return datasets.ImageFolder(f"{work.root}/train", transform)


def first(mnist: datasets.MNIST, most: int | None) -> datasets.MNIST:
    """The same with its first images only."""
    mnist.data, mnist.targets = mnist.data[:most], mnist.targets[:most]
    return mnist


def cuts(work: Work) -> list[Any]:
    """What torchvision's transforms do with a training picture before it becomes a tensor."""
    if work.images == "mnist":
        return [transforms.Pad((work.pixels - 28) // 2)]
    if work.images == "parquet":
        return [transforms.RandomCrop(work.pixels, padding=4), transforms.RandomHorizontalFlip()]
    return [transforms.RandomResizedCrop(work.pixels), transforms.RandomHorizontalFlip()]
