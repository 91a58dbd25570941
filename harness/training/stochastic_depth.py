"""Stochastic depth: while a network trains, images skip the layers of residual blocks at random [Huang 2016]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from harness.data.loading import stateless
from harness.data.loading.stateless import Stream


class StochasticDepth:
    """Multiplies what the layers of a residual block add to its shortcut by 0 or by one over the chance to stay.

    It is timm's `DropPath` and the mode `row` of torchvision's `stochastic_depth`: each image is drawn for by itself,
    before the addition. The rate rises evenly from 0 in the first block. It acts by hooks within `skipping` alone, so
    that the network, its tensors and every evaluation are as without it.

    Args:
        network: has residual blocks.
        rate: probability to skip the last block.
        seed: of the run.

    Raises:
        ValueError: the network has no residual blocks.
    """

    def __init__(self, network: nn.Module, rate: float, seed: int) -> None:
        blocks = [layer for layer in network.modules() if isinstance(getattr(layer, "shortcut", None), nn.Module)]
        if not blocks:
            raise ValueError("stochastic depth needs a network of residual blocks")
        self.branches = [_Branch(block) for block in blocks]
        self.stays = 1 - rate * torch.arange(len(blocks)).double() / max(len(blocks) - 1, 1)
        self.seed = seed

    @contextmanager
    def skipping(self, epoch: int, keys: torch.Tensor) -> Iterator[None]:
        """Let images skip layers here; who skips which is a pure function of (seed, epoch, key).

        Args:
            epoch: counted from 0.
            keys: of the images of a batch, int64 (N,): `Chosen.keys`.
        """
        draws = stateless.uniform(len(self.stays), self.seed, epoch, Stream.DEPTH, keys)  # (N, blocks)
        stays = self.stays.to(draws.device)
        factors = ((draws < stays) / stays).float().to(keys.device)
        for branch, factor in zip(self.branches, factors.unbind(1), strict=True):
            branch.factor = factor
        try:
            yield
        finally:
            for branch in self.branches:
                branch.factor = None


class _Branch:
    """The layers of one residual block, beside its shortcut; `factor`, float32 (N,), is what images multiply them by.

    Args:
        block: its last layer stands before `shortcut`.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.factor: torch.Tensor | None = None
        layers = list(block._modules)
        block.get_submodule(layers[layers.index("shortcut") - 1]).register_forward_hook(self)

    def __call__(self, layer: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        if self.factor is None or not self.block.training:  # a stage that is frozen does not train
            return None
        return output * self.factor.to(output).view(-1, 1, 1, 1)
