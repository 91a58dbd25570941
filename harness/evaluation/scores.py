"""From images to one score for each class, and how a network lies in memory while it does that."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn


class Arithmetic(Protocol):
    """What a recipe and a protocol both say of it; precision is the trainer's."""

    channels_last: bool
    compile: bool


def prepare(network: nn.Module, how: Arithmetic) -> None:
    """Lay the weights out and compile the network, in place; its state and its numbers stay what they are.

    They may lie otherwise before: an evaluation at the end of a training run rounds like one of its checkpoint.
    """
    network.to(memory_format=torch.channels_last if how.channels_last else torch.contiguous_format)
    if how.compile:
        network.compile()


def laid_out(images: torch.Tensor, how: Arithmetic) -> torch.Tensor:
    """Images (N, C, H, W) as they lie in memory for a network that is prepared."""
    return images.contiguous(memory_format=torch.channels_last) if how.channels_last else images


def class_scores(network: nn.Module, images: torch.Tensor, how: Arithmetic, batch_size: int) -> torch.Tensor:
    """One row of scores for each image.

    Args:
        network: maps images (N, C, H, W) to logits (N, K).
        images: float32 (N, C, H, W), or (N, V, C, H, W) with V views of each.
        how: the memory format.
        batch_size: what a smaller batch is filled up to: rounding depends on the size of a batch, so that the scores of
            an image depend neither on its neighbours nor on the number of devices; and a compiled network meets one
            size.

    Returns:
        float32 (N, K): logits; for several views, the logarithm of the mean of their softmax outputs.
    """
    views = images.shape[1] if images.ndim == 5 else 1
    flat = images.flatten(0, 1) if images.ndim == 5 else images
    if len(images) < batch_size:
        flat = F.pad(flat, (0, 0) * 3 + (0, (batch_size - len(images)) * views))
    logits: torch.Tensor = network(laid_out(flat, how))[: len(images) * views].float()
    if views == 1:
        return logits
    return logits.log_softmax(1).view(len(images), views, -1).logsumexp(1) - math.log(views)
