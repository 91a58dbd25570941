"""A linear probe: the last layer of a frozen network, trained on features that are computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from harness.config.recipe import RecipeConfig
from harness.evaluation.scores import prepare
from harness.training.classifier import Classifier
from harness.training.features import head_of
from harness.training.losses import Loss

PREFIX = "network."  # of the keys in a checkpoint


class LinearProbe(Classifier):
    """Trains the last linear layer alone; its checkpoints hold the whole network, as any other run's do.

    Args:
        network: maps images (N, C, H, W) to logits (N, K) by a linear layer at its end.
        recipe: loss, optimiser and schedule.
        steps_per_epoch: batches of an epoch.
        seed: of the order of images.
        loss: in place of the recipe's; None for that.

    Raises:
        UserError: the network does not end in a linear layer.
    """

    def __init__(
        self, network: nn.Module, recipe: RecipeConfig, steps_per_epoch: int, seed: int, loss: Loss | None = None
    ) -> None:
        plain = dataclasses.replace(recipe, channels_last=False, compile=False)  # a matrix of features has no channels
        super().__init__(head_of(network), plain, steps_per_epoch, seed, loss)
        prepare(network, dataclasses.replace(recipe, compile=False))  # each image goes through it once
        self._whole = (network,)  # in a tuple, so that it is no submodule, whose weights would be trained

    @property
    def whole(self) -> nn.Module:
        """The network that the head belongs to."""
        return self._whole[0]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # one form is enough
        """Of the whole network."""
        return {f"{PREFIX}{key}": value for key, value in self.whole.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """The inverse of `state_dict`."""
        tensors = {key.removeprefix(PREFIX): value for key, value in state_dict.items()}
        return self.whole.load_state_dict(tensors, strict, assign)
