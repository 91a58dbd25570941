"""The table of sources: the name of a data set to the file that describes and loads it."""

from __future__ import annotations

from typing import Protocol

from harness.config.data import DataConfig, FolderConfig, ImageNetConfig, ImageNetV2Config
from harness.config.facts import DataSet
from harness.data.sources import (
    cifar10_jpeg,
    digits,
    folder,
    hub,
    hub_cache,
    hub_photos,
    imagenet,
    imagenette,
    parquet,
    shards,
)
from harness.data.sources.cifar import cifar10, cifar100
from harness.data.sources.imagenet_tests import imagenet_a, imagenet_r, imagenet_sketch, imagenet_v2
from harness.data.sources.mnist import fashion_mnist, mnist
from harness.data.sources.splits import Split, Splits


class Source(Protocol):
    """What each file of this folder that the table names has: three functions of the config of a data set."""

    def describe(self, config: DataConfig, /) -> DataSet:
        """The facts, without a network where that can be, and without torch."""

    def load(self, config: DataConfig, /) -> Splits:
        """All splits."""

    def load_test(self, config: DataConfig, /) -> Split:
        """The test split alone, so that an evaluation needs no other."""


SOURCES: dict[str, Source] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cifar10_jpeg": cifar10_jpeg,
    "imagenet": imagenet,
    "imagenet_v2": imagenet_v2,
    "imagenet_a": imagenet_a,
    "imagenet_r": imagenet_r,
    "imagenet_sketch": imagenet_sketch,
    "imagenette": imagenette,
    "folder": folder,
    "parquet": parquet,
    "hub": hub,
    "hub_photos": hub_photos,
    "shards": shards,
}
DIVIDED = {"folder": folder, "hub_photos": hub_photos, "shards": shards}  # by a rule, maybe into folds


def describe(config: DataConfig) -> DataSet:
    """The facts of the data set that the config names; those of a user's own are read from its files, without torch.

    Raises:
        UserError: files of `parquet` that are missing or damaged, folders that are not what `folder` reads.
    """
    return SOURCES[config.name].describe(config)


def load(config: DataConfig) -> Splits:
    """Read the data set that the config names.

    Raises:
        UserError: files that are missing, unreadable, damaged or of another data set.
    """
    return SOURCES[config.name].load(config)


def load_test(config: DataConfig) -> Split:
    """Read the test split alone; raises as `load` does."""
    return SOURCES[config.name].load_test(config)


def recorded(config: DataConfig) -> dict[str, object]:
    """What a record says of a data set beside its fingerprint, such as the hub's commit or a fold."""
    found: dict[str, object] = dict(hub_cache.recorded(config))
    if isinstance(config, ImageNetConfig) and config.labels != "original":
        found["labels"] = config.labels
    if isinstance(config, ImageNetV2Config):
        found["variant"] = config.variant
    if isinstance(config, FolderConfig) and config.folds:
        found |= folder.fold_recorded(config, DIVIDED[config.name].divide(config))
    return found
