"""CIFAR-10 and CIFAR-100 [Krizhevsky 2009]: 50,000 + 10,000 colour images of 32x32 pixels."""

from __future__ import annotations

from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.image_set import ImageSet
from harness.data.sources.splits import Splits, checked, hold_out
from harness.data.sources.torchvision_files import read_split

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: off
HUNDRED = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest",
    "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard",
    "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum",
    "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper",
    "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf",
    "woman", "worm",
)
# fmt: on
FACTS = {
    "cifar10": DataSet(32, None, 3, TEN, 50_000, 10_000),
    "cifar100": DataSet(32, None, 3, HUNDRED, 50_000, 10_000),
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

    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[config.name]
    return checked(read_split(reader, config, split), split, config, FACTS[config.name])
