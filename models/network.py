"""What every network of the zoo has, whatever its paper: the names that users of timm and torchvision look for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import torch
import torch.fx
from torch import nn

Row = TypeVar("Row")
Options = ParamSpec("Options")
AnyNetwork = TypeVar("AnyNetwork", bound="Network")


@torch.fx.wrap
def check_batch(images: torch.Tensor) -> None:
    """Raise `ValueError` unless there are four dimensions, (N, C, H, W). Tracers do not look inside."""
    if images.ndim != 4:
        raise ValueError(
            f"images should be (N, C, H, W), not {tuple(images.shape)}; images[None] makes a batch of a single one"
        )


class Network(nn.Module):
    """A network in two parts: images to features, and features to logits.

    The features end where timm's do: at the last feature map, before it is averaged or flattened. `mlp` has no feature
    map; its features are the units of its last hidden layer.

    Attributes:
        num_features: channels of the features.
    """

    num_features: int

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, in_channels, H, W) to features (N, num_features, H', W'), or (N, num_features) in `mlp`."""
        raise NotImplementedError  # each network defines it beside its layers

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """Features, as `forward_features` gives them, to logits (N, num_classes)."""
        raise NotImplementedError  # each network defines it beside its layers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, in_channels, H, W) to logits (N, num_classes)."""
        check_batch(images)
        return self.forward_head(self.forward_features(images))

    @property
    def classifier_name(self) -> str:
        """The name of the layer that gives the logits. It is the last layer of every network."""
        return list(self._modules)[-1]

    def get_classifier(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.get_submodule(self.classifier_name)


def builder(
    network: Callable[Concatenate[Row, Options], AnyNetwork], row: Row, doc: str
) -> Callable[Options, AnyNetwork]:
    """A function that builds one network of a family.

    Args:
        network: the family's class. Its first argument names a row of the paper's table, the others are options.
        row: the row.
        doc: docstring of the function.

    Returns:
        The function. It takes the options of the class, with their names, types and defaults.
    """
    build = partial(network, row)
    build.__doc__ = doc
    return build
