"""Cross-entropy in which every class counts alike, however many images it has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def balanced_weights(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """A weight for each class, inversely proportional to its images; the mean over the images is 1.

    Args:
        labels: int64 (N,), of the training split.
        num_classes: K; a class without images gets weight 0.

    Returns:
        float32 (K,): N over the classes that have images, over the images of the class.
    """
    images = labels.cpu().bincount(minlength=num_classes).double()
    present = images > 0
    return torch.where(present, len(labels) / (present.sum() * images.clamp(min=1)), 0.0).float()


class WeightedCrossEntropy(nn.Module):
    """The mean over a batch's images of cross-entropy times the weight of the class, in nats.

    torch's own `weight=` divides by the weights of the batch instead of its images: then the mean over an epoch, or
    over several devices, would not be the mean over its images.

    Args:
        weights: float32 (K,), of each class.
    """

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """A scalar, of logits (N, K) and labels int64 (N,)."""
        losses = F.cross_entropy(logits, labels, weight=self.get_buffer("weights"), reduction="sum")
        return losses / len(labels)
