"""Cross-entropy in which every class has the same weight, however many images it has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def balanced_weights(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return a weight for each class, inversely proportional to its images; the mean over all images is 1.

    Args:
        labels: labels of the training split, int64 (N,).
        num_classes: number of classes K; a class without images gets weight 0.

    Returns:
        float32 (K,): N / (number of classes with images * number of images of the class).
    """
    images = labels.cpu().bincount(minlength=num_classes).double()
    present = images > 0
    return torch.where(present, len(labels) / (present.sum() * images.clamp(min=1)), 0.0).float()


class WeightedCrossEntropy(nn.Module):
    """Mean over a batch of the cross-entropy, in nats, times the weight of the image's class.

    torch's own `weight=` divides by the sum of the weights instead of the number of images, so that the mean over
    batches or devices would not be the mean over images.

    Args:
        weights: weight of each class, float32 (K,).
    """

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of logits (N, K) and labels int64 (N,)."""
        losses = F.cross_entropy(logits, labels, weight=self.get_buffer("weights"), reduction="sum")
        return losses / len(labels)
