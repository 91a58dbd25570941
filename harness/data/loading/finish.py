"""The end of every training batch, on its device: normalised, its colours shifted, rectangles erased."""

from __future__ import annotations

import torch

from harness.config.facts import Preprocessing
from harness.config.recipe import RecipeConfig
from harness.data.images.augmentation import ERASING_DRAWS, LIGHTING_DRAWS, colour_noise, erase
from harness.data.images.pixels import Normalise
from harness.data.loading import stateless
from harness.data.loading.stateless import Stream


class Finish:
    """Normalises a batch and does what its recipe asks for after that.

    Args:
        normalise: the batch.
        recipe: of the run.
        preprocessing: of the network.
        seed: of the run.
    """

    def __init__(self, normalise: Normalise, recipe: RecipeConfig, preprocessing: Preprocessing, seed: int) -> None:
        self.normalise = normalise
        self.sigma = recipe.lighting
        self.erasing = recipe.erasing
        self.std = torch.tensor(preprocessing.std)
        self.seed = seed

    def __call__(self, images: torch.Tensor, epoch: int, keys: torch.Tensor) -> torch.Tensor:
        """Finish images, uint8 (N, C, H, W), whose draws are functions of `keys`, int64 (N,).

        Returns:
            float32 (N, C, H, W).
        """
        finished = self.normalise(images)
        if not (self.sigma or self.erasing):
            return finished
        keys = keys.cpu()  # one kind of device draws, so that the last bit is the same on all
        if self.sigma:
            draws = stateless.uniform(LIGHTING_DRAWS, self.seed, epoch, Stream.LIGHTING, keys)
            noise = colour_noise(draws, self.sigma) / self.std  # normalising is linear: as if it were added before
            finished += noise.to(finished.device, non_blocking=True)[:, :, None, None]
        if self.erasing:
            erase(finished, stateless.uniform(ERASING_DRAWS, self.seed, epoch, Stream.ERASING, keys), self.erasing)
        return finished
