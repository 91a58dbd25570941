"""Train on a batch of one image, which has no useful batch statistics."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def forward_one(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the logits of one image (1, C, H, W); batch norms use their running statistics and do not update them.

    Statistics of one image are those of its pixels alone, and if a layer has one pixel, torch refuses to compute them.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.training]
    for layer in norms:
        layer.eval()
    try:
        logits: torch.Tensor = network(images)
    finally:
        for layer in norms:
            layer.train()
    return logits
