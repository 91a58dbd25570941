"""Schedules of learning rate and momentum: pure functions of the step, and of the validation errors before it.

A checkpoint therefore need not store any state of a schedule; the history of the epochs is in it anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.config.recipe import RecipeConfig
from harness.run.history import Epoch

START, END = 1 / 25, 1 / 25 / 1e4  # a one-cycle's first and last rate, over its peak: the defaults of torch


def learning_rate(recipe: RecipeConfig, step: int, steps_per_epoch: int, history: Sequence[Epoch] = ()) -> float:
    """Return the learning rate of an optimiser step.

    Args:
        recipe: the schedule.
        step: number of the step, counted from 0 over the whole run.
        steps_per_epoch: number of steps of an epoch.
        history: results of at least the epochs before this step's; only schedule=plateau reads them.
    """
    if recipe.schedule == "one_cycle":
        peak = recipe.learning_rate
        return _cycle(recipe, step, steps_per_epoch, peak * START, peak, peak * END)
    epoch, warmup = step / steps_per_epoch, _warmup(recipe, steps_per_epoch)
    if epoch < warmup:
        if recipe.warmup_rate is not None:
            return recipe.warmup_rate
        steps = warmup * steps_per_epoch
        return recipe.learning_rate * min(step + 1, steps) / steps
    if recipe.schedule == "cosine":
        done = (epoch - warmup) / (recipe.epochs - warmup)
        return recipe.learning_rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    if recipe.schedule == "polynomial":
        left = (recipe.epochs - epoch) / (recipe.epochs - warmup)
        return recipe.learning_rate * math.pow(max(left, 0.0), recipe.power)
    if recipe.schedule == "step":
        passed = sum(epoch >= milestone for milestone in recipe.milestones)
        passed += sum(step >= milestone for milestone in recipe.milestone_steps)
        if recipe.milestone_factors:
            return recipe.learning_rate * (1.0, *recipe.milestone_factors)[passed]
        return recipe.learning_rate * recipe.gamma**passed
    if recipe.schedule == "plateau":
        return recipe.learning_rate * recipe.gamma ** plateaus(
            history[: step // steps_per_epoch], recipe.plateau_patience
        )
    return recipe.learning_rate


def momentum(recipe: RecipeConfig, step: int, steps_per_epoch: int) -> float:
    """Return the momentum of an optimiser step, counted from 0; it moves only in a one-cycle with a lowest momentum."""
    if recipe.lowest_momentum is None:
        return recipe.momentum
    return _cycle(recipe, step, steps_per_epoch, recipe.momentum, recipe.lowest_momentum, recipe.momentum)


def plateaus(history: Sequence[Epoch], patience: int) -> int:
    """Return how often the validation errors stopped falling for `patience` epochs in a row.

    Only fewer errors than ever before end such a row; after a plateau a new row begins.
    """
    fewest, row, found = math.inf, 0, 0
    for epoch in history:
        assert epoch.validation is not None, "a run with schedule=plateau has a validation split"
        errors = epoch.validation.seen - epoch.validation.correct_top1
        row = 0 if errors < fewest else row + 1
        fewest = min(fewest, errors)
        if row == patience:
            found, row = found + 1, 0
    return found


def _warmup(recipe: RecipeConfig, steps_per_epoch: int) -> float:
    """Return the length of the warm-up in epochs."""
    return recipe.warmup_epochs if recipe.warmup_steps is None else recipe.warmup_steps / steps_per_epoch


def _cycle(recipe: RecipeConfig, step: int, steps_per_epoch: int, first: float, peak: float, last: float) -> float:
    """Return a value that goes from `first` to `peak` during the warm-up and to `last` at the end, each by a cosine."""
    top = _warmup(recipe, steps_per_epoch) * steps_per_epoch - 1  # torch counts to the last step of each phase
    end = recipe.epochs * steps_per_epoch - 1
    if step < top:
        return _between(first, peak, step / top)
    return _between(peak, last, min((step - top) / (end - top), 1.0))


def _between(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))
