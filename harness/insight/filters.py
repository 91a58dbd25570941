"""The weights of the first layer as small pictures: they have the shape of what they look at."""

from __future__ import annotations

import torch
from torch import nn


def first_filters(network: nn.Module, image_size: int, channels: int) -> tuple[str, torch.Tensor]:
    """Return the filters of the first layer.

    Args:
        network: of the zoo.
        image_size: side of its images in pixels.
        channels: of its images.

    Returns:
        The layer's name, and its weights (filters, channels, height, width). A fully connected layer looks at the whole
        image, so that each of its units has a filter of the image's size.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            return name, layer.weight.detach()
        if isinstance(layer, nn.Linear):
            return name, layer.weight.detach().reshape(-1, channels, image_size, image_size)
    raise ValueError("the network has neither a convolution nor a fully connected layer")


def as_pictures(filters: torch.Tensor) -> torch.Tensor:
    """Scale each filter (N, C, h, w) to 0..1, so that a weight of zero is 0.5, which is grey."""
    largest = filters.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(filters.dtype).tiny)
    return 0.5 + 0.5 * filters / largest
