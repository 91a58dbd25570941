"""What each layer costs: its shape, parameters, multiply-adds and time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

RUNS = 7  # of which the median is taken
LONG = 2.0  # seconds after which no further run starts


@dataclass(frozen=True)
class Layer:
    """One layer of a network, or a stage that holds others.

    Attributes:
        name: as in the network, such as `conv2_x.0.conv1`.
        kind: its class.
        shape: of what it gives for one image.
        parameters: trainable numbers, of its layers, too.
        multiply_adds: of convolutions and fully connected layers, for one image, without biases.
        milliseconds: median time for one image.
        holds_others: whether it is made of further layers of the list.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    milliseconds: float
    holds_others: bool

    @property
    def depth(self) -> int:
        """How many layers it lies in; 0 for those of the network itself."""
        return self.name.count(".")


@torch.no_grad()
def layers_of(network: nn.Module, image: torch.Tensor) -> list[Layer]:
    """List the layers in the order in which an image goes into them; those that it does not reach are left out.

    Args:
        network: in evaluation mode.
        image: float32 (C, H, W), normalised.
    """
    with FlopCounterMode(display=False) as counter:
        network(image[None])  # and warms up
    operations = counter.get_flop_counts()
    shapes, times = _timed(network, image)
    root = type(network).__name__
    return [
        Layer(
            name,
            type(layer).__name__,
            shapes[name],
            sum(parameter.numel() for parameter in layer.parameters()),
            sum(operations.get(f"{root}.{name}", {}).values()) // 2,  # torch counts a multiply-add as two
            1000 * statistics.median(times[name]),
            any(True for _ in layer.children()),
        )
        for name, layer in ((name, network.get_submodule(name)) for name in times)
    ]


Times = dict[str, list[float]]


def _timed(network: nn.Module, image: torch.Tensor) -> tuple[dict[str, tuple[int, ...]], Times]:
    """Shapes, and seconds of each run, of every layer in the order of entering."""
    shapes: dict[str, tuple[int, ...]] = {}
    times: Times = {}
    begun: dict[str, float] = {}
    wait: Callable[[], None] = partial(torch.cuda.synchronize, image.device) if image.is_cuda else lambda: None

    def enter(name: str, *_: Any) -> None:
        times.setdefault(name, [])
        wait()
        begun[name] = time.perf_counter()

    def leave(name: str, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        wait()
        times[name].append(time.perf_counter() - begun[name])
        shapes[name] = tuple(output.shape[1:])

    hooks = []
    for name, layer in network.named_modules():
        if name:
            hooks.append(layer.register_forward_pre_hook(partial(enter, name)))
            hooks.append(layer.register_forward_hook(partial(leave, name)))
    start = time.perf_counter()
    try:
        for run in range(RUNS):
            if run == 0 or time.perf_counter() - start < LONG:
                network(image[None])
    finally:
        for hook in hooks:
            hook.remove()
    return shapes, times
