"""A training loader over small pictures that lie whole on the device: crops, flips and the rest happen there.

Its batches are those of `TrainFileLoader` to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.config.facts import Preprocessing
from harness.config.recipe import RecipeConfig
from harness.data.images.augmentation import operations
from harness.data.images.batched_crops import MOST_SCALE, resized_windows
from harness.data.images.decode import pixels_of
from harness.data.images.geometry import has_ties, random_box, random_resized_crop
from harness.data.images.image_files import ImageFiles
from harness.data.loading.file_loader import TrainFileLoader
from harness.data.loading.loader import Batch
from harness.data.loading.small_pictures import SmallFiles

SHARE = 0.5  # of the free memory, which the pictures may take; the rest is the network's


def fit_on(
    device: torch.device, split: ImageFiles, preprocessing: Preprocessing, recipe: RecipeConfig, decoder: str
) -> bool:
    """Whether a device can hold the pictures and crop them as the recipe wants."""
    if device.type != "cuda" or not isinstance(split, SmallFiles) or torch.backends.cuda.matmul.allow_tf32:
        return False
    known = recipe.crop_area and not recipe.resize_range and operations(recipe) is None
    as_here = decoder == "fast" and preprocessing.interpolation == "bilinear" and split.sizes.all()
    return bool(known and as_here and split.bytes < SHARE * torch.cuda.mem_get_info(device)[0])


class DeviceCropLoader(TrainFileLoader):
    """As its base class, of pictures that `fit_on` the device."""

    split: SmallFiles

    def __init__(self, split: SmallFiles, *arguments: Any, **options: Any) -> None:
        super().__init__(split, *arguments, **options, workers=0)
        self.pixels = torch.from_numpy(np.fromfile(split.pixels, dtype=np.uint8)).to(self.device)
        self.starts = torch.from_numpy(split.starts).to(self.device)
        self.widths = torch.from_numpy(split.sizes[:, 1].astype(np.int64)).to(self.device)

    def batches(self) -> Iterator[Batch]:
        """Cropped, mirrored and normalised on the device."""
        start = self.order.start()
        for chosen in self.order.chosen(start):
            draws, size = self.draws(start, chosen.keys), self.size_at(start.epoch)
            images = self._crops(chosen.indices, draws, size)
            yield self.complete(start, images, chosen.indices, chosen.keys, chosen.global_size)

    def _crops(self, indices: torch.Tensor, draws: npt.NDArray[np.float64], size: int) -> torch.Tensor:
        """Random crops of images int64 (n,): uint8 (n, 3, size, size)."""
        crop = (self.recipe.crop_area, self.recipe.crop_aspect)
        shapes = self.split.sizes[indices.numpy()].tolist()
        boxes = [random_box(height, width, own, *crop) for (height, width), own in zip(shapes, draws, strict=True)]
        if not boxes:
            return self.pixels.new_empty((0, 3, size, size))
        there = indices.to(self.device, non_blocking=True)
        on_device = torch.tensor(boxes).to(self.device, non_blocking=True)
        images = resized_windows(self.pixels, self.starts[there], self.widths[there], on_device, size)
        for row, (_, _, height, width) in enumerate(boxes):
            ties = has_ties(height, size) and has_ties(width, size)  # which `resize` leaves to Pillow
            if ties or max(height, width) > MOST_SCALE * size:
                picture = pixels_of(self.split.place(int(indices[row])), "fast", False)
                window = random_resized_crop(picture, draws[row], self.preprocessing_at(size), *crop, "fast")[0]
                images[row] = torch.from_numpy(window.transpose(2, 0, 1).copy()).to(self.device)
        return images
