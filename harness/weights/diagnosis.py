"""Say which network weights belong to, or are most like, if they do not fit the network that was named."""

from __future__ import annotations

import functools

import torch
from torch import nn

from harness.weights.adapt import adapt
from harness.weights.convert import Difference, Tensors, under_our_keys
from harness.weights.key_map import in_order, proposal
from models import MODELS, build_model


@functools.cache
def skeleton(model: str) -> nn.Module:
    """Return the network with its default options on the meta device, where tensors have no values.

    It is the same object each time: nobody may change it.
    """
    with torch.device("meta"):
        return build_model(model)


def likely_cause(model: str, difference: Difference, tensors: Tensors, as_read: Tensors, network: nn.Module) -> str:
    """Name the networks that weights fit, or the one that they are most like.

    Args:
        model: name in the catalogue that the user gave.
        difference: difference from that network.
        tensors: weights under the keys of their file, without a prefix and what is not under it.
        as_read: all tensors of their file, as a key map would call them.
        network: that network.
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
    said = _by_shapes(model, as_read, network)
    if said is not None:
        return said
    nearest = max(MODELS, key=lambda name: (likenesses[name][0] / likenesses[name][1], name == model))
    fitting, whole = likenesses[nearest]
    if 2 * fitting < whole:
        return "these weights fit no network of this zoo"
    return (
        f"these weights are most like {nearest} ({fitting:,} of {whole:,} tensors fit): a variant of it, a "
        "part of it, or one with other options"
    )


def _by_shapes(model: str, tensors: Tensors, network: nn.Module) -> str | None:
    """Name the networks whose shapes weights have in order, under other keys; None if there is none."""
    pairs = in_order(network, tensors)
    others = {name: in_order(skeleton(name), tensors) for name in MODELS} if pairs is None else {}
    fitting = {name: found for name, found in {model: pairs, **others}.items() if found is not None}
    if fitting:
        name, found = next(iter(fitting.items()))
        use = "" if name == model else f"model={name} and "
        return (
            f"its {len(found):,} tensors have the shapes of {' or '.join(fitting)} in order, under other keys: if they "
            f"mean the same, which shapes cannot tell, use {use}weights_map=FILE with this line in FILE: "
            f"{proposal(found)}"
        )
    if in_order(_Unpadded(), tensors) is not None:
        return (
            "these weights are of a LeNet-5 without padding, for 28 x 28 pixels: its first fully connected layer has "
            "16 x 4 x 4 = 256 inputs, where LeNet-5 takes 32 x 32 pixels and has 16 x 5 x 5 = 400; no network of this "
            "zoo takes them: train model=lenet5, which pads such digits, or use its weights=MNIST"
        )
    return None


class _Unpadded(nn.Module):
    """The LeNet of many lessons, on 28x28 pixels: a 5x5 convolution takes four of them, so fc1 is 120x256."""

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 4 * 4, 120), nn.Linear(120, 84), nn.Linear(84, 10)


def likeness(model: str, network: nn.Module, tensors: Tensors) -> tuple[int, int]:
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
