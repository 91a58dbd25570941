"""Fine-tuning: a rate for each stage, and stages that are frozen, for good or until an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from harness.config.recipe import FineTuneConfig, RecipeConfig
from harness.run.log import log
from harness.training.classifier import Classifier
from harness.training.losses import Loss
from harness.training.parameter_groups import frozen_stages, rate_factors, stages


class FineTuner(Classifier):
    """Trains every stage of a network at its own rate, except those that are frozen.

    What is frozen for good has no gradients, and is not in the optimiser. What thaws at an epoch is in it from the
    start, because DDP counts the parameters that have gradients once: on several devices its gradients are computed,
    and dropped before the step, so that neither weight decay nor momentum moves it. The updates are the same.

    Args:
        network: maps images (N, C, H, W) to logits (N, K).
        recipe: with rates and stages to freeze.
        steps_per_epoch: batches of an epoch.
        seed: of dropout and the like, together with step and rank.
        loss: in place of the recipe's; None for that.

    Raises:
        UserError: a stage to freeze that the network does not have, or no stage left to train.
    """

    def __init__(
        self, network: nn.Module, recipe: RecipeConfig, steps_per_epoch: int, seed: int, loss: Loss | None = None
    ) -> None:
        super().__init__(network, recipe, steps_per_epoch, seed, loss)
        assert isinstance(recipe, FineTuneConfig)
        self.frozen = recipe.freeze
        self.thaws_at = recipe.unfreeze_epoch
        self._frozen = frozen_stages(network, recipe)
        factors = rate_factors(network, recipe)
        if self.thaws_at is None:
            for stage in self._frozen:
                for parameter in stage.parameters():  # before DDP counts those that have gradients
                    parameter.requires_grad_(False)
                del factors[stage.name]
        self.groups = [
            {"params": list(stage.parameters()), "name": stage.name}
            for stage in stages(network)
            if stage.name in factors
        ]
        self.rate_factors = tuple(factors.values())

    def on_train_start(self) -> None:
        """Say what learns how fast; freeze what the first epoch, or the one that goes on, does not train."""
        super().on_train_start()
        self._freeze()
        log.info("learning rates, over the head's: " + ", ".join(self._rates()))

    def _rates(self) -> Iterator[str]:
        factors = {str(group["name"]): factor for group, factor in zip(self.groups, self.rate_factors, strict=True)}
        for stage in stages(self.network):
            name, until = stage.name, f" from epoch {self.thaws_at}" if stage.name in self.frozen else ""
            yield f"{name} {factors[name]:.2g}{until}" if name in factors else f"{name} frozen"

    def on_train_epoch_start(self) -> None:
        """Thaw at the epoch that does."""
        super().on_train_epoch_start()
        self._freeze()

    @property
    def is_frozen(self) -> bool:
        """Whether this epoch freezes anything."""
        epoch = self.global_step // self.steps_per_epoch + 1
        return bool(self._frozen) and (self.thaws_at is None or epoch < self.thaws_at)

    def _freeze(self) -> None:
        for stage in self._frozen:
            stage.frozen(self.is_frozen, gradients=self.thaws_at is not None and self.trainer.world_size > 1)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop gradients of what is frozen: SGD passes by a parameter without one."""
        if self.is_frozen:
            for stage in self._frozen:
                for parameter in stage.parameters():
                    parameter.grad = None
