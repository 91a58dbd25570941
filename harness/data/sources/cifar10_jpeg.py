"""CIFAR-10 re-compressed as JPEG, in two parquet files: 50,000 + 10,000 colour pictures of 32x32 pixels.

Compression takes away what a network sees: the published ResNet-20 of Y. Idelbayev, 8.27% on the original test split,
has 18.97% on this one. Errors on it are compared among themselves alone.
"""

from __future__ import annotations

from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.image_set import ImageSet
from harness.data.sources import parquet
from harness.data.sources.cifar import TEN
from harness.data.sources.splits import Splits
from harness.errors import UserError

FACTS = DataSet(32, None, 3, TEN, 50_000, 10_000)


def describe(config: DataConfig) -> DataSet:
    """The facts."""
    return FACTS


def load(config: DataConfig) -> Splits:
    """All splits.

    Raises:
        UserError: files that are missing, damaged or of other pictures.
    """
    _check(config)
    return parquet.load(config)


def load_test(config: DataConfig) -> ImageSet:
    """The test split alone; raises as `load` does."""
    _check(config)
    return parquet.load_test(config)


def _check(config: DataConfig) -> None:
    found = parquet.describe(config)
    if found != FACTS:
        raise UserError(
            f"data={config.name}: data.root={config.root} holds other pictures: {found.train:,} + {found.test:,} of "
            f"{len(found.class_names)} classes and {found.image_size} pixels; data=parquet reads such files"
        )
