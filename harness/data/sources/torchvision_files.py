"""Files of small data sets as torchvision downloads and reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.images.image_set import ImageSet
from harness.data.sources.splits import Splits, checked, hold_out
from harness.errors import UserError
from harness.run.log import log


@dataclass(frozen=True)
class TorchvisionFiles:
    """A source whose files torchvision reads.

    Attributes:
        facts: what is known of the data set.
        reader: name of torchvision's class for it.
    """

    facts: DataSet
    reader: str

    def describe(self, config: DataConfig) -> DataSet:
        """Return the facts."""
        return self.facts

    def load(self, config: DataConfig) -> Splits:
        """Read all splits.

        Raises:
            UserError: files are missing, damaged or of another data set.
        """
        return hold_out(self._read(config, "train"), self._read(config, "test"), config)

    def load_test(self, config: DataConfig) -> ImageSet:
        """Read only the test split; raises as `load` does."""
        return self._read(config, "test")

    def _read(self, config: DataConfig, split: str) -> ImageSet:
        from torchvision import datasets

        return checked(read_split(getattr(datasets, self.reader), config, split), split, config, self.facts)


def read_split(reader: Callable[..., Any], config: DataConfig, split: str) -> ImageSet:
    """Read the split `train` or `test`.

    Args:
        reader: torchvision's class of the data set.
        config: says where the files are, and whether they may be downloaded.
        split: `train` or `test`.

    Raises:
        UserError: files are missing, unreadable or damaged.
    """
    where = f"data={config.name}: data.root={config.root}"
    try:
        try:
            read = reader(config.root, train=split == "train", download=False)
        except RuntimeError as missing:
            if not config.download:
                raise UserError(
                    f"{where} lacks the files of {config.name}, or holds damaged ones; data.download=true fetches "
                    "them, or name the folder that has them in data.root"
                ) from missing
            log.info(f"fetching the files of {config.name} into {config.root}")
            with _leaving_no_folders(Path(config.root).absolute()):
                read = reader(config.root, train=split == "train", download=True)
        images, labels = np.asarray(read.data), np.asarray(read.targets)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(f"images are {images.dtype} of {images.ndim} axes, not bytes")
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or len(labels) != len(images):
            raise ValueError(f"labels are {labels.dtype} {labels.shape} for {len(images):,} images")
    except PermissionError as error:
        raise UserError(f"{where}: no permission to read or write {error.filename or config.root}") from error
    except UserError:
        raise
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{where} lacks the files of {config.name} and they could not be downloaded ({shorten(str(error), 100)}); "
            "without a network, copy torchvision's files there by hand, or use data=digits, which needs none"
        ) from error
    except Exception as error:  # a damaged file can fail in any way while it is parsed
        raise UserError(
            f"{where}: a file of {config.name} is damaged or of another kind ({type(error).__name__}: {error}); "
            "delete it, so that it is downloaded again"
        ) from error
    labels = labels.astype(np.int64)
    images = images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # (N, C, H, W)
    return ImageSet.of_arrays(images, labels, [f"{config.name}/{split}/{index:05d}" for index in range(len(labels))])


@contextmanager
def _leaving_no_folders(root: Path) -> Iterator[None]:
    """Remove the empty folders that a failed download has made, for a name that may be mistyped."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in [*sorted(root.rglob("*"), reverse=True), *missing] if missing else []:
            with suppress(OSError):  # it holds something
                folder.rmdir()
        raise
