"""data=parquet: pictures of one size in parquet files that lie in a folder."""

from __future__ import annotations

from pathlib import Path

from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.image_set import ImageSet
from harness.data.sources import parquet_files
from harness.data.sources.parquet_files import Files
from harness.data.sources.splits import Splits, hold_out
from harness.errors import UserError


def describe(config: DataConfig) -> DataSet:
    """Facts of the files.

    Raises:
        UserError: files that are missing or damaged.
    """
    return parquet_files.describe(*_files(config))


def load(config: DataConfig) -> Splits:
    """All splits; raises as `describe` does, and for an image that cannot be read or has another size."""
    return splits_of(*_files(config), config)


def load_test(config: DataConfig) -> ImageSet:
    """The test split alone; raises as `load` does."""
    return test_of(*_files(config), config)


def splits_of(files: Files, where: str, config: DataConfig) -> Splits:
    """The same of files that were found already; `where` they came from is for a message.

    Raises:
        UserError: as `load` does, and if there are no files to train on.
    """
    if "train" not in files:
        raise UserError(f"{where}: no train*.parquet in it, so there is no image to train on")
    parquet_files.warn_of_unlabelled(files, where)
    known = parquet_files.describe(files, where)
    train = _read(files, where, config, known, "train")
    return hold_out(train, _read(files, where, config, known, "test"), config)


def test_of(files: Files, where: str, config: DataConfig) -> ImageSet:
    """The test split alone of files that were found already."""
    parquet_files.warn_of_unlabelled(files, where)
    return _read(files, where, config, parquet_files.describe(files, where), "test")


def _files(config: DataConfig) -> tuple[Files, str]:
    where = f"data={config.name}: data.root={config.root}"
    return parquet_files.find_files(Path(config.root), where), where


def _read(files: Files, where: str, config: DataConfig, known: DataSet, split: str) -> ImageSet:
    paths = files["train"] if split == "train" else parquet_files.reported(files, where)
    images, labels = parquet_files.read(paths, known)
    return ImageSet.of_arrays(images, labels, [f"{config.name}/{split}/{index:05d}" for index in range(len(labels))])
