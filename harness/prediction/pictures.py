"""A user's pictures at a network's size, whatever theirs is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from harness.data.decode import Pixels
from harness.data.geometry import centre_crop
from harness.data.pixels import pad_to
from harness.data.preprocessing import Preprocessing
from harness.data.workers import Windows


@dataclass(frozen=True)
class Pictures(Windows):
    """The middle of each picture, as in an evaluation.

    A network whose own images are never resized (digits, MNIST, CIFAR) gets a picture that fits into its input as it
    got those, padded with black; the shorter edge of any other is resized to the input's side before the central crop.
    """

    def _windows(self, pixels: Pixels, draws: npt.NDArray[np.float64] | None) -> Pixels:
        return self.middle(pixels)

    def middle(self, pixels: Pixels) -> Pixels:
        """The window of one picture, uint8 (h, w, 3): uint8 (1, size, size, 3)."""
        wanted = self.preprocessing
        if wanted.resize is None and max(pixels.shape[:2]) <= wanted.size:
            padded = pad_to(torch.from_numpy(pixels).permute(2, 0, 1)[None], wanted.size)  # (1, 3, size, size)
            whole: Pixels = padded.permute(0, 2, 3, 1).numpy()
            return whole
        return centre_crop(pixels, resized(wanted), self.decoder)


def resized(preprocessing: Preprocessing) -> Preprocessing:
    """The same with a size that every picture can be brought to."""
    if preprocessing.resize is not None:
        return preprocessing
    return dataclasses.replace(preprocessing, resize=preprocessing.size, interpolation="bilinear")
