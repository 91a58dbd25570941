"""The effective receptive field: how much a unit really depends on each pixel of its theoretical field.

Paper: Luo, Li, Urtasun, Zemel 2016, Understanding the Effective Receptive Field in Deep Convolutional Neural Networks,
arXiv 1701.04128: the gradient of the unit with respect to the pixels, averaged over images.
"""

from __future__ import annotations

import torch
from torch import nn

from harness.insight.stages import forward


def effective_field(
    network: nn.Module, images: torch.Tensor, stage: str, channel: int, row: int, column: int
) -> torch.Tensor:
    """Average the magnitude of a unit's gradient over images.

    Args:
        network: of the zoo, in evaluation mode.
        images: float32 (N, C, H, W), normalised.
        stage: whose map the unit is in.
        channel: the map.
        row: of the unit in its map.
        column: of the unit in its map.

    Returns:
        float32 (H, W), added over the channels of the images. An image that leaves a rectified unit off adds nothing.
    """
    total = torch.zeros(images.shape[2:], device=images.device)
    for image in images[:, None]:  # one by one: the maps of a large network need much memory
        with torch.enable_grad():
            pixels = image.detach().requires_grad_()
            maps, _ = forward(network, pixels)
            (gradient,) = torch.autograd.grad(maps[stage][0, channel, row, column], pixels)
        total += gradient.abs().sum((0, 1))
    return total / len(images)


def holding(field: torch.Tensor, share: float = 0.95) -> torch.Tensor:
    """Mark the fewest pixels that hold a share of a field (H, W); bool (H, W), nothing if the field is zero."""
    values, order = field.flatten().double().sort(descending=True)
    until = values.cumsum(0)
    needed = int((until < share * until[-1]).sum()) + 1 if until[-1] > 0 else 0
    marked = torch.zeros_like(field, dtype=torch.bool).flatten()
    marked[order[:needed]] = True
    return marked.view_as(field)
