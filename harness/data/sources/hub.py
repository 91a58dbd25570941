"""data=hub: a data set of the Hugging Face hub whose pictures have one size; it is read like `parquet`."""

from __future__ import annotations

from harness.config.data import DataConfig, HubConfig
from harness.config.facts import DataSet
from harness.data.images.image_set import ImageSet
from harness.data.sources import parquet_files
from harness.data.sources.hub_cache import find_files, named
from harness.data.sources.parquet import splits_of, test_of
from harness.data.sources.parquet_files import Files
from harness.data.sources.splits import Splits


def describe(config: DataConfig) -> DataSet:
    """Facts of the files.

    Raises:
        UserError: files that are missing or damaged, or cannot be downloaded.
    """
    return parquet_files.describe(*_files(config))


def load(config: DataConfig) -> Splits:
    """All splits; raises as `describe` does, and for an image that cannot be read or has another size."""
    return splits_of(*_files(config), config)


def load_test(config: DataConfig) -> ImageSet:
    """The test split alone; raises as `load` does."""
    return test_of(*_files(config), config)


def _files(config: DataConfig) -> tuple[Files, str]:
    assert isinstance(config, HubConfig)
    return find_files(config), named(config)
