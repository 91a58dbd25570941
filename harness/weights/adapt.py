"""Weights made to fit other classes and other channels, when a network is to be trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def adapt(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], backbone: bool
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Replace the classifier if it tells other classes apart, and fit the first convolution to other channels.

    A classifier that is replaced keeps the numbers that the network has. A first convolution for one channel is the sum
    over theirs, so that a grey image gives what it gave in equal channels; for any other number, theirs are repeated in
    turn and scaled by their number over ours, which keeps the size of what comes out.

    Args:
        network: whose state_dict the tensors are to fit.
        tensors: under its keys; what fits already is left as it is.
        backbone: whether the fully connected layers hold nothing and are replaced, all of them.

    Returns:
        The tensors, and a line for each change.
    """
    own, adapted, lines = network.state_dict(), dict(tensors), []
    layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    replaced = layers if backbone else [layer for layer in layers[-1:] if _other_classes(own, adapted, layer)]
    for layer in replaced:
        theirs = adapted.get(f"{layer}.weight")
        instead = f" instead of {len(theirs):,}" if theirs is not None and not backbone else ""
        lines.append(f"{layer} is new, with {len(own[f'{layer}.weight']):,} outputs{instead}")
        adapted |= {key: own[key] for key in own if key.rpartition(".")[0] == layer}
    first = next((name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)), None)
    key = f"{first}.weight"
    if first is not None and key in adapted and _other_channels(own[key], adapted[key]):
        before, after = adapted[key].shape[1], own[key].shape[1]
        adapted[key] = _channels(adapted[key], after)
        how = f"the sum over {before}" if after == 1 else f"{before} repeated in turn, times {before}/{after}"
        lines.append(f"{first} takes {after} channel{'s' if after > 1 else ''}: {how}")
    return adapted, tuple(lines)


def _other_classes(own: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], layer: str) -> bool:
    """Whether the layers differ in the number of outputs alone."""
    weight = theirs.get(f"{layer}.weight")
    mine = own[f"{layer}.weight"]
    return weight is not None and weight.shape[1:] == mine.shape[1:] and len(weight) != len(mine)


def _other_channels(own: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether weights (out, in, height, width) differ in the number of input channels alone."""
    same = (own.shape[0], *own.shape[2:]) == (theirs.shape[0], *theirs.shape[2:])
    return own.ndim == theirs.ndim and same and own.shape[1] != theirs.shape[1]


def _channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    if channels == 1:
        return weight.sum(1, keepdim=True)
    theirs = weight.shape[1]
    return weight[:, torch.arange(channels) % theirs] * (theirs / channels)
