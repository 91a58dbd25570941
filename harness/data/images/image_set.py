"""A split whose images lie in memory. Nothing here loads torch: a source describes its images before that is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ImageSet:
    """Images of one split.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), positions in the data set's class names.
        ids: N names that stay the same whatever the order and the split, such as `mnist/test/00042`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: Sequence[str]

    @classmethod
    def of_arrays(cls, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], ids: Sequence[str]) -> ImageSet:
        """The same of NumPy arrays, whose memory it shares."""
        import torch

        return cls(torch.from_numpy(images), torch.from_numpy(labels), ids)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.int64]) -> ImageSet:
        """The images at these positions, int64 (n,)."""
        return ImageSet(self.images[indices], self.labels[indices], [self.ids[i] for i in indices.tolist()])

    def fingerprint(self) -> str:
        """SHA-256 over shape, pixels and labels: equal for equal images in equal order."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.contiguous().cpu().numpy().data)
        return digest.hexdigest()
