"""Build the optimiser of a recipe: torch's, or timm's LAMB, which is imported only here and only if asked for."""

from __future__ import annotations

from typing import Any

import torch

from harness.config.recipe import RecipeConfig
from harness.errors import UserError

Groups = list[dict[str, Any]]

BETA2 = 0.999  # of adamw and lamb: the default of both libraries, and of every recipe that we know


def build_optimizer(groups: Groups, recipe: RecipeConfig) -> torch.optim.Optimizer:
    """Return the recipe's optimiser.

    Args:
        groups: groups of parameters; those with a `weight_decay` of their own keep it.
        recipe: optimiser, learning rate, momentum and weight decay.

    Raises:
        UserError: the optimiser is timm's, and timm is not installed.
    """
    rate, decay, momentum = recipe.learning_rate, recipe.weight_decay, recipe.momentum
    fused = recipe.fused or None  # None is torch's own choice
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(momentum, BETA2), weight_decay=decay, fused=fused)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=momentum, weight_decay=decay)
    if recipe.optimizer == "lamb":
        return _lamb(groups, recipe)
    return torch.optim.SGD(
        groups, lr=rate, momentum=momentum, weight_decay=decay, nesterov=recipe.nesterov, fused=fused
    )


def _lamb(groups: Groups, recipe: RecipeConfig) -> torch.optim.Optimizer:
    """Return timm's LAMB; it clips the gradients to a norm of 1 by itself, but not those that `clip_norm` clips."""
    try:
        from timm.optim.lamb import Lamb
    except ModuleNotFoundError as error:
        raise UserError("recipe.optimizer=lamb needs timm: pip install 'cnn-zoo[timm]'") from error
    optimizer: torch.optim.Optimizer = Lamb(
        groups,
        lr=recipe.learning_rate,
        betas=(recipe.momentum, BETA2),
        weight_decay=recipe.weight_decay,
        max_grad_norm=1.0 if recipe.clip_norm is None else None,
    )
    return optimizer


def set_momentum(groups: Groups, momentum: float) -> None:
    """Set the momentum of an optimiser's groups, which is beta1 where an optimiser has betas."""
    for group in groups:
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def check_state(restored: torch.optim.Optimizer, fresh: torch.optim.Optimizer) -> None:
    """Check that an optimiser whose state came out of a file can make a step.

    Args:
        restored: the optimiser.
        fresh: another one of the same parameters and settings, without any steps.

    Raises:
        ValueError: a setting is of another type than the fresh one's, or a tensor does not fit its parameter.
    """
    for group, own in zip(restored.param_groups, fresh.param_groups, strict=True):
        for name, value in own.items():
            if (name != "params" and name not in group) or type(group[name]) is not type(value):
                raise ValueError(f"the optimiser's {name} is {group.get(name)!r:.40}, not {value!r:.40}")
        for parameter in group["params"]:
            for name, value in restored.state.get(parameter, {}).items():
                fits = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type != "meta"
                if value is not None and not (fits and value.shape in ((), parameter.shape)):
                    raise ValueError(f"the optimiser's {name} does not fit its parameter")
