"""The network that a run reports where that is not the trained one: an average of its weights over training.

An exponential average follows torchvision's reference script for classification: buffers are averaged, too, and until
the warm-up is over the average is a plain copy. An equal average over the ends of the last epochs is stochastic weight
averaging [Izmailov 2018, section 3.2]. Which step enters with which weight is a pure function of the step.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from harness.config.recipe import RecipeConfig
from harness.evaluation.scores import prepare

ROUNDING = 1e-9  # of a warm-up in steps
LONGEST = 1 / 3  # share of a run that an exponential average may reach back without a warning


class Reported:
    """A copy of a network that training leaves alone; it has the weights that the run reports.

    Args:
        trained: network that is trained; its copy stays in evaluation mode.
        recipe: how its weights are averaged; without an average the copy gets them as they are.
        steps_per_epoch: number of optimiser steps of an epoch.
    """

    def __init__(self, trained: nn.Module, recipe: RecipeConfig, steps_per_epoch: int) -> None:
        self.network = copy.deepcopy(trained).eval().requires_grad_(False)
        prepare(self.network, recipe)
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.first = first_step(recipe, steps_per_epoch)
        self._made_at = -1

    def add(self, trained: nn.Module, step: int) -> None:
        """Let the trained weights enter the average if they do so after this step, counted from 1."""
        share = self.share(step)
        if share is not None:
            self._move_to(trained, share)

    def share(self, step: int) -> float | None:
        """Return the share of the trained weights in the average after a step, counted from 1; None: it stays."""
        if step < self.first:
            return None
        if self.recipe.average_decay is None:
            ends, rest = divmod(step - self.first, self.steps_per_epoch)
            return None if rest else 1 / (ends + 1)
        if step % self.recipe.average_every:
            return None
        return 1.0 if step == self.first else 1 - self.recipe.average_decay

    def make(self, trained: nn.Module, step: int) -> None:
        """Copy the trained weights if none have entered an average until this step; once for each step."""
        if step < self.first and step != self._made_at:
            self._move_to(trained, 1.0)
        self._made_at = step

    @torch.no_grad()
    def _move_to(self, trained: nn.Module, share: float) -> None:
        """Move all tensors this share of the way; integers, which are counts, are copied."""
        reported, current = tensors(self.network), tensors(trained)
        real = [tensor.is_floating_point() for tensor in reported]
        pairs = list(zip(reported, current, real, strict=True))
        torch._foreach_lerp_([own for own, _, is_real in pairs if is_real], [new for _, new, r in pairs if r], share)
        for own, new, is_real in pairs:
            if not is_real:
                own.copy_(new)


def tensors(network: nn.Module) -> list[torch.Tensor]:
    """Return parameters and buffers, in an order that a copy of the network has, too."""
    return [*network.parameters(), *network.buffers()]


def first_step(recipe: RecipeConfig, steps_per_epoch: int) -> float:
    """Return the step, counted from 1, with whose weights an average begins; infinity without an average."""
    if recipe.average_last_epochs is not None:
        return (recipe.epochs - recipe.average_last_epochs + 1) * steps_per_epoch
    if recipe.average_decay is None:
        return math.inf
    warmup = recipe.warmup_epochs * steps_per_epoch if recipe.warmup_steps is None else recipe.warmup_steps
    return recipe.average_every * (math.ceil(warmup - ROUNDING) // recipe.average_every + 1)


def lag(recipe: RecipeConfig, steps_per_epoch: int) -> str | None:
    """Return a warning if an exponential average reaches back over much of the run; None if it does not."""
    if recipe.average_decay is None:
        return None
    steps, back = recipe.epochs * steps_per_epoch, recipe.average_every / (1 - recipe.average_decay)
    if back <= LONGEST * steps:
        return None
    return (
        f"warning: recipe.average_decay={recipe.average_decay:g} recipe.average_every={recipe.average_every}: the "
        f"average that is reported reaches back some {back:,.0f} steps, and the run has {steps:,}: it lags behind; "
        "choose a smaller decay, or recipe.average_decay=null"
    )
