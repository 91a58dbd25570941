"""Stages of a network, their learning rates, which of them are frozen, and which parameters decay otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from harness.config.recipe import FineTuneConfig, RecipeConfig
from harness.errors import UserError, nearest

NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm)

Group = dict[str, Any]  # of an optimiser: its parameters under "params", and settings of their own


class Stage:
    """A stage of a network: a layer or a group of blocks, by its name in the definition.

    Args:
        name: name of the stage, such as `conv2_x` of a ResNet, `conv1_1` of a VGG, `c1` of a LeNet.
        layers: layers of the stage, including a batch norm that follows it in the definition.
    """

    def __init__(self, name: str, layers: list[nn.Module]) -> None:
        self.name = name
        self.layers = layers

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of all its layers."""
        return (parameter for layer in self.layers for parameter in layer.parameters())

    def frozen(self, frozen: bool, *, gradients: bool) -> None:
        """Freeze the stage or let it train.

        Args:
            frozen: whether to freeze it: batch norms in evaluation mode, parameters without gradients.
            gradients: whether gradients are computed although it is frozen; the caller must then drop them.
        """
        for layer in self.layers:
            layer.train(not frozen)
        for parameter in self.parameters():
            parameter.requires_grad_(gradients or not frozen)


def stages(network: nn.Module) -> list[Stage]:
    """Return the stages of a network that have parameters, from the images to the logits; the last one is the head.

    A batch norm that the definition lists beside the layers (`bn1` of a ResNet) belongs to the stage before it.
    """
    found: list[Stage] = []
    for name, layer in network.named_children():
        if found and isinstance(layer, _BatchNorm):
            found[-1].layers.append(layer)
        elif next(layer.parameters(), None) is not None:
            found.append(Stage(name, [layer]))
    return found


def rate_factors(network: nn.Module, recipe: FineTuneConfig) -> dict[str, float]:
    """Return each stage's learning rate as a multiple of the head's, by name, from the images to the logits."""
    *backbone, head = (stage.name for stage in stages(network))
    decays = range(len(backbone) - 1, -1, -1)
    factors = {
        name: recipe.backbone_rate * recipe.layer_decay**decay for name, decay in zip(backbone, decays, strict=True)
    }
    return {**factors, head: 1.0}


def frozen_stages(network: nn.Module, recipe: FineTuneConfig) -> list[Stage]:
    """Return the stages that `recipe.freeze` names.

    Raises:
        UserError: no stage has one of the names, or no stage is left to train.
    """
    known = {stage.name: stage for stage in stages(network)}
    for name in recipe.freeze:
        if name not in known:
            raise UserError(f"recipe.freeze={name}: no such stage; the nearest are: {nearest(name, known)}")
    if set(recipe.freeze) == known.keys():
        raise UserError("recipe.freeze: names every stage, so nothing is left to train; leave at least one out")
    return [known[name] for name in dict.fromkeys(recipe.freeze)]


def split_by_decay(
    groups: Iterable[Group], factors: Iterable[float], network: nn.Module, recipe: RecipeConfig
) -> tuple[list[Group], tuple[float, ...]]:
    """Give normalisation layers and biases the weight decay that the recipe has for them.

    Args:
        groups: groups of parameters.
        factors: learning rate of each group, as a multiple of the scheduled one.
        network: the network that the parameters belong to.
        recipe: `norm_weight_decay` and `bias_weight_decay`; null is the weight decay of the rest.

    Returns:
        The groups, of which those with several decays are divided, and the factor of each.
    """
    decays = _decays(network, recipe)
    parts, their_factors = [], []
    for group, factor in zip(groups, factors, strict=True):
        by_decay: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_decay.setdefault(decays[parameter], []).append(parameter)
        for decay, parameters in by_decay.items():
            parts.append({**group, "params": parameters, "weight_decay": decay})
            their_factors.append(factor)
    return parts, tuple(their_factors)


def _decays(network: nn.Module, recipe: RecipeConfig) -> dict[nn.Parameter, float]:
    """Return the weight decay of each parameter of a network."""
    of_norms = recipe.weight_decay if recipe.norm_weight_decay is None else recipe.norm_weight_decay
    of_biases = recipe.weight_decay if recipe.bias_weight_decay is None else recipe.bias_weight_decay
    decays = {}
    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if isinstance(layer, NORMS):
                decays[parameter] = of_norms
            else:
                decays[parameter] = of_biases if name == "bias" else recipe.weight_decay
    return decays
