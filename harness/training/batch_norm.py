"""Batch norms: a batch of one image, which has no useful statistics, and statistics of many batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.data.loading.loader import Batch
from harness.training.epoch_counters import Reduce


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


def norms_that_train(network: nn.Module) -> list[str]:
    """Return the names of a network's batch norms that use the statistics of a batch now."""
    return [name for name, layer in network.named_modules() if isinstance(layer, _BatchNorm) and layer.training]


@torch.no_grad()
def measure(
    layers: Sequence[_BatchNorm], forward: Callable[[torch.Tensor], object], batches: Iterable[Batch], reduce: Reduce
) -> None:
    """Give batch norms the means over batches of the mean and the variance of their inputs, not running ones.

    In each batch they use its own statistics, as in training [Ioffe 2015, algorithm 2, line 10]. A smaller last batch,
    whose images would count for more than others, is left out.

    Args:
        layers: batch norms of a network in evaluation mode.
        forward: applies the network to images (N, C, H, W).
        batches: this device's shares of the batches; not all devices' are empty.
        reduce: over the processes of the run.
    """
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    usual = None
    for batch in batches:
        usual = usual or batch.global_size
        if batch.global_size == usual and len(batch.labels):
            forward(batch.images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
        for statistic in (layer.running_mean, layer.running_var):
            assert statistic is not None, "our batch norms keep statistics"
            statistic.copy_(reduce(statistic, "mean"))
