"""A network layer by layer: shapes, parameters and multiply-adds, without any numbers in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from . import build_model
from .catalogue import MODELS


class Layer(NamedTuple):
    """A layer that holds no others.

    Attributes:
        name: as in the network, such as `conv2_x.0.conv1`.
        kind: its class.
        shape: of what it gives for one image, without the batch.
        parameters: trainable numbers.
        multiply_adds: of a convolution or a fully connected layer for one image, without biases; 0 for others.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def multiply_adds(network: nn.Module, channels: int, size: int) -> int:
    """The multiply-adds of a network's convolutions and fully connected layers for one image, without biases.

    Args:
        network: maps images (N, C, H, W) to logits, on any device, the meta device too; its weights are not changed.
        channels: of the image.
        size: side of the image in pixels.
    """
    training, device = network.training, next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval().forward(torch.zeros(1, channels, size, size, device=device))
    network.train(training)
    return int(counter.get_total_flops()) // 2  # torch counts a multiply-add as two


def layers_of(name: str) -> list[Layer]:
    """The layers of a network of the catalogue, in the order in which an image of its own size goes through them.

    Raises:
        ValueError: there is no such network.
    """
    entry = MODELS[name]
    with torch.device("meta"):
        network = build_model(name).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for path, layer in network.named_modules():
        if next(layer.children(), None) is None:
            layer.register_forward_hook(lambda _, __, output, path=path: shapes.update({path: tuple(output.shape[1:])}))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, entry.in_channels, entry.input_size, entry.input_size, device="meta"))
    operations, root = counter.get_flop_counts(), type(network).__name__
    return [
        Layer(
            path,
            type(layer).__name__,
            shape,
            _trainable(layer),
            sum(operations.get(f"{root}.{path}", {}).values()) // 2,  # torch counts a multiply-add as two
        )
        for path, shape in shapes.items()
        for layer in (network.get_submodule(path),)
    ]


def _trainable(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())
