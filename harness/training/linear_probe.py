"""Linear probe: train only the last layer of a network, on features that are computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from harness.config.recipe import RecipeConfig
from harness.evaluation.scores import prepare
from harness.training.classifier import PREFIX, Classifier
from harness.training.features import head_of
from harness.training.losses import Loss


class LinearProbe(Classifier):
    """Trains only the last linear layer; its checkpoints hold the whole network, like those of any other run.

    Args:
        network: maps images (N, C, H, W) to logits (N, K), with a linear layer at its end.
        recipe: loss, optimiser and schedule.
        steps_per_epoch: number of batches of an epoch.
        seed: seed of the order of images.
        loss: loss to use instead of the recipe's; None for the recipe's.
        accumulate: number of parts in which a device computes its share of a batch.

    Raises:
        UserError: the network does not end in a linear layer.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeConfig,
        steps_per_epoch: int,
        seed: int,
        loss: Loss | None = None,
        accumulate: int = 1,
    ) -> None:
        plain = dataclasses.replace(recipe, channels_last=False, compile=False)  # a matrix of features has no channels
        super().__init__(head_of(network), plain, steps_per_epoch, seed, loss, accumulate)
        prepare(
            network, dataclasses.replace(recipe, compile=False)
        )  # compiling does not pay: each image goes through once
        self._whole = (network,)  # in a tuple, because torch would register and train a submodule

    @property
    def whole(self) -> nn.Module:
        """The network that the head belongs to."""
        return self._whole[0]

    @property
    def prefix(self) -> str:
        """What begins the keys of the head's tensors in a checkpoint."""
        name, _ = list(self.whole.named_children())[-1]
        return f"{PREFIX}{name}."

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # one form is enough
        """Return the tensors of the whole network."""
        return {f"{PREFIX}{key}": value for key, value in self.whole.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what `state_dict` returned."""
        tensors = {key.removeprefix(PREFIX): value for key, value in state_dict.items()}
        return self.whole.load_state_dict(tensors, strict, assign)
