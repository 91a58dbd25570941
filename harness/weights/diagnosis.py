"""Weights that do not fit a network: which network they are of, or most like."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from harness.weights.adapt import adapt
from harness.weights.convert import Difference, under_our_keys
from models import MODELS, build_model


def skeleton(model: str) -> nn.Module:
    """The network as the paper has it, without numbers: on the meta device."""
    with torch.device("meta"):
        return build_model(model)


def likely_cause(model: str, difference: Difference, tensors: Mapping[str, torch.Tensor]) -> str:
    """The networks that weights do fit, or the one that they are most like.

    Args:
        model: name in the catalogue that they were meant for.
        difference: from that network.
        tensors: by the keys of their file.
    """
    likenesses = {name: likeness(name, skeleton(name), tensors) for name in MODELS}
    found = [name for name, (fitting, whole) in likenesses.items() if fitting == whole]
    if model in found:
        return f"they are of {model} with the options of configs/model/{model}.yaml"
    if found:
        return f"they are of {' or '.join(found)}: use model={found[0]}"
    if not difference.missing and not difference.unexpected:
        return f"the layers of {model}, in other sizes: set the options of configs/model/{model}.yaml as theirs were"
    nearest = max(MODELS, key=lambda name: (likenesses[name][0] / likenesses[name][1], name == model))
    fitting, whole = likenesses[nearest]
    if 2 * fitting < whole:
        return "they are of no network of this zoo"
    return f"they are most like {nearest}, {fitting:,} of {whole:,} tensors: a variant, other options, or a part of it"


def likeness(model: str, network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """How much weights are of a network, classes and channels apart; it may be on the meta device.

    Returns:
        Tensors that fit, and all tensors of either: equal if the weights are of this network.
    """
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    translated, unexpected = under_our_keys(model, tensors, shapes)
    adapted, _ = adapt(network, translated, False)
    fitting = sum(adapted[key].shape == shapes[key] for key in translated)
    return fitting, len(translated) + len(shapes.keys() - adapted.keys()) + len(unexpected)
