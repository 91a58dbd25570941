"""Compute one score for each class from images, and set the memory layout of the network that does it."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from harness.data.loading.loader import Pictures
from harness.evaluation.dense import dense_logits


class Arithmetic(Protocol):
    """Settings of the arithmetic that recipes and protocols share; Lightning's trainer handles the precision."""

    channels_last: bool
    compile: bool


def prepare(network: nn.Module, how: Arithmetic, cuda_graphs: bool = False) -> None:
    """Set the memory layout of the weights and compile the network, in place; no weight changes.

    The layout from training is undone, so that an evaluation after training rounds like one of its checkpoint.
    """
    network.to(memory_format=torch.channels_last if how.channels_last else torch.contiguous_format)
    if how.compile:
        network.compile(mode="reduce-overhead" if cuda_graphs else None)


def laid_out(images: torch.Tensor, how: Arithmetic) -> torch.Tensor:
    """Return images (N, C, H, W) in the memory layout that the prepared network expects."""
    return images.contiguous(memory_format=torch.channels_last) if how.channels_last else images


def class_scores(network: nn.Module, images: torch.Tensor | Pictures, how: Arithmetic, batch_size: int) -> torch.Tensor:
    """Return one row of scores for each image.

    Args:
        network: maps images (N, C, H, W) to logits (N, K).
        images: float32 (N, C, H, W), or (N, V, C, H, W) with V views of each image; or whole images, whose views are
            their scales, upright and mirrored.
        how: settings of the memory layout.
        batch_size: size to which a smaller batch is padded. Rounding depends on the size of a batch, so with one size
            the scores of an image depend neither on its neighbours nor on the number of devices, and a network is
            compiled only once.

    Returns:
        float32 (N, K): logits; for several views, the logarithm of the mean of their softmax outputs.
    """
    if isinstance(images, Pictures):
        return _mean_over_views(dense_logits(network, images, how.channels_last), len(images.scaled))
    views = images.shape[1] if images.ndim == 5 else 1
    flat = images.flatten(0, 1) if images.ndim == 5 else images
    if len(images) < batch_size:
        flat = F.pad(flat, (0, 0) * 3 + (0, (batch_size - len(images)) * views))
    logits: torch.Tensor = network(laid_out(flat, how))[: len(images) * views].float()
    if views == 1:
        return logits
    return _mean_over_views(logits, len(images))


def _mean_over_views(logits: torch.Tensor, images: int) -> torch.Tensor:
    """The logarithm of the mean of the softmax outputs of an image's views, which follow each other: (images, K)."""
    return logits.log_softmax(1).view(images, -1, logits.shape[1]).logsumexp(1) - math.log(len(logits) // images)
