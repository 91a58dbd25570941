"""Adapt pretrained weights to other classes and other channels, for training."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

import torch
from torch import nn


def adapt(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], backbone: bool, other_classes: bool = False
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Replace a classifier that is missing or has other classes, and adapt the first convolution to other channels.

    A replaced classifier gets the network's own initial weights. For one input channel, the first convolution gets the
    sum of the weights over the old channels, so that a grey image gives what it gave as three equal channels. For any
    other number, the old channels are repeated in turn and scaled by old over new number, which keeps the scale of the
    output.

    Args:
        network: network that the tensors must fit.
        tensors: weights under the network's keys; those that fit are not changed.
        backbone: whether the file has no useful fully connected layers, so that all of them are replaced.
        other_classes: whether the classifier is known to have other classes, even if their number is the same.

    Returns:
        The adapted tensors, and a line for each change. Both are without changes if these would replace every layer of
        the network.
    """
    own, adapted, lines = network.state_dict(), dict(tensors), []
    layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    absent = list(takewhile(lambda layer: not any(key.startswith(f"{layer}.") for key in adapted), reversed(layers)))
    other = [layer for layer in layers[-1:] if _other_classes(own, adapted, layer, other_classes)]
    replaced = layers if backbone else [*reversed(absent), *other]
    if {key.rpartition(".")[0] for key in own} <= {*replaced}:  # nothing would be left of the file
        return adapted, ()
    for layer in replaced:
        instead = f" instead of {len(adapted[f'{layer}.weight']):,}" if layer in other and not backbone else ""
        instead += " of other classes" if other_classes and layer in other else ""
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


def _other_classes(
    own: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], layer: str, known: bool
) -> bool:
    """Return whether a layer has the same inputs in both, and other outputs or classes that are known to be others."""
    weight = theirs.get(f"{layer}.weight")
    mine = own[f"{layer}.weight"]
    return weight is not None and weight.shape[1:] == mine.shape[1:] and (known or len(weight) != len(mine))


def _other_channels(own: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Return whether weights (out, in, height, width) differ only in the number of input channels."""
    same = (own.shape[0], *own.shape[2:]) == (theirs.shape[0], *theirs.shape[2:])
    return own.ndim == theirs.ndim and same and own.shape[1] != theirs.shape[1]


def _channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    if channels == 1:
        return weight.sum(1, keepdim=True)
    theirs = weight.shape[1]
    return weight[:, torch.arange(channels) % theirs] * (theirs / channels)
