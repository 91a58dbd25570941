"""The feature maps of one image, the strongest first."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from harness.insight.stages import forward


class Strongest(NamedTuple):
    """The strongest maps of a stage.

    Attributes:
        channels: int64 (k,), which maps, the strongest first.
        maps: float32 (k, height, width).
        of: number of maps that the stage has.
    """

    channels: torch.Tensor
    maps: torch.Tensor
    of: int


@torch.no_grad()
def strongest_maps(network: nn.Module, image: torch.Tensor, count: int) -> dict[str, Strongest]:
    """Return the strongest maps of each stage, in order; nothing for a fully connected network.

    A map is as strong as its largest value. Of equals, the one of the lower channel comes first.

    Args:
        network: of the zoo, in evaluation mode.
        image: float32 (C, H, W), normalised.
        count: most maps of a stage.
    """
    found = {}
    maps, _ = forward(network, image[None])
    for name, (own,) in maps.items():
        channels = own.amax((1, 2)).argsort(descending=True, stable=True)[:count]
        found[name] = Strongest(channels.cpu(), own[channels].cpu(), len(own))
    return found


@torch.no_grad()
def strongest_unit(
    network: nn.Module, image: torch.Tensor, stage: str, channel: int | None = None
) -> tuple[int, int, int]:
    """Return channel, row and column of the largest value of a stage, or of one of its maps; of equals, the first."""
    maps, _ = forward(network, image[None])
    (own,) = maps[stage]
    if channel is None:
        channel = int(own.amax((1, 2)).argmax())
    row, column = divmod(int(own[channel].argmax()), own.shape[2])
    return channel, row, column
