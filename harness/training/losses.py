"""Losses by name: each maps logits (N, K) and labels int64 (N,) to the scalar mean over the batch.

Both kinds of cross-entropy also take targets, float32 (N, K): the share of each class in each image, with a sum of 1.

The two losses of LeCun 1998, section II-C, need the logits of `lenet5_1998`: the negated penalties y of the paper,
which are squared distances.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from harness.config.recipe import RecipeConfig


def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return labels int64 (N,) as float32 (N, K); unlike torch's function, it never waits for a GPU."""
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()


def binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, threshold: float | None = None
) -> torch.Tensor:
    """Return the mean over images and classes of the cross-entropy, in nats, of one sigmoid for each class.

    The mean over classes is that of timm, with which "ResNet strikes back" [Wightman 2021] was trained.

    Args:
        logits: (N, K).
        targets: labels int64 (N,), or float32 (N, K).
        label_smoothing: share of each image's target that is spread evenly over all classes.
        threshold: targets above it become 1, all others 0, after the smoothing; None leaves them.
    """
    classes = logits.shape[1]
    if targets.ndim == 1:
        targets = one_hot(targets, classes)
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + label_smoothing / classes
    if threshold is not None:
        targets = (targets > threshold).float()
    return F.binary_cross_entropy_with_logits(logits.float(), targets)


def lecun_mle(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the maximum likelihood loss: the mean penalty of the right class [LeCun 1998, eq. 8]."""
    return F.nll_loss(logits, labels)


def lecun_map(logits: torch.Tensor, labels: torch.Tensor, rubbish: float = 1.0) -> torch.Tensor:
    """Return the maximum a posteriori loss: the mean of y_D + log(exp(-j) + sum_i exp(-y_i)) [LeCun 1998, eq. 9].

    This is cross-entropy, in nats, with one more class of logit -j, which stands for images that show no digit.

    Args:
        logits: negated penalties, (N, K).
        labels: right classes, int64 (N,).
        rubbish: the constant j, above zero. The paper gives no value; a class with a penalty far above j is not pushed
            further away.

    Raises:
        ValueError: `rubbish` is not above zero.
    """
    if not rubbish > 0:
        raise ValueError(f"the constant j of lecun_map must be above zero, not {rubbish}")
    return F.cross_entropy(F.pad(logits, (0, 1), value=-rubbish), labels)


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
LOSSES: dict[str, Loss] = {
    "cross_entropy": F.cross_entropy,  # nats
    "binary_cross_entropy": binary_cross_entropy,  # nats of each class
    "lecun_mle": lecun_mle,  # squared distance
    "lecun_map": lecun_map,  # nats
}


def loss_of(recipe: RecipeConfig) -> Loss:
    """Return the loss of a recipe, with its label smoothing and its threshold."""
    options: dict[str, float] = {}
    if recipe.label_smoothing:
        options["label_smoothing"] = recipe.label_smoothing
    if recipe.bce_threshold is not None:
        options["threshold"] = recipe.bce_threshold
    return partial(LOSSES[recipe.loss], **options) if options else LOSSES[recipe.loss]
