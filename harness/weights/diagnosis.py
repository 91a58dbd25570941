"""Say which network weights belong to, or are most like, if they do not fit the network that was named."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from harness.weights.adapt import adapt
from harness.weights.convert import Difference, under_our_keys
from models import MODELS, build_model


def skeleton(model: str) -> nn.Module:
    """Return the network with its default options on the meta device, where tensors have no values."""
    with torch.device("meta"):
        return build_model(model)


def likely_cause(model: str, difference: Difference, tensors: Mapping[str, torch.Tensor]) -> str:
    """Name the networks that weights fit, or the one that they are most like.

    Args:
        model: name in the catalogue that the user gave.
        difference: difference from that network.
        tensors: weights under the keys of their file.
    """
    likenesses = {name: likeness(name, skeleton(name), tensors) for name in MODELS}
    found = [name for name, (fitting, whole) in likenesses.items() if fitting == whole]
    if model in found:
        return f"these weights fit {model} with the options of configs/model/{model}.yaml"
    if found:
        return f"these weights fit {' or '.join(found)}: use model={found[0]}"
    if not difference.missing and not difference.unexpected:
        return (
            f"these weights have the layers of {model} in other sizes: set the options that "
            f"configs/model/{model}.yaml lists to those of the weights"
        )
    nearest = max(MODELS, key=lambda name: (likenesses[name][0] / likenesses[name][1], name == model))
    fitting, whole = likenesses[nearest]
    if 2 * fitting < whole:
        return "these weights fit no network of this zoo"
    return (
        f"these weights are most like {nearest} ({fitting:,} of {whole:,} tensors fit): a variant of it, a "
        "part of it, or one with other options"
    )


def likeness(model: str, network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """Count how many tensors of weights fit a network, whatever its classes and channels.

    Args:
        model: name of the network in the catalogue.
        network: the network, which may be on the meta device.
        tensors: weights under the keys of their file.

    Returns:
        The number of tensors that fit, and the number that either has: equal if the weights fit the network.
    """
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    translated, unexpected = under_our_keys(model, tensors, shapes)
    adapted, _ = adapt(network, translated, False)
    fitting = sum(adapted[key].shape == shapes[key] for key in translated)
    return fitting, len(translated) + len(shapes.keys() - adapted.keys()) + len(unexpected)
