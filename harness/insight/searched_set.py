"""The set in which the images that excite a unit most are looked for, and those images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from harness.config.data import DataConfig
from harness.data.loading.loader import Batch
from harness.data.sources.table import describe, load_test
from harness.insight.exciting import Excited, most_exciting
from harness.insight.progress import Progress
from harness.prediction.network import Loaded
from harness.prediction.own_data import batches_of

SHOWN = 9  # as in the paper's figure
AT_MOST = 2e12  # multiply-adds of the search: a minute or two on a CPU
BATCH = 32


@dataclass(frozen=True)
class SearchedSet:
    """The most exciting images of a set.

    Attributes:
        name: of the data set.
        images: number of images that were looked at.
        of: number of images that its test split has.
        excited: the most exciting, best first.
        labels: names of their classes.
    """

    name: str
    images: int
    of: int
    excited: list[Excited]
    labels: list[str]


def chosen_images(images: int, multiply_adds: int) -> npt.NDArray[np.int64]:
    """Choose which images of a split are looked at: all, or as many as time allows, evenly spread; int64 (n,)."""
    count = min(images, max(SHOWN, int(AT_MOST / max(multiply_adds, 1))))
    return np.arange(count, dtype=np.int64) * images // count


def search(
    loaded: Loaded,
    data: DataConfig,
    stage: str,
    channel: int,
    multiply_adds: int,
    progress: Progress,
) -> SearchedSet:
    """Look for the images of a data set's test split that excite a map most.

    Args:
        loaded: the network, on its device.
        data: settings of the data set.
        stage: whose map it is.
        channel: the map.
        multiply_adds: of the network for one image; the more, the fewer images are looked at.
        progress: begins with the number of images, and advances by each.

    Raises:
        UserError: the set cannot be read, or its images do not fit the network.
    """
    split, names = load_test(data), describe(data).class_names
    indices = chosen_images(len(split), multiply_adds)
    progress.begin(f"searching {data.name}", len(indices))
    part = split.subset(indices)
    batches = _positions(batches_of(loaded, part, data, BATCH), progress)
    excited = most_exciting(loaded.network, batches, stage, channel, SHOWN)
    labels = [names[int(part.labels[one.position])] for one in excited]
    return SearchedSet(data.name, len(indices), len(split), excited, labels)


def _positions(batches: Iterable[Batch], progress: Progress) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Positions and normalised images; those that cannot be read are left out."""
    for batch in batches:
        if len(batch.labels):
            yield batch.indices, batch.images
        progress.advance(batch.global_size)
