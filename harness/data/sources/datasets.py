"""What is known of every data set before its images are read; importable without torch."""

from __future__ import annotations

from pathlib import Path

from harness.config.data import DataConfig, FolderConfig, HubConfig
from harness.config.facts import DataSet

DIGITS = tuple("0123456789")


IMAGENET_CLASSES = tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="ascii").split())  # wnids
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: off
_CIFAR100 = (
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

DATASETS: dict[str, DataSet] = {
    "digits": DataSet(32, None, 1, DIGITS, 1_437, 360),
    "mnist": DataSet(28, 32, 1, DIGITS, 60_000, 10_000),
    "fashion_mnist": DataSet(28, 32, 1, _FASHION, 60_000, 10_000),
    "cifar10": DataSet(32, None, 3, _CIFAR10, 50_000, 10_000),
    "cifar100": DataSet(32, None, 3, _CIFAR100, 50_000, 10_000),
    "imagenet": DataSet(None, None, 3, IMAGENET_CLASSES, 1_281_167, 50_000),
}


def describe(config: DataConfig) -> DataSet:
    """The facts of the data set that the config names; those of a user's own are read from its files, without torch.

    Raises:
        UserError: files of `parquet` that are missing or damaged, folders that are not what `folder` reads.
    """
    if isinstance(config, FolderConfig):
        from harness.data.sources.class_folders import divide

        parts = divide(config)
        train = len(parts.train) + len(parts.validation)
        return DataSet(None, None, len(config.mean), parts.class_names, train, len(parts.test))
    if config.name == "parquet" or isinstance(config, HubConfig):
        from harness.data.sources import hub, parquet

        return parquet.describe(*hub.files_of(config))
    return DATASETS[config.name]
