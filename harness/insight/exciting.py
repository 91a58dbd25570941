"""The images of a set that excite one map most.

Paper: Zeiler, Fergus 2014, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901, Fig. 2 shows the
images with the largest activations of a map.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from harness.insight.stages import forward


@dataclass(frozen=True)
class Excited:
    """An image, and where it excites the map most.

    Attributes:
        position: of the image in the set.
        value: of the map, at its largest.
        row: where that is in the map.
        column: where that is in the map.
        image: float32 (C, H, W), normalised, on the CPU.
    """

    position: int
    value: float
    row: int
    column: int
    image: torch.Tensor


@torch.no_grad()
def most_exciting(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    stage: str,
    channel: int,
    count: int,
) -> list[Excited]:
    """Find the images that excite a map most, by its largest value.

    Args:
        network: of the zoo, in evaluation mode.
        batches: positions int64 (n,) and normalised images float32 (n, C, H, W).
        stage: whose map it is.
        channel: the map.
        count: how many images are wanted.

    Returns:
        At most `count` images, the most exciting first; of equals, the one that comes first in the set.
    """
    best: list[Excited] = []
    for positions, images in batches:
        maps, _ = forward(network, images)
        found = maps[stage][:, channel]  # (n, height, width)
        values, places = found.flatten(1).max(1)
        batch = [
            Excited(position, value, place // found.shape[2], place % found.shape[2], image)
            for position, value, place, image in zip(
                positions.tolist(), values.tolist(), places.tolist(), images, strict=True
            )
        ]
        best = heapq.nsmallest(count, best + batch, key=lambda one: (-one.value, one.position))
        best = [Excited(one.position, one.value, one.row, one.column, one.image.cpu()) for one in best]
    return best
