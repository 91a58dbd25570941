"""Learning rate schedules: pure functions of the step, so that a checkpoint need not store any state."""

from __future__ import annotations

import math

from harness.config.recipe import RecipeConfig


def learning_rate(recipe: RecipeConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of optimiser step number `step`, counted from 0 over the whole run."""
    epoch = step / steps_per_epoch
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * (step + 1) / (recipe.warmup_epochs * steps_per_epoch)
    if recipe.schedule == "cosine":
        done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
        return recipe.learning_rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    if recipe.schedule == "step":
        return recipe.learning_rate * recipe.gamma ** sum(epoch >= milestone for milestone in recipe.milestones)
    return recipe.learning_rate
