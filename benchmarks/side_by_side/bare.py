"""The least that trains: a loop over normalised floats in memory, which counts, reports and writes nothing."""

from __future__ import annotations

import torch

from benchmarks.side_by_side.work import Work, network, training_images
from benchmarks.training import bare_epoch
from harness.config.facts import Preprocessing
from harness.data.images.image_set import ImageSet


def epoch(work: Work) -> float:
    """Seconds of the loop of `python tools/benchmark.py training`, for images of MNIST."""
    files = training_images(work, None)
    split = ImageSet(files.data[:, None], files.targets, range(len(files)))  # type: ignore[arg-type]  # no name is asked for
    preprocessing = Preprocessing(work.channels, work.pixels, None, None, work.mean, work.std)
    return bare_epoch(network(work), split, preprocessing, torch.device("cpu"))
