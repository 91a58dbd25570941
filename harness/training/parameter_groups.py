"""Which parameters learn, and how fast: a network's stages, their rates, and those that are frozen."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.config.recipe import FineTuneConfig
from harness.errors import UserError, nearest


class Stage:
    """A stage of a network: a layer or a group of blocks under the name that the definition gives it.

    Args:
        name: such as `conv2_x` of a ResNet, `conv1_1` of a VGG, `c1` of a LeNet.
        layers: of the stage; a batch norm beside it belongs to it.
    """

    def __init__(self, name: str, layers: list[nn.Module]) -> None:
        self.name = name
        self.layers = layers

    def parameters(self) -> Iterator[nn.Parameter]:
        """Of all its layers."""
        return (parameter for layer in self.layers for parameter in layer.parameters())

    def frozen(self, frozen: bool, *, gradients: bool) -> None:
        """Freeze it or train it: batch norms in evaluation mode or not, and parameters without gradients or with them.

        Args:
            frozen: which of the two.
            gradients: whether they are computed even so; the caller drops them.
        """
        for layer in self.layers:
            layer.train(not frozen)
        for parameter in self.parameters():
            parameter.requires_grad_(gradients or not frozen)


def stages(network: nn.Module) -> list[Stage]:
    """The stages of a network that have parameters, from the images to the logits; the last one is its head.

    A batch norm that stands beside the layers in the definition (`bn1` of a ResNet) belongs to the stage before it.
    """
    found: list[Stage] = []
    for name, layer in network.named_children():
        if found and isinstance(layer, _BatchNorm):
            found[-1].layers.append(layer)
        elif next(layer.parameters(), None) is not None:
            found.append(Stage(name, [layer]))
    return found


def rate_factors(network: nn.Module, recipe: FineTuneConfig) -> dict[str, float]:
    """The learning rate of each stage over that of the head, by name, from the images to the logits."""
    *backbone, head = (stage.name for stage in stages(network))
    decays = range(len(backbone) - 1, -1, -1)
    factors = {
        name: recipe.backbone_rate * recipe.layer_decay**decay for name, decay in zip(backbone, decays, strict=True)
    }
    return {**factors, head: 1.0}


def frozen_stages(network: nn.Module, recipe: FineTuneConfig) -> list[Stage]:
    """The stages that `recipe.freeze` names.

    Raises:
        UserError: a name that no stage has, or no stage left to train.
    """
    known = {stage.name: stage for stage in stages(network)}
    for name in recipe.freeze:
        if name not in known:
            raise UserError(f"recipe.freeze={name}: no such stage; the nearest are: {nearest(name, known)}")
    if set(recipe.freeze) == known.keys():
        raise UserError("recipe.freeze names every stage and leaves nothing to train")
    return [known[name] for name in dict.fromkeys(recipe.freeze)]
