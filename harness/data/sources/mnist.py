"""MNIST [LeCun 1998] and Fashion-MNIST [Xiao 2017]: 60,000 + 10,000 grey images of 28x28 pixels."""

from __future__ import annotations

from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.image_set import ImageSet
from harness.data.sources.splits import Splits, checked, hold_out
from harness.data.sources.torchvision_files import read_split

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FACTS = {
    "mnist": DataSet(28, 32, 1, tuple("0123456789"), 60_000, 10_000),
    "fashion_mnist": DataSet(28, 32, 1, CLOTHES, 60_000, 10_000),
}


def describe(config: DataConfig) -> DataSet:
    """The facts of one of the two."""
    return FACTS[config.name]


def load(config: DataConfig) -> Splits:
    """All splits.

    Raises:
        UserError: files that are missing, damaged or of another data set.
    """
    return hold_out(_read(config, "train"), _read(config, "test"), config)


def load_test(config: DataConfig) -> ImageSet:
    """The test split alone; raises as `load` does."""
    return _read(config, "test")


def _read(config: DataConfig, split: str) -> ImageSet:
    from torchvision import datasets

    reader = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[config.name]
    return checked(read_split(reader, config, split), split, config, FACTS[config.name])
