"""Padding, crop, flip and normalisation of a whole batch, on the device that holds it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from harness.config.facts import Preprocessing


def pad_to(images: torch.Tensor, size: int) -> torch.Tensor:
    """Pad uint8 images (N, C, H, W) with black to (N, C, size, size), or free larger ones from a black margin.

    An odd pixel goes right or below.

    Raises:
        ValueError: images larger than `size`, and not black beyond it.
    """
    height, width = size - images.shape[2], size - images.shape[3]
    left, above = int(width / 2), int(height / 2)
    padded = F.pad(images, (left, width - left, above, height - above))
    if min(height, width) < 0 and int(padded.count_nonzero()) < int(images.count_nonzero()):
        raise ValueError(f"images of {images.shape[3]} x {images.shape[2]} pixels are larger than the input, {size}")
    return padded


def grey(images: torch.Tensor) -> torch.Tensor:
    """RGB images, uint8 (N, 3, H, W), as (N, 1, H, W) by ITU-R 601-2, rounded as Pillow does; grey keeps its value."""
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)[:, None]


def crop(padded: torch.Tensor, indices: torch.Tensor, y: torch.Tensor, x: torch.Tensor, size: int) -> torch.Tensor:
    """Cut a window of `size` x `size` pixels out of each chosen image.

    Args:
        padded: uint8 (M, C, H, W), contiguous.
        indices: int64 (N,), which images.
        y: int64 (N,), the window's upper row, 0 to H - size.
        x: int64 (N,), the window's left column, 0 to W - size.
        size: side of the window.

    Returns:
        uint8 (N, C, size, size).
    """
    images, channels, height, width = padded.shape
    per_image, per_channel, per_row, per_pixel = padded.stride()
    windows = padded.as_strided(
        (images, height - size + 1, width - size + 1, channels, size, size),
        (per_image, per_row, per_pixel, per_channel, per_row, per_pixel),
    )
    return windows[indices, y, x]


def flip(images: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Mirror left and right where `mirrored`, a bool (N,), says so; images (N, C, H, W)."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


class Normalise:
    """uint8 (N, C, H, W) to float32: (image / 255 - mean) / std; its constants lie on `device`.

    Images in colour become grey ones for a network that takes those.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device | str) -> None:
        std = torch.tensor(preprocessing.std, device=device).view(1, -1, 1, 1)
        mean = torch.tensor(preprocessing.mean, device=device).view(1, -1, 1, 1)
        self.scale = 1 / (255 * std)
        self.shift = mean / std

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise a batch."""
        images = grey(images) if images.shape[1] > self.shift.shape[1] else images
        return images.float().mul_(self.scale).sub_(self.shift)
