"""Files of small data sets as torchvision downloads and reads them."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import shorten
from typing import Any

import numpy as np

from harness.config.data import DataConfig
from harness.data.images.image_set import ImageSet
from harness.errors import UserError


def read_split(reader: Callable[..., Any], config: DataConfig, split: str) -> ImageSet:
    """The split `train` or `test`.

    Args:
        reader: torchvision's class of the data set.
        config: where the files lie, and whether they may be downloaded.
        split: `train` or `test`.

    Raises:
        UserError: files that are missing, unreadable or damaged.
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
            read = reader(config.root, train=split == "train", download=True)
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
    images, labels = np.asarray(read.data), np.asarray(read.targets, dtype=np.int64)
    images = images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # (N, C, H, W)
    return ImageSet.of_arrays(images, labels, [f"{config.name}/{split}/{index:05d}" for index in range(len(labels))])
