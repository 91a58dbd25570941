"""The feature maps of a network by the names of its stages, as the next layer gets them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

FINISH = (nn.BatchNorm2d, nn.ReLU)  # layers that finish the maps of the stage before them, and are none of their own


@dataclass(frozen=True)
class Stage:
    """A stage that gives feature maps.

    Attributes:
        name: as in the network's definition, such as `c3` or `conv4_x`.
        channels: number of its maps.
        height: of each map.
        width: of each map.
    """

    name: str
    channels: int
    height: int
    width: int


def forward(network: nn.Module, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Compute the feature maps and the logits of images.

    The maps of a stage are those that the next layer gets, behind normalisation and activation function. There is one
    exception: in `lenet4` the maps of `c1` are doubled on their way, so those of `c1` are its plain sums.

    Args:
        network: of the zoo, in evaluation mode.
        images: float32 (N, C, H, W), normalised.

    Returns:
        The maps (N, channels, height, width) by stage, in order, with their gradients if torch records them; and the
        logits (N, K). A fully connected network has no maps.
    """
    with _caught(network) as maps:
        features: torch.Tensor = network.forward_features(images)  # type: ignore[operator]  # every network has it
    if maps and features.ndim == 4:
        maps[[*maps][-1]] = features
    logits: torch.Tensor = network.forward_head(features)  # type: ignore[operator]
    return maps, logits


def stages(network: nn.Module, image: torch.Tensor) -> list[Stage]:
    """List the stages that give feature maps of an image, (C, H, W), in order."""
    with torch.no_grad():
        maps, _ = forward(network, image[None])
    return [Stage(name, *found.shape[1:]) for name, found in maps.items()]


@contextmanager
def _caught(network: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Catch the maps between the network's own layers while it runs."""
    maps: dict[str, torch.Tensor] = {}

    def enter(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if maps and inputs[0].shape == maps[[*maps][-1]].shape:
            maps[[*maps][-1]] = inputs[0]

    def leave(name: str, layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        if output.ndim == 4 and not isinstance(layer, FINISH):
            maps[name] = output

    hooks = []
    for name, layer in network.named_children():
        hooks += [layer.register_forward_pre_hook(enter), layer.register_forward_hook(partial(leave, name))]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
