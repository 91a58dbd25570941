"""Occlusion: how much of a class's probability goes where a square of the image is hidden.

Paper: Zeiler, Fergus 2014, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901, section 4.2.
"""

from __future__ import annotations

import torch
from torch import nn

from harness.insight.progress import Progress

BATCH = 32  # occluded images at once


def window_of(size: int) -> tuple[int, int]:
    """Choose the side of the hidden square for images of a size, and the step between two of them, in pixels."""
    window = max(1, round(size / 6))
    return window, max(1, window // 2)


def _places(size: int, window: int, step: int) -> list[int]:
    """First pixels of the squares along one side: every `step`, and the last that fits."""
    return sorted({*range(0, size - window + 1, step), size - window})


@torch.no_grad()
def occlusion(
    network: nn.Module,
    image: torch.Tensor,
    classes: torch.Tensor,
    window: int,
    step: int,
    progress: Progress | None = None,
) -> torch.Tensor:
    """Hide one square after the other behind the data's mean colour, and see what becomes of the probabilities.

    Args:
        network: maps images (N, C, H, W) to logits; in evaluation mode.
        image: float32 (C, H, W), normalised, so that the mean colour is zero.
        classes: int64 (K,), whose probabilities are followed.
        window: side of the square in pixels, at most that of the image.
        step: pixels from one square to the next.
        progress: advances by each occluded image.

    Returns:
        float32 (K, H, W): the fall of each probability, -1 to 1, as the mean over the squares that hide the pixel.
    """
    _, height, width = image.shape
    places = [(y, x) for y in _places(height, window, step) for x in _places(width, window, step)]
    whole = network(image[None]).softmax(1)[0, classes]
    falls = torch.zeros(len(classes), height, width, device=image.device)
    hidden = torch.zeros(height, width, device=image.device)
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        images = image.repeat(len(batch), 1, 1, 1)
        for occluded, (y, x) in zip(images, batch, strict=True):
            occluded[:, y : y + window, x : x + window] = 0
        differences = whole - network(images).softmax(1)[:, classes]  # (n, K)
        for difference, (y, x) in zip(differences, batch, strict=True):
            falls[:, y : y + window, x : x + window] += difference[:, None, None]
            hidden[y : y + window, x : x + window] += 1
        if progress is not None:
            progress.advance(len(batch))
    return falls / hidden


def squares(size: int, window: int, step: int) -> int:
    """Count the occluded images of one square image."""
    return len(_places(size, window, step)) ** 2
