"""The data that a network was trained on, and the images of a split as the network takes them."""

from __future__ import annotations

import dataclasses

from harness.config.data import DataConfig, ImageFilesConfig
from harness.data.images.image_set import ImageSet
from harness.data.loading.file_loader import EvalFileLoader
from harness.data.loading.loader import EvalLoader
from harness.data.sources.splits import Split
from harness.errors import UserError
from harness.prediction.network import Loaded
from harness.prediction.predict import choose_workers


def own_data(loaded: Loaded) -> DataConfig | None:
    """The data that the network was trained on here, from this machine alone; None if it was not trained here."""
    data = loaded.trained.data
    return None if data is None else dataclasses.replace(data, download=False)


def batches_of(loaded: Loaded, split: Split, data: DataConfig, batch_size: int) -> EvalLoader | EvalFileLoader:
    """A loader of all images of a split, normalised, on the network's device; each batch says which it could not read.

    Args:
        loaded: the network; grey images in memory are repeated for a network in colour, as files are decoded.
        split: the images.
        data: settings of their data set.
        batch_size: number of images of a batch.

    Raises:
        UserError: the images are larger than the network's input.
    """
    preprocessing, device = loaded.trained.preprocessing, next(loaded.network.parameters()).device
    if not isinstance(split, ImageSet):
        assert isinstance(data, ImageFilesConfig)
        return EvalFileLoader(
            split,
            preprocessing,
            batch_size=batch_size,
            ten_crop=False,
            decoder=data.decoder,
            workers=choose_workers(len(split), batch_size, preprocessing.size, device),
            device=device,
        )
    size = max(split.images.shape[2:])
    if size > preprocessing.size:
        raise UserError(
            f"data={data.name}: its images of {size} pixels are larger than the input, {preprocessing.size}"
        )
    if split.images.shape[1] < preprocessing.channels:
        split = dataclasses.replace(split, images=split.images.expand(-1, preprocessing.channels, -1, -1))
    return EvalLoader(split, preprocessing, batch_size=batch_size, device=device)
