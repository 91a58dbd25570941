"""Fine-tuning: each stage has its own learning rate, and some are frozen, for good or until an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from harness.config.recipe import FineTuneConfig, RecipeConfig
from harness.run.log import log
from harness.training.classifier import Classifier
from harness.training.losses import Loss
from harness.training.parameter_groups import Group, frozen_stages, rate_factors, stages


class FineTuner(Classifier):
    """Trains every stage of a network at its own rate, except the frozen ones.

    A stage that is frozen for good has no gradients and is not in the optimiser. A stage that starts to train at a
    later epoch is in the optimiser from the start, because DDP counts the parameters with gradients only once. On
    several devices its gradients are computed and dropped before the step, so that neither weight decay nor momentum
    changes it; the updates are the same as on one device.

    Args:
        network: maps images (N, C, H, W) to logits (N, K).
        recipe: learning rates and stages to freeze, loss, optimiser and schedule.
        steps_per_epoch: number of batches of an epoch.
        seed: seed of dropout and other random layers, combined with step and rank.
        loss: loss to use instead of the recipe's; None for the recipe's.
        accumulate: number of parts in which a device computes its share of a batch.

    Raises:
        UserError: the network has no stage of a name in `recipe.freeze`, or no stage is left to train.
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
        super().__init__(network, recipe, steps_per_epoch, seed, loss, accumulate)
        assert isinstance(recipe, FineTuneConfig)
        self.frozen = recipe.freeze
        self.thaws_at = recipe.unfreeze_epoch
        self._frozen = frozen_stages(network, recipe)
        factors = rate_factors(network, recipe)
        if self.thaws_at is None:
            for stage in self._frozen:
                for parameter in stage.parameters():  # before DDP counts the parameters with gradients
                    parameter.requires_grad_(False)
                del factors[stage.name]
        groups: list[Group] = [
            {"params": list(stage.parameters()), "name": stage.name}
            for stage in stages(network)
            if stage.name in factors
        ]
        self._set_groups(groups, factors.values())

    def on_train_start(self) -> None:
        """Log the learning rate of each stage, and freeze the stages that the current epoch does not train."""
        super().on_train_start()
        self._freeze()
        log.info("learning rates, over the head's: " + ", ".join(self._rates()))

    def _rates(self) -> Iterator[str]:
        factors = {str(group["name"]): factor for group, factor in zip(self.groups, self.rate_factors, strict=True)}
        for stage in stages(self.network):
            name, until = stage.name, f" from epoch {self.thaws_at}" if stage.name in self.frozen else ""
            yield f"{name} {factors[name]:.2g}{until}" if name in factors else f"{name} frozen"

    def on_train_epoch_start(self) -> None:
        """Freeze stages, or let them train from their epoch on."""
        super().on_train_epoch_start()
        self._freeze()

    @property
    def is_frozen(self) -> bool:
        """Whether this epoch has frozen stages."""
        epoch = self.global_step // self.steps_per_epoch + 1
        return bool(self._frozen) and (self.thaws_at is None or epoch < self.thaws_at)

    def _freeze(self) -> None:
        for stage in self._frozen:
            stage.frozen(self.is_frozen, gradients=self.thaws_at is not None and self.trainer.world_size > 1)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients of frozen stages before any are clipped: optimisers skip a parameter without one."""
        if self.is_frozen:
            for stage in self._frozen:
                for parameter in stage.parameters():
                    parameter.grad = None
        super().on_before_optimizer_step(optimizer)
